"""Anthropic's dialect: Messages with structured output.

Calls: https://platform.claude.com/docs/en/api/messages
Structured output: https://platform.claude.com/docs/en/build-with-claude/structured-outputs (a forced tool,
the older way, is refused by the models that always think)
Endings: https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons
Errors: https://platform.claude.com/docs/en/api/errors
The list of models: https://platform.claude.com/docs/en/api/models-list
Limits and spend limits: https://platform.claude.com/docs/en/api/rate-limits
Names of fields: https://github.com/anthropics/anthropic-sdk-python (src/anthropic/types)
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import orjson

from service.contracts.enums import LLMProviderType
from service.core.errors import ProviderFailure
from service.core.outcome import RateWindow, Usage
from service.core.prompt import ANSWER_SCHEMA
from service.core.records import ProviderCall
from service.providers.catalogue import Model
from service.providers.dialect import (
    Completion,
    Ending,
    check_key,
    get,
    list_headers,
    make_usage,
    parse_url,
    post,
)
from service.providers.documents import add_counts, clean, count, member, members, parse, text
from service.providers.exchange import Answer
from service.providers.refusals import (
    MODEL_MISSING,
    QUOTA,
    TOO_LONG,
    Refusal,
    Verdict,
    explain,
    judge,
)
from service.providers.waits import make_window, read_moment_seconds, read_remaining, read_wait_seconds

API_VERSION: Final = "2023-06-01"
DEFAULT_MAX_TOKENS: Final = 16_384
"""The API wants a limit, and thinking counts into it; a judgement itself takes some hundred tokens."""

_OUTPUT_CONFIG: Final = orjson.Fragment(
    orjson.dumps({"format": {"type": "json_schema", "schema": ANSWER_SCHEMA}})
)
_ENDING_OF_REASON: Final[Mapping[str, Ending]] = {
    "end_turn": Ending.COMPLETE,
    "stop_sequence": Ending.COMPLETE,
    "max_tokens": Ending.LENGTH,
    "model_context_window_exceeded": Ending.LENGTH,
    "refusal": Ending.REFUSED,
}
_VERDICT_OF_CODE: Final[Mapping[tuple[int, str], Verdict]] = {
    (400, "billing_error"): QUOTA,
    (403, "billing_error"): QUOTA,
    (429, "enforced_spend_limit_reached"): QUOTA,
}
_VERDICT_OF_MESSAGE: Final[tuple[tuple[int, str, Verdict], ...]] = (
    # No code tells these apart; how their messages begin is documented, or long the same.
    (400, "You have reached your specified", QUOTA),
    (400, "Your credit balance is too low", QUOTA),
    (400, "prompt is too long", TOO_LONG),
    (400, "input length and `max_tokens` exceed", TOO_LONG),
    (404, "model:", MODEL_MISSING),
)


class Anthropic:
    """Speaks to Anthropic, or whatever speaks its protocol at `base_url` (the root, as for its SDK).

    Raises `ValueError` for a key or a URL that cannot be sent.
    """

    name = LLMProviderType.ANTHROPIC
    title = "Anthropic"

    def __init__(self, *, api_key: str, base_url: str) -> None:
        self._api_key = check_key(self.title, api_key)
        self._url = parse_url(self.title, base_url, "/v1/messages", "https://api.anthropic.com")
        self._models_url = parse_url(self.title, base_url, "/v1/models", "https://api.anthropic.com")
        self.base_url = base_url
        self._headers = list_headers(self._url, {"x-api-key": api_key, "anthropic-version": API_VERSION})

    def compose(self, call: ProviderCall, model: Model | None) -> httpx.Request:
        """Sends a limit always, for the API wants one, and the temperature only where the model takes one."""
        document: dict[str, Any] = {
            "model": call.model,
            "system": call.system_prompt,
            "messages": ({"role": "user", "content": call.user_prompt},),
            "max_tokens": call.max_tokens or _find_limit(model),
            "output_config": _OUTPUT_CONFIG,
        }
        if call.temperature is not None and (model is None or model.accepts_temperature):
            document["temperature"] = call.temperature
        return post(self._url, self._headers, document)

    def compose_key_check(self) -> httpx.Request:
        """Asks for the first of the models."""
        return get(self._models_url.copy_merge_params({"limit": "1"}), self._headers)

    def read(self, answer: Answer) -> Completion:
        """Reads a message; what the model thought is left out."""
        document = parse(answer.body)
        blocks = [block for block in members(document, "content") if block.get("type") == "text"]
        ending = _ENDING_OF_REASON.get(text(document, "stop_reason"), Ending.SHAPELESS)
        if ending is Ending.COMPLETE and not blocks:
            ending = Ending.SHAPELESS
        return Completion(
            ending=ending,
            content="".join(text(block, "text") for block in blocks),
            model=clean(document.get("model"), self._api_key),
            usage=_read_usage(document),
            request_id=self._read_request_id(answer, document),
        )

    def explain(self, answer: Answer) -> ProviderFailure:
        """Goes by the vendor's code or type, by a message that is known, then by the status."""
        document = parse(answer.body)
        error = member(document, "error")
        refusal = Refusal(
            vendor=self.title,
            status=answer.status,
            vendor_code=clean(member(error, "details").get("error_code"), self._api_key),
            vendor_type=clean(error.get("type"), self._api_key),
            request_id=self._read_request_id(answer, document),
            wait_seconds=read_wait_seconds(answer.headers, self.read_window(answer), now=datetime.now(UTC)),
        )
        message = text(error, "message")
        for status, beginning, verdict in _VERDICT_OF_MESSAGE:
            if status == answer.status and message.startswith(beginning):
                return explain(refusal, verdict)
        return explain(refusal, judge(refusal, _VERDICT_OF_CODE))

    def read_window(self, answer: Answer) -> RateWindow | None:
        """`anthropic-ratelimit-*-limit` (a minute), `-remaining` and, as moments, `-reset`.

        `tokens` is the most restrictive of the limits on tokens; where it is left out, input's stands for it.
        """
        headers, now = answer.headers, datetime.now(UTC)
        requests, tokens, input_tokens = (
            (
                read_remaining(headers.get(f"anthropic-ratelimit-{kind}-remaining")),
                read_moment_seconds(headers.get(f"anthropic-ratelimit-{kind}-reset"), now),
            )
            for kind in ("requests", "tokens", "input-tokens")
        )
        granted = read_remaining(headers.get("anthropic-ratelimit-requests-limit"))
        # Tokens are granted apart for input and output: only the vendor knows when which of them is short.
        return make_window(requests, input_tokens if tokens == (None, None) else tokens, (granted, None))

    def _read_request_id(self, answer: Answer, document: Mapping[str, Any]) -> str | None:
        value = answer.headers.get("request-id") or document.get("request_id")
        return clean(value, self._api_key)


def _find_limit(model: Model | None) -> int:
    return DEFAULT_MAX_TOKENS if model is None else min(DEFAULT_MAX_TOKENS, model.output_limit_tokens)


def _read_usage(document: Mapping[str, Any]) -> Usage:
    """Anthropic counts what it read from and wrote to its cache beside the input; here it is part of it."""
    usage = member(document, "usage")
    cached = count(usage, "cache_read_input_tokens", 0)
    return make_usage(
        add_counts(count(usage, "input_tokens"), cached, count(usage, "cache_creation_input_tokens", 0)),
        count(usage, "output_tokens"),
        cached_tokens=cached,
        reasoning_tokens=count(member(usage, "output_tokens_details"), "thinking_tokens"),
    )
