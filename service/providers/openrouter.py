"""OpenRouter's dialect: Chat Completions with fields of its own.

Calls: https://openrouter.ai/docs/api-reference/overview
Structured output: https://openrouter.ai/docs/features/structured-outputs (only upstreams that honour the
schema are asked: `provider.require_parameters`)
What a call was charged: https://openrouter.ai/docs/use-cases/usage-accounting
Errors, also those in answers with status 200: https://openrouter.ai/docs/api/reference/errors-and-debugging
Limits, and what a key may do: https://openrouter.ai/docs/api/reference/limits (the list of models needs none)
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import httpx

from service.contracts.enums import LLMProviderType
from service.core.errors import ProviderFailure
from service.core.outcome import RateWindow
from service.core.records import ProviderCall
from service.providers.catalogue import Model
from service.providers.chat import compose_chat, read_ending, read_usage
from service.providers.dialect import Completion, Ending, check_key, get, list_headers, parse_url, post
from service.providers.documents import clean, first, member, parse
from service.providers.exchange import Answer
from service.providers.refusals import (
    MODEL_MISSING,
    QUOTA,
    RATE,
    TOO_LONG,
    WITHHELD,
    Refusal,
    Verdict,
    explain,
    judge,
)
from service.providers.waits import make_window, read_epoch_seconds, read_remaining, read_wait_seconds

_VERDICT_OF_CODE: Final[Mapping[tuple[int, str], Verdict]] = {
    (400, "context_length_exceeded"): TOO_LONG,
    (400, "string_too_long"): TOO_LONG,
    # What is paid for and under way fills the balance: it passes by itself.
    (402, "openrouter_in_flight_budget"): RATE,
    (403, "openrouter_guardrail_budget"): QUOTA,
    (403, "openrouter_workspace_budget"): QUOTA,
    (403, "openrouter_key_limit"): QUOTA,
}
_STATUSES: Final = range(400, 600)
MAX_COST_USD: Final = 1e6
"""A larger charge isn't believed; smaller ones are compared with what the call could cost at most."""


class OpenRouter:
    """Speaks to OpenRouter, or whatever speaks its protocol at `base_url` (which ends in `/api/v1`).

    Raises `ValueError` for a key or a URL that cannot be sent.
    """

    name = LLMProviderType.OPENROUTER
    title = "OpenRouter"

    def __init__(self, *, api_key: str, base_url: str) -> None:
        self._api_key = check_key(self.title, api_key)
        self._url = parse_url(self.title, base_url, "/chat/completions", "https://openrouter.ai/api/v1")
        self._key_url = parse_url(self.title, base_url, "/key", "https://openrouter.ai/api/v1")
        self.base_url = base_url
        self._headers = list_headers(self._url, {"authorization": f"Bearer {api_key}"})

    def compose(self, call: ProviderCall, model: Model | None) -> httpx.Request:
        """Sends the temperature only where the model takes one."""
        document = compose_chat(call)
        document["provider"] = {"require_parameters": True}
        if call.temperature is not None and (model is None or model.accepts_temperature):
            document["temperature"] = call.temperature
        if call.max_tokens is not None:
            document["max_tokens"] = call.max_tokens
        return post(self._url, self._headers, document)

    def compose_key_check(self) -> httpx.Request:
        """Asks what the key may do."""
        return get(self._key_url, self._headers)

    def read(self, answer: Answer) -> Completion:
        """Reads a chat completion, or the refusal that came in its place after the status had been sent."""
        document = parse(answer.body)
        error = member(document, "error") or member(first(document, "choices"), "error")
        ending, content = read_ending(document)
        failure = None
        if error:
            status = error.get("code")
            told = status if isinstance(status, int) and status in _STATUSES else httpx.codes.BAD_GATEWAY
            failure = self._explain(answer, int(told), error)
        elif first(document, "choices").get("finish_reason") == "error":
            ending = Ending.SHAPELESS
        return Completion(
            ending=ending,
            content=content,
            model=clean(document.get("model"), self._api_key),
            usage=read_usage(document),
            request_id=clean(document.get("id"), self._api_key),
            cost_usd=_read_cost(document),
            failure=failure,
        )

    def explain(self, answer: Answer) -> ProviderFailure:
        """Goes by whose limit it is, by the kind of error, then by the status."""
        return self._explain(answer, answer.status, member(parse(answer.body), "error"))

    def read_window(self, answer: Answer) -> RateWindow | None:
        """`X-RateLimit-Remaining` and, in milliseconds since 1970, `X-RateLimit-Reset`: requests alone."""
        return _read_window(answer.headers)

    def _explain(self, answer: Answer, status: int, error: dict[str, Any]) -> ProviderFailure:
        metadata = member(error, "metadata")
        headers = answer.headers.copy()
        # Of a limit that an upstream or a free model has, the headers stand in the body.
        headers.update({k: v for k, v in member(metadata, "headers").items() if isinstance(v, str)})
        refusal = Refusal(
            vendor=self.title,
            status=status,
            vendor_code=clean(metadata.get("limit_source"), self._api_key)
            or clean(metadata.get("error_type"), self._api_key),
            vendor_type=clean(metadata.get("provider_name"), self._api_key),
            request_id=clean(answer.headers.get("x-request-id"), self._api_key),
            wait_seconds=read_wait_seconds(headers, _read_window(headers), now=datetime.now(UTC)),
        )
        return explain(refusal, _find_verdict(refusal, error, metadata))


def _find_verdict(refusal: Refusal, error: Mapping[str, Any], metadata: Mapping[str, Any]) -> Verdict:
    if refusal.status == 403 and ("reasons" in metadata or "flagged_input" in metadata):
        return WITHHELD
    # A balance that is empty comes without a wait; one that is taken up for the moment comes with one.
    if refusal.status == 402 and refusal.wait_seconds is not None:
        return RATE
    # An address that is wrong gets a page; a model that nobody offers like this gets an error.
    if refusal.status == 404 and error:
        return MODEL_MISSING
    return judge(refusal, _VERDICT_OF_CODE)


def _read_window(headers: httpx.Headers) -> RateWindow | None:
    now = datetime.now(UTC)
    requests = (
        read_remaining(headers.get("x-ratelimit-remaining")),
        read_epoch_seconds(headers.get("x-ratelimit-reset"), now),
    )
    return make_window(requests, (None, None))


def _read_cost(document: Mapping[str, Any]) -> float | None:
    """Returns the charge in credits, which are dollars; None if it is missing or no amount of money."""
    cost = member(document, "usage").get("cost")
    if isinstance(cost, bool) or not isinstance(cost, int | float) or not 0 <= cost <= MAX_COST_USD:
        return None
    return float(cost)
