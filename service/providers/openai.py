"""OpenAI's dialect: Chat Completions with structured output.

Calls: https://platform.openai.com/docs/api-reference/chat/create
Structured output and refusals: https://platform.openai.com/docs/guides/structured-outputs
Errors: https://platform.openai.com/docs/guides/error-codes
The list of models: https://platform.openai.com/docs/api-reference/models/list
Limits in headers: https://platform.openai.com/docs/guides/rate-limits
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import httpx

from service.contracts.enums import LLMProviderType
from service.core.errors import ProviderFailure
from service.core.outcome import RateWindow
from service.core.records import ProviderCall
from service.providers.catalogue import Model
from service.providers.chat import compose_chat, read_ending, read_usage
from service.providers.dialect import Completion, check_key, get, list_headers, parse_url, post
from service.providers.documents import clean, member, parse, text
from service.providers.exchange import Answer
from service.providers.refusals import (
    MODEL_MISSING,
    QUOTA,
    TOO_LONG,
    WITHHELD,
    Refusal,
    Verdict,
    explain,
    judge,
)
from service.providers.waits import make_window, read_duration_seconds, read_remaining, read_wait_seconds

_VERDICT_OF_CODE: Final[Mapping[tuple[int, str], Verdict]] = {
    (400, "content_filter"): WITHHELD,  # Azure's
    (400, "content_policy_violation"): WITHHELD,
    (400, "invalid_prompt"): WITHHELD,
    (400, "context_length_exceeded"): TOO_LONG,
    (400, "string_above_max_length"): TOO_LONG,
    (400, "model_not_found"): MODEL_MISSING,
    (403, "model_not_found"): MODEL_MISSING,
    (404, "model_not_found"): MODEL_MISSING,
    (429, "insufficient_quota"): QUOTA,
    (429, "billing_hard_limit_reached"): QUOTA,
    (429, "billing_not_active"): QUOTA,
}
_TOO_LARGE: Final = "Request too large"
"""How the message begins; the code is the same as that of a rate limit."""


class OpenAI:
    """Speaks to OpenAI, or whatever speaks its protocol at `base_url` (which ends in `/v1`, as for its SDK).

    Raises `ValueError` for a key or a URL that cannot be sent.
    """

    name = LLMProviderType.OPENAI
    title = "OpenAI"

    def __init__(self, *, api_key: str, base_url: str) -> None:
        self._api_key = check_key(self.title, api_key)
        self._url = parse_url(self.title, base_url, "/chat/completions", "https://api.openai.com/v1")
        self._models_url = parse_url(self.title, base_url, "/models", "https://api.openai.com/v1")
        self.base_url = base_url
        self._headers = list_headers(self._url, {"authorization": f"Bearer {api_key}"})

    def compose(self, call: ProviderCall, model: Model | None) -> httpx.Request:
        """Sends the temperature only where the model takes one."""
        document = compose_chat(call)
        if call.temperature is not None and (model is None or model.accepts_temperature):
            document["temperature"] = call.temperature
        if call.max_tokens is not None:
            document["max_completion_tokens"] = call.max_tokens
        client_id = f"{call.correlation_id}-{call.attempt}".encode()
        return post(self._url, (*self._headers, (b"x-client-request-id", client_id)), document)

    def compose_key_check(self) -> httpx.Request:
        """Asks for the list of models."""
        return get(self._models_url, self._headers)

    def read(self, answer: Answer) -> Completion:
        """Reads a chat completion."""
        document = parse(answer.body)
        ending, content = read_ending(document)
        return Completion(
            ending=ending,
            content=content,
            model=clean(document.get("model"), self._api_key),
            usage=read_usage(document),
            request_id=clean(answer.headers.get("x-request-id"), self._api_key),
        )

    def explain(self, answer: Answer) -> ProviderFailure:
        """Goes by the vendor's code, then its type, then the status."""
        error = member(parse(answer.body), "error")
        refusal = Refusal(
            vendor=self.title,
            status=answer.status,
            vendor_code=clean(error.get("code"), self._api_key),
            vendor_type=clean(error.get("type"), self._api_key),
            parameter=clean(error.get("param"), self._api_key),
            request_id=clean(answer.headers.get("x-request-id"), self._api_key),
            wait_seconds=read_wait_seconds(answer.headers, self.read_window(answer), now=datetime.now(UTC)),
        )
        if answer.status == httpx.codes.TOO_MANY_REQUESTS and text(error, "message").startswith(_TOO_LARGE):
            return explain(refusal, TOO_LONG)  # it is larger than a minute's tokens: waiting does not help
        return explain(refusal, judge(refusal, _VERDICT_OF_CODE))

    def read_window(self, answer: Answer) -> RateWindow | None:
        """`x-ratelimit-{limit,remaining,reset}-*`: a minute's limit, a count, a duration."""
        return read_openai_window(answer.headers)


def read_openai_window(headers: httpx.Headers) -> RateWindow | None:
    """The limits in OpenAI's headers."""
    told = {name.lower(): value for name, value in headers.raw}  # one look instead of one for each name
    requests, tokens = (
        (
            read_remaining(_text(told.get(b"x-ratelimit-remaining-" + kind))),
            read_duration_seconds(_text(told.get(b"x-ratelimit-reset-" + kind))),
        )
        for kind in (b"requests", b"tokens")
    )
    limits = (
        read_remaining(_text(told.get(b"x-ratelimit-limit-requests"))),
        read_remaining(_text(told.get(b"x-ratelimit-limit-tokens"))),
    )
    return make_window(requests, tokens, limits)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
