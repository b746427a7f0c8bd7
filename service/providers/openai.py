"""OpenAI as the judge, over Chat Completions with structured output.

Protocol: https://platform.openai.com/docs/api-reference/chat/create
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import orjson

from service.contracts.enums import LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.contracts.requests import LLMConfigOverrides
from service.core.errors import ProviderFailure
from service.core.outcome import ProviderReply, Usage
from service.core.prompt import ANSWER_SCHEMA, ANSWER_SCHEMA_NAME, read_judgement
from service.core.records import ProviderCall
from service.providers.catalogue import Catalogue
from service.providers.exchange import Answer, exchange
from service.providers.refusals import MODEL_MISSING, QUOTA, TOO_LONG, Refusal, Verdict, explain, judge
from service.providers.waits import read_wait_seconds

_RESPONSE_FORMAT: Final = orjson.Fragment(
    orjson.dumps(
        {
            "type": "json_schema",
            "json_schema": {"name": ANSWER_SCHEMA_NAME, "strict": True, "schema": ANSWER_SCHEMA},
        }
    )
)
_VERDICT_OF_CODE: Final[Mapping[tuple[int, str], Verdict]] = {
    (400, "context_length_exceeded"): TOO_LONG,
    (400, "string_above_max_length"): TOO_LONG,
    (400, "model_not_found"): MODEL_MISSING,
    (403, "model_not_found"): MODEL_MISSING,
    (404, "model_not_found"): MODEL_MISSING,
    (429, "insufficient_quota"): QUOTA,
    (429, "billing_hard_limit_reached"): QUOTA,
    (429, "billing_not_active"): QUOTA,
}
_NAME: Final = re.compile(r"[\w.:/\-\[\]]{1,200}", re.ASCII)
_KEY: Final = re.compile(r"[!-~]+")


class OpenAIProvider:
    """Asks OpenAI, or whatever speaks its protocol at `base_url` (which ends in `/v1`, as for its SDK).

    Owns `transport`. Raises `ValueError` for a key or a URL that cannot be sent.
    """

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str,
        default_model: str,
        catalogue: Catalogue,
        transport: httpx.AsyncBaseTransport,
    ) -> None:
        if not _KEY.fullmatch(api_key):
            raise ValueError("The OpenAI API key is empty or holds characters that no HTTP header can carry.")
        self._api_key = api_key
        self._url = _parse_url(base_url)
        self._default_model = default_model
        self._catalogue = catalogue
        self._transport = transport
        self._headers = (
            (b"host", self._url.netloc),
            (b"authorization", f"Bearer {api_key}".encode("ascii")),
            (b"accept", b"application/json"),
            # Answers are small; one that comes compressed nevertheless is unpacked within the size limit.
            (b"accept-encoding", b"identity"),
            (b"content-type", b"application/json"),
            (b"user-agent", b"llmctl"),
        )

    def __repr__(self) -> str:
        return f"OpenAIProvider(url={str(self._url)!r}, default_model={self._default_model!r})"

    @property
    def name(self) -> LLMProviderType:
        """Always `openai`."""
        return LLMProviderType.OPENAI

    @property
    def default_model(self) -> str:
        """Where a request names no model."""
        return self._default_model

    @property
    def models(self) -> tuple[str, ...]:
        """What the catalogue has of it."""
        return self._catalogue.names(self.name)

    def find_objection(self, model: str, overrides: LLMConfigOverrides | None) -> str | None:
        """Says in a sentence why the catalogue does not allow this configuration, or None where it does."""
        return self._catalogue.find_objection(self.name, model, overrides)

    async def compare(self, call: ProviderCall) -> ProviderReply:
        """Asks once. Raises `ProviderFailure` and nothing else; keeps to `call.timeout_seconds`."""
        request = self._compose(call)
        try:
            answer = await exchange(self._transport, request, timeout_seconds=call.timeout_seconds)
        except ProviderFailure as failure:
            raise replace(failure, model=call.model) from failure
        if answer.status != httpx.codes.OK:
            raise replace(self._explain(answer), model=call.model)
        return self._read_reply(answer, call.model)

    async def close(self) -> None:
        """Closes its connections."""
        await self._transport.aclose()

    def _compose(self, call: ProviderCall) -> httpx.Request:
        document: dict[str, Any] = {
            "model": call.model,
            "messages": (
                {"role": "system", "content": call.system_prompt},
                {"role": "user", "content": call.user_prompt},
            ),
            "response_format": _RESPONSE_FORMAT,
        }
        model = self._catalogue.find(self.name, call.model)
        if call.temperature is not None and (model is None or model.accepts_temperature):
            document["temperature"] = call.temperature
        if call.max_tokens is not None:
            document["max_completion_tokens"] = call.max_tokens
        try:
            body = orjson.dumps(document)
        except orjson.JSONEncodeError as error:
            raise ProviderFailure(
                LLMErrorCode.INVALID_PROMPT,
                "The prompt or an essay holds characters that cannot be written as UTF-8.",
                retryable=False,
            ) from error
        headers = [
            *self._headers,
            (b"content-length", str(len(body)).encode()),
            (b"x-client-request-id", f"{call.correlation_id}-{call.attempt}".encode()),
        ]
        # A stream instead of content: httpx then adds nothing, which is six times cheaper.
        return httpx.Request("POST", self._url, headers=headers, stream=httpx.ByteStream(body))

    def _explain(self, answer: Answer) -> ProviderFailure:
        error = _member(_parse(answer.body), "error")
        refusal = Refusal(
            vendor="OpenAI",
            status=answer.status,
            vendor_code=self._clean(error.get("code")),
            vendor_type=self._clean(error.get("type")),
            parameter=self._clean(error.get("param")),
            request_id=self._clean(answer.headers.get("x-request-id")),
            wait_seconds=read_wait_seconds(answer.headers, now=datetime.now(UTC)),
        )
        return explain(refusal, judge(refusal, _VERDICT_OF_CODE))

    def _read_reply(self, answer: Answer, asked_model: str) -> ProviderReply:
        document = _parse(answer.body)
        model = self._clean(document.get("model")) or asked_model
        usage = self._price(_read_usage(document), model, asked_model)
        failed = _FailedReply(
            usage=usage,
            model=model,
            may_be_billed=not usage.total_tokens,
            details={"status": answer.status},
        )
        request_id = self._clean(answer.headers.get("x-request-id"))
        if request_id is not None:
            failed.details["provider_request_id"] = request_id
        content = _read_content(document, failed)
        try:
            judgement = read_judgement(content)
        except ProviderFailure as failure:
            raise failed.complete(failure) from failure
        return ProviderReply(judgement, model, usage)

    def _price(self, usage: Usage, model: str, asked_model: str) -> Usage:
        known = self._catalogue.find(self.name, model) or self._catalogue.find(self.name, asked_model)
        return usage if known is None else known.price(usage)

    def _clean(self, value: Any) -> str | None:
        """A name from the other side, where it is fit to be repeated: short, plain, and not our key."""
        if not isinstance(value, str) or not _NAME.fullmatch(value) or self._api_key in value:
            return None
        return value


@dataclass(frozen=True, slots=True)
class _FailedReply:
    """What is known of a complete answer in which no judgement can be found."""

    usage: Usage
    model: str
    may_be_billed: bool
    details: dict[str, Any]

    def complete(self, failure: ProviderFailure) -> ProviderFailure:
        return replace(
            failure,
            usage=self.usage,
            model=self.model,
            may_be_billed=self.may_be_billed,
            details={**self.details, **failure.details},
        )

    def as_failure(self, code: LLMErrorCode, message: str, *, retryable: bool) -> ProviderFailure:
        return self.complete(ProviderFailure(code, message, retryable=retryable))


def _parse_url(base_url: str) -> httpx.URL:
    try:
        url = httpx.URL(base_url.rstrip("/") + "/chat/completions")
    except httpx.InvalidURL as error:
        raise ValueError("The OpenAI base URL is not a URL.") from error
    if url.scheme not in {"http", "https"} or not url.host or url.userinfo or url.query or url.fragment:
        raise ValueError(
            "The OpenAI base URL must be http(s)://host[:port]/path, such as https://api.openai.com/v1."
        )
    return url


def _parse(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; an empty one where there is none."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def _member(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name)
    return value if isinstance(value, dict) else {}


def _count(document: Mapping[str, Any], name: str) -> int:
    value = document.get(name)
    return max(value, 0) if isinstance(value, int) and not isinstance(value, bool) else 0


def _read_usage(document: Mapping[str, Any]) -> Usage:
    usage = _member(document, "usage")
    return Usage(
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
        cached_tokens=_count(_member(usage, "prompt_tokens_details"), "cached_tokens"),
        reasoning_tokens=_count(_member(usage, "completion_tokens_details"), "reasoning_tokens"),
    )


def _read_content(document: Mapping[str, Any], failed: _FailedReply) -> str:
    choices = document.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = _member(choice, "message")
    reason = choice.get("finish_reason")
    invalid = LLMErrorCode.INVALID_RESPONSE
    if reason == "content_filter":
        raise failed.as_failure(invalid, "OpenAI's content filter withheld the answer.", retryable=False)
    if message.get("refusal"):
        raise failed.as_failure(invalid, "The model refused to compare these essays.", retryable=False)
    if reason == "length":
        raise failed.as_failure(
            invalid,
            "The answer hit its token limit; allow more tokens.",
            retryable=False,
        )
    content = message.get("content")
    if not isinstance(content, str):
        raise failed.as_failure(
            LLMErrorCode.PARSING_ERROR, "OpenAI's answer is no chat completion with a text.", retryable=True
        )
    return content
