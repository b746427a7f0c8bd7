"""What every simulated API has to offer the server, and the records that pass between the two.

An API reads a call into an `Ask`, which says what every vendor means alike, and writes a `Completion`, or
some `Trouble`, the way its vendor does. It decides nothing: what happens to a call is the scenario's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto
from hashlib import blake2b
from http.client import responses
from typing import Any, Protocol

import orjson

from simulator.provider.answer import AnswerFormat
from simulator.provider.catalogue import Model

_MAX_RETRY_DIGITS = 4
"""So many digits are a retry's number; the end of a UUID has twelve."""


@dataclass(frozen=True)
class Call:
    """An HTTP request as it arrived; the names of its headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    path_params: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def digest(self) -> str:
        """32 hexadecimal digits of the request line alone: the id of a call that draws nothing."""
        return blake2b(f"{self.method} {self.path}".encode(), digest_size=16).hexdigest()


_BLANK_LINE = rb"\n\n"
_BOUNDARY = re.compile(rb"<essay_a ([0-9a-f]{16})>")


def sort_document(document: Mapping[str, Any]) -> bytes:
    """Returns a body with its keys in order and without the boundary that the service puts around essays.

    The boundary differs between requests that say the same, so the paragraph that names it goes too. Raises
    `orjson.JSONEncodeError` for a body that is nested too deeply.
    """
    written = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    found = _BOUNDARY.search(written)
    if found is None:
        return written
    paragraphs = written.split(_BLANK_LINE)
    kept = [each for each in paragraphs if found[1] not in each or b"essay_" in each]
    return _BLANK_LINE.join(kept).replace(b" " + found[1], b"")


@dataclass(frozen=True)
class Ask:
    """One call for a completion, as every API means it."""

    api: str
    """`openai`, `anthropic`, `google` or `openrouter`."""
    key_digest: str
    """Tells keys apart and is none."""
    model: Model
    prompt: str
    """Everything that the model reads."""
    answer_format: AnswerFormat
    max_tokens: int | None
    canonical: bytes
    """Equal for calls that say the same; other calls and other APIs have another one."""
    attempt: int
    """The retry that the caller says this is, 0 where it says nothing."""
    prompt_tokens: int
    cached_tokens: int = 0
    """The part of the prompt that the vendor would have read from its cache."""
    reasoning_tokens: int = 0
    """What the model thinks before it answers; part of what is billed as output."""
    tool: str | None = None
    """The function that the answer is to be a call of, None where it is to be text."""


class Ending(StrEnum):
    """How a completion may end, with status 200 all of them."""

    STOP = auto()
    LENGTH = auto()
    """Cut at the output limit, and said to be."""
    REFUSAL = auto()
    """The model declines."""
    SAFETY = auto()
    """The vendor's filter holds the answer back."""
    EMPTY = auto()
    MALFORMED = auto()
    """Prose where JSON was wanted."""
    SCHEMA_BREAKING = auto()
    """JSON, and none that was asked for."""
    TRUNCATED = auto()
    """Cut somewhere, and said to be whole."""


@dataclass(frozen=True)
class Completion:
    """What the model wrote and what it is billed for, before an API puts it on the wire."""

    id: str
    """64 hexadecimal digits, of which an API takes what its ids need."""
    request_id: str
    """32 hexadecimal digits."""
    text: str
    """The whole of it; JSON where JSON was asked for."""
    ending: Ending
    """`STOP`, or `LENGTH` where the caller's limit is smaller than what the model had to say."""
    prompt_tokens: int
    cached_tokens: int
    """Part of the prompt's."""
    completion_tokens: int
    """With the reasoning's."""
    reasoning_tokens: int
    processing_ms: int = 0
    """For the vendors that say in a header how long they took."""


class Trouble(StrEnum):
    """What a scenario may answer in place of a completion."""

    RATE_LIMITED = auto()
    QUOTA_EXHAUSTED = auto()
    OVERLOADED = auto()
    SERVER_ERROR = auto()
    BAD_GATEWAY = auto()
    UNAVAILABLE = auto()
    TIMEOUT = auto()
    UNAUTHORIZED = auto()
    FORBIDDEN = auto()
    NOT_FOUND = auto()
    TOO_LARGE = auto()
    INVALID = auto()


@dataclass(frozen=True)
class RateState:
    """What is left of a key's allowance when a call is answered; a limit of None is none."""

    now: float
    """Seconds since the epoch, for the vendors that name the moment of the reset."""
    requests_limit: int | None = None
    requests_remaining: int = 0
    requests_reset_seconds: float = 0.0
    """Until the allowance is whole again."""
    tokens_limit: int | None = None
    tokens_remaining: int = 0
    tokens_reset_seconds: float = 0.0


@dataclass(frozen=True)
class Wire:
    """An answer as it goes out; `content-length` is the server's to add."""

    status: int
    headers: dict[str, str]
    body: bytes


class Refusal(Exception):
    """The API itself refuses the call; holds its answer."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(f"{wire.status}: {wire.body.decode(errors='replace')}")
        self.wire = wire


class Api(Protocol):
    """One vendor's API. All of it is a pure function of what it is given."""

    @property
    def name(self) -> str:
        """As in `Ask.api`."""

    @property
    def base_path(self) -> str:
        """What the vendor's SDK takes after the host as its base URL: `/v1`, `/api/v1` or nothing."""

    def routes(self) -> Sequence[tuple[str, str]]:
        """Method and Starlette path of every call for a completion."""

    def other_routes(self) -> Sequence[tuple[str, str]]:
        """Method and Starlette path of what no model is asked for: model lists, token counts.

        Two APIs may name the same one; the first that `claims` the call answers it, else the first that
        names it.
        """

    def claims(self, call: Call) -> bool:
        """Whether path or headers are this vendor's alone; the first API takes what nobody claims."""

    def read(self, call: Call) -> Ask:
        """Reads a call for a completion; raises `Refusal`."""

    def look_up(self, call: Call) -> Wire:
        """Answers a call to one of the other routes; raises `Refusal`."""

    def answer(self, ask: Ask, completion: Completion, ending: Ending, created: int) -> Wire:
        """The completion as it goes out; `created` is in seconds since the epoch.

        `ending` is `completion.ending` unless a scenario wants another one, which changes what is said.
        """

    def refuse(
        self,
        trouble: Trouble,
        *,
        status: int | None = None,
        retry_after_seconds: float | None = None,
        request_id: str,
    ) -> Wire:
        """What this vendor answers in trouble, with its usual status unless one is given, and when to retry.

        `request_id` is 32 hexadecimal digits.
        """

    def refuse_schema(self, ask: Ask, problem: str) -> Wire:
        """What is said of a schema that no document satisfies or that uses what is not supported (400)."""

    def refuse_route(self, status: int, call: Call) -> Wire:
        """What is said of an unknown route (404) and of a wrong method (405)."""

    def refuse_size(self, max_bytes: int, call: Call) -> Wire:
        """What is said of a body that is too large (413)."""

    def rate_headers(self, state: RateState) -> dict[str, str]:
        """What is left, under this vendor's names; nothing where it says nothing."""


def json_wire(status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> Wire:
    """An answer in JSON."""
    return Wire(status, {"content-type": "application/json", **headers}, orjson.dumps(body))


def gateway_wire(status: int, headers: Mapping[str, str], *, by: str = "cloudflare") -> Wire:
    """What the proxy before an API answers by itself: a page, not JSON."""
    title = f"{status} {responses.get(status, 'Error')}"
    page = (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
        f"<hr><center>{by}</center>\r\n</body>\r\n</html>\r\n"
    )
    return Wire(status, {"content-type": "text/html", **headers}, page.encode())


def digest_key(key: str) -> str:
    """Tells keys apart without holding any."""
    return blake2b(key.encode(), digest_size=8).hexdigest()


def read_attempt(headers: Mapping[str, str]) -> int:
    """The retry that a caller says this is, 0 where it says nothing.

    OpenAI's and Anthropic's SDKs number theirs (`x-stainless-retry-count`); other callers may end their
    `x-client-request-id` in a dash and the number. The real APIs ignore both, so nonsense is no error.
    """
    counted = headers.get("x-stainless-retry-count", "")
    _, _, suffix = headers.get("x-client-request-id", "").rpartition("-")
    for text in (counted, suffix):
        if 0 < len(text) <= _MAX_RETRY_DIGITS and text.isascii() and text.isdigit():
            return int(text)
    return 0
