"""Google's dialect: the Gemini API's `generateContent` with a response schema.

Calls: https://ai.google.dev/api/generate-content
Structured output: https://ai.google.dev/gemini-api/docs/structured-output (`responseJsonSchema`)
The key goes in a header: https://ai.google.dev/gemini-api/docs/api-key
Errors: https://ai.google.dev/gemini-api/docs/troubleshooting, their details
https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto
The list of models: https://ai.google.dev/api/models#method:-models.list
Names of fields and endings: https://github.com/googleapis/python-genai (google/genai/types.py)

The API says nothing of its limits beside an answer.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import httpx
import orjson

from service.contracts.enums import LLMProviderType
from service.contracts.error_codes import LLMErrorCode
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
from service.providers.documents import add_counts, clean, count, first, member, members, parse, text
from service.providers.exchange import Answer
from service.providers.refusals import (
    BAD_KEY,
    MODEL_MISSING,
    QUOTA,
    TOO_LONG,
    Refusal,
    Verdict,
    explain,
    judge,
)
from service.providers.waits import read_duration_seconds, read_wait_seconds

_SCHEMA: Final = orjson.Fragment(orjson.dumps(ANSWER_SCHEMA))
_ENDING_OF_REASON: Final[Mapping[str, Ending]] = {
    "STOP": Ending.COMPLETE,
    "MAX_TOKENS": Ending.LENGTH,
    "SAFETY": Ending.WITHHELD,
    "RECITATION": Ending.WITHHELD,
    "LANGUAGE": Ending.WITHHELD,
    "BLOCKLIST": Ending.WITHHELD,
    "PROHIBITED_CONTENT": Ending.WITHHELD,
    "SPII": Ending.WITHHELD,
}
_VERDICT_OF_CODE: Final[Mapping[tuple[int, str], Verdict]] = {
    (400, "API_KEY_INVALID"): BAD_KEY,
    (400, "FAILED_PRECONDITION"): Verdict(
        LLMErrorCode.CONFIGURATION_ERROR,
        False,
        "The project may not use the API like this; check its billing and its region.",
    ),
    (499, "CANCELLED"): Verdict(
        LLMErrorCode.PROVIDER_UNAVAILABLE, True, "It dropped the call.", may_be_billed=True
    ),
}
_DETAIL: Final = "type.googleapis.com/google.rpc."


class Google:
    """Speaks to the Gemini API, or whatever speaks its protocol at `base_url` (the root, as for its SDK).

    Raises `ValueError` for a key or a URL that cannot be sent.
    """

    name = LLMProviderType.GOOGLE
    title = "Google"

    def __init__(self, *, api_key: str, base_url: str) -> None:
        self._api_key = check_key(self.title, api_key)
        self._url = parse_url(
            self.title, base_url, "/v1beta/models/", "https://generativelanguage.googleapis.com"
        )
        self._models_url = parse_url(
            self.title, base_url, "/v1beta/models", "https://generativelanguage.googleapis.com"
        )
        self.base_url = base_url
        self._headers = list_headers(self._url, {"x-goog-api-key": api_key})

    def compose(self, call: ProviderCall, model: Model | None) -> httpx.Request:
        """Names the model in the address, and sends the temperature only where the model takes one."""
        config: dict[str, Any] = {"responseMimeType": "application/json", "responseJsonSchema": _SCHEMA}
        if call.temperature is not None and (model is None or model.accepts_temperature):
            config["temperature"] = call.temperature
        if call.max_tokens is not None:
            config["maxOutputTokens"] = call.max_tokens
        document = {
            "systemInstruction": {"parts": ({"text": call.system_prompt},)},
            "contents": ({"role": "user", "parts": ({"text": call.user_prompt},)},),
            "generationConfig": config,
        }
        path = f"{self._url.path}{quote(call.model, safe='')}:generateContent"
        return post(self._url.copy_with(raw_path=path.encode("ascii")), self._headers, document)

    def compose_key_check(self) -> httpx.Request:
        """Asks for the first of the models."""
        return get(self._models_url.copy_merge_params({"pageSize": "1"}), self._headers)

    def read(self, answer: Answer) -> Completion:
        """Reads the first candidate; what the model thought is left out."""
        document = parse(answer.body)
        candidate = first(document, "candidates")
        parts = [
            part
            for part in members(member(candidate, "content"), "parts")
            if isinstance(part.get("text"), str) and part.get("thought") is not True
        ]
        ending = _ENDING_OF_REASON.get(text(candidate, "finishReason"), Ending.SHAPELESS)
        if text(member(document, "promptFeedback"), "blockReason") and not candidate:
            ending = Ending.WITHHELD
        elif ending is Ending.COMPLETE and not parts:
            ending = Ending.SHAPELESS
        return Completion(
            ending=ending,
            content="".join(text(part, "text") for part in parts),
            model=clean(document.get("modelVersion"), self._api_key),
            usage=_read_usage(document),
            request_id=clean(document.get("responseId"), self._api_key),
        )

    def explain(self, answer: Answer) -> ProviderFailure:
        """Goes by what the details say of quotas, then by the reason, the code and the status."""
        error = member(parse(answer.body), "error")
        details = members(error, "details")
        delay = text(_find_detail(details, "RetryInfo"), "retryDelay")
        refusal = Refusal(
            vendor=self.title,
            status=answer.status,
            vendor_code=clean(_find_detail(details, "ErrorInfo").get("reason"), self._api_key),
            vendor_type=clean(error.get("status"), self._api_key),
            request_id=clean(_find_detail(details, "RequestInfo").get("requestId"), self._api_key),
            wait_seconds=read_duration_seconds(delay)
            if delay
            else read_wait_seconds(answer.headers, None, now=datetime.now(UTC)),
        )
        return explain(refusal, _find_verdict(refusal, error, details))

    def read_window(self, answer: Answer) -> RateWindow | None:  # noqa: ARG002
        """Google says nothing of its limits."""
        return None


def _find_verdict(refusal: Refusal, error: Mapping[str, Any], details: Iterable[dict[str, Any]]) -> Verdict:
    message = text(error, "message")
    if refusal.status == 429 and _is_quota_used_up(details):
        return QUOTA
    if refusal.status == 400 and message.startswith("The input token count"):
        return TOO_LONG
    # An address that is wrong gets a page or a bare status; a model that is missing is named.
    if refusal.status == 404 and message.startswith("models/"):
        return MODEL_MISSING
    return judge(refusal, _VERDICT_OF_CODE)


def _is_quota_used_up(details: Iterable[dict[str, Any]]) -> bool:
    """Whether a limit is spent that a minute does not refill: one of a day, or one of nothing at all.

    The delay that comes with it is that of the minute's limits and does not count.
    """
    violations = members(_find_detail(details, "QuotaFailure"), "violations")
    return any(
        "PerDay" in text(violation, "quotaId") or violation.get("quotaValue") == "0"
        for violation in violations
    )


def _find_detail(details: Iterable[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next((detail for detail in details if detail.get("@type") == _DETAIL + kind), {})


def _read_usage(document: Mapping[str, Any]) -> Usage:
    """Google counts thoughts beside the candidates and bills both as output; here they are part of it."""
    usage = member(document, "usageMetadata")
    thoughts = count(usage, "thoughtsTokenCount", 0)
    return make_usage(
        add_counts(count(usage, "promptTokenCount"), count(usage, "toolUsePromptTokenCount", 0)),
        add_counts(count(usage, "candidatesTokenCount", 0), thoughts),  # a count of zero is left out
        cached_tokens=count(usage, "cachedContentTokenCount"),
        reasoning_tokens=thoughts,
    )
