"""How one vendor's API differs from the others': what is asked of it, and how its answers are read."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, Protocol

import httpx
import orjson

from service.contracts.enums import LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.core.errors import ProviderFailure
from service.core.outcome import RateWindow, Usage
from service.core.records import ProviderCall
from service.providers.catalogue import Model
from service.providers.documents import MAX_COUNT
from service.providers.exchange import Answer

_KEY: Final = re.compile(r"[!-~]+")


class Ending(Enum):
    """How a model stopped."""

    COMPLETE = auto()
    LENGTH = auto()
    """At its own or our limit of tokens."""
    REFUSED = auto()
    """The model declined."""
    WITHHELD = auto()
    """The vendor's filter kept the answer, or the prompt, back."""
    SHAPELESS = auto()
    """There is no answer of the model in it."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What stands in an answer with status 200."""

    ending: Ending
    content: str = ""
    model: str | None = None
    """As the vendor names it, where it does."""
    usage: Usage = field(default_factory=Usage)
    request_id: str | None = None
    cost_usd: float | None = None
    """What the vendor says that it charged, where it does."""
    failure: ProviderFailure | None = None
    """A refusal that came with status 200 after all."""


class Dialect(Protocol):
    """One vendor's way to be asked and to answer."""

    @property
    def name(self) -> LLMProviderType: ...
    @property
    def title(self) -> str:
        """What people call the vendor."""
        ...

    @property
    def base_url(self) -> str: ...

    def compose(self, call: ProviderCall, model: Model | None) -> httpx.Request:
        """The call as a request. Raises `ProviderFailure` where it cannot be written."""
        ...

    def compose_key_check(self) -> httpx.Request:
        """A call that needs the key and costs nothing."""
        ...

    def read(self, answer: Answer) -> Completion:
        """Reads an answer with status 200, whatever stands in it."""
        ...

    def explain(self, answer: Answer) -> ProviderFailure:
        """What an answer with any other status means."""
        ...

    def read_window(self, answer: Answer) -> RateWindow | None:
        """What an answer says of the limits, None where it says nothing."""
        ...


def make_usage(
    prompt_tokens: int | None,
    completion_tokens: int | None,
    *,
    cached_tokens: int | None = None,
    reasoning_tokens: int | None = None,
) -> Usage:
    """Returns the usage, or an empty one if a count is missing or can't be right.

    Cached and reasoning tokens are parts of the first two and never exceed them.
    """
    if prompt_tokens is None or completion_tokens is None or prompt_tokens + completion_tokens > MAX_COUNT:
        return Usage()
    return Usage(
        prompt_tokens,
        completion_tokens,
        cached_tokens=min(cached_tokens or 0, prompt_tokens),
        reasoning_tokens=min(reasoning_tokens or 0, completion_tokens),
    )


def check_key(title: str, api_key: str) -> str:
    """The key. Raises `ValueError`, without showing it, where no header can carry it."""
    if not _KEY.fullmatch(api_key):
        raise ValueError(f"The {title} API key is empty or holds characters that no HTTP header can carry.")
    return api_key


def parse_url(title: str, base_url: str, path: str, example: str) -> httpx.URL:
    """The address of a call. Raises `ValueError` for a URL that is none, or that carries a secret."""
    try:
        url = httpx.URL(base_url.rstrip("/") + path)
    except httpx.InvalidURL as error:
        raise ValueError(f"The {title} base URL is not a URL.") from error
    if url.scheme not in {"http", "https"} or not url.host or url.userinfo or url.query or url.fragment:
        raise ValueError(f"The {title} base URL must be http(s)://host[:port]/path, such as {example}.")
    return url


def list_headers(url: httpx.URL, own: Mapping[str, str]) -> tuple[tuple[bytes, bytes], ...]:
    """The headers that all calls to an address have in common, the vendor's own included."""
    return (
        (b"host", url.netloc),
        *((name.encode("ascii"), value.encode("ascii")) for name, value in own.items()),
        (b"accept", b"application/json"),
        # Answers are small; one that comes compressed nevertheless is unpacked within the size limit.
        (b"accept-encoding", b"identity"),
        (b"content-type", b"application/json"),
        (b"user-agent", b"llmctl"),
    )


def get(url: httpx.URL, headers: Iterable[tuple[bytes, bytes]]) -> httpx.Request:
    """A request without a body."""
    return httpx.Request("GET", url, headers=list(headers))


def post(url: httpx.URL, headers: Iterable[tuple[bytes, bytes]], document: dict[str, Any]) -> httpx.Request:
    """A request with a JSON body. Raises `ProviderFailure` where a text cannot be written as UTF-8."""
    try:
        body = orjson.dumps(document)
    except orjson.JSONEncodeError as error:
        raise ProviderFailure(
            LLMErrorCode.INVALID_PROMPT,
            "The prompt or an essay holds characters that cannot be written as UTF-8.",
            retryable=False,
        ) from error
    # A stream instead of content: httpx then adds nothing, which is six times cheaper.
    return httpx.Request(
        "POST",
        url,
        headers=[*headers, (b"content-length", str(len(body)).encode())],
        stream=httpx.ByteStream(body),
    )
