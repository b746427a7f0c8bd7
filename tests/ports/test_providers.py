"""What every vendor's adapter promises: one suite over all, against answers of their documented shape."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
import respx

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import ProviderFailure
from service.core.outcome import ProviderReply, RateWindow, Usage
from service.providers.anthropic import Anthropic
from service.providers.catalogue import CATALOGUE
from service.providers.dialect import Dialect
from service.providers.google import Google
from service.providers.openai import OpenAI
from service.providers.openrouter import OpenRouter
from service.providers.remote import RemoteProvider
from tests.ports.making import make_call

KEY = "sk-canary-7f3a91"
JUDGEMENT = '{"winner":"essay_b","justification":"canary-answer","confidence":0.75}'
SECRETS = (KEY, "canary-system", "canary-essay", "canary-answer", "canary-message")

Json = dict[str, Any]


@dataclass(frozen=True)
class Vendor:
    """How one vendor is asked and how it answers."""

    name: str
    dialect: type[Any]
    base_url: str
    path: str
    model: str
    key_header: tuple[str, str]
    answer: Callable[[str, str], Json]
    """A good body from the model's text and the vendor's word for how it ended."""
    endings: dict[str, str]
    """The vendor's words for a complete answer, a token limit, a refusal, a filter."""
    refuse: Callable[[int], Json]
    """The body of a refusal with this status."""
    quota: tuple[int, Json]
    limited: tuple[dict[str, str], Json]
    """Headers and body of a 429 that asks to wait 7 seconds."""
    window: dict[str, str]
    """Headers that say: nothing of 3 requests left for 4 seconds, where the vendor says it."""


def _chat(text: str, ending: str) -> Json:
    message: Json = {"role": "assistant", "content": text}
    if ending == "refusal":
        message, ending = {"role": "assistant", "content": None, "refusal": "canary-message"}, "stop"
    return {
        "id": "gen-1",
        "object": "chat.completion",
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "message": message, "finish_reason": ending}],
        "usage": {
            "prompt_tokens": 1000,
            "completion_tokens": 200,
            "prompt_tokens_details": {"cached_tokens": 400},
            "completion_tokens_details": {"reasoning_tokens": 50},
        },
    }


def _message(text: str, ending: str) -> Json:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5-20251001",
        "content": [
            {"type": "thinking", "thinking": "canary-message", "signature": "x"},
            {"type": "text", "text": text},
        ],
        "stop_reason": ending,
        "usage": {
            "input_tokens": 600,
            "cache_read_input_tokens": 400,
            "cache_creation_input_tokens": 0,
            "output_tokens": 200,
            "output_tokens_details": {"thinking_tokens": 50},
        },
    }


def _candidate(text: str, ending: str) -> Json:
    parts = [{"text": "canary-message", "thought": True}, {"text": text}]
    return {
        "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": ending}],
        "modelVersion": "gemini-2.0-flash-001",
        "responseId": "r-1",
        "usageMetadata": {
            "promptTokenCount": 1000,
            "candidatesTokenCount": 150,
            "thoughtsTokenCount": 50,
            "cachedContentTokenCount": 400,
            "totalTokenCount": 1200,
        },
    }


_GOOGLE_STATUS = {
    400: "INVALID_ARGUMENT",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
}
_RPC = "type.googleapis.com/google.rpc."


def _google_error(status: int, *details: Json) -> Json:
    code = _GOOGLE_STATUS.get(status, "INTERNAL")
    error = {"code": status, "message": "canary-message", "status": code, "details": list(details)}
    return {"error": error}


VENDORS = (
    Vendor(
        "openai",
        OpenAI,
        "https://openai.example/v1",
        "/chat/completions",
        "gpt-4o-mini",
        ("authorization", f"Bearer {KEY}"),
        _chat,
        {"complete": "stop", "length": "length", "refused": "refusal", "withheld": "content_filter"},
        lambda _: {"error": {"message": "canary-message", "type": "some_error", "code": None}},
        (429, {"error": {"message": "canary-message", "code": "insufficient_quota"}}),
        ({"retry-after": "7"}, {"error": {"message": "canary-message", "code": "rate_limit_exceeded"}}),
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "4s"},
    ),
    Vendor(
        "anthropic",
        Anthropic,
        "https://anthropic.example",
        "/v1/messages",
        "claude-haiku-4-5-20251001",
        ("x-api-key", KEY),
        _message,
        {"complete": "end_turn", "length": "max_tokens", "refused": "refusal"},
        lambda _: {"type": "error", "error": {"type": "some_error", "message": "canary-message"}},
        (
            400,
            {
                "type": "error",
                "error": {
                    "type": "invalid_request_error",
                    "message": "Your credit balance is too low to access the API.",
                },
            },
        ),
        (
            {"retry-after": "7"},
            {"type": "error", "error": {"type": "rate_limit_error", "message": "canary-message"}},
        ),
        {"anthropic-ratelimit-requests-remaining": "0"},
    ),
    Vendor(
        "google",
        Google,
        "https://google.example",
        "/v1beta/models/gemini-2.0-flash:generateContent",
        "gemini-2.0-flash",
        ("x-goog-api-key", KEY),
        _candidate,
        {"complete": "STOP", "length": "MAX_TOKENS", "withheld": "SAFETY"},
        _google_error,
        (
            429,
            _google_error(
                429,
                {
                    "@type": _RPC + "QuotaFailure",
                    "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}],
                },
            ),
        ),
        ({}, _google_error(429, {"@type": _RPC + "RetryInfo", "retryDelay": "7s"})),
        {},
    ),
    Vendor(
        "openrouter",
        OpenRouter,
        "https://openrouter.example/api/v1",
        "/chat/completions",
        "openai/gpt-4o-mini",
        ("authorization", f"Bearer {KEY}"),
        _chat,
        {"complete": "stop", "length": "length", "refused": "refusal", "withheld": "content_filter"},
        lambda status: {"error": {"code": status, "message": "canary-message"}},
        (402, {"error": {"code": 402, "message": "canary-message"}}),
        ({"retry-after": "7"}, {"error": {"code": 429, "message": "canary-message"}}),
        {"x-ratelimit-remaining": "0"},
    ),
)


@pytest.fixture(params=VENDORS, ids=lambda vendor: vendor.name)
def vendor(request: pytest.FixtureRequest) -> Vendor:
    return request.param  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Line:
    vendor: Vendor
    provider: RemoteProvider
    route: respx.Route

    def answer(
        self, text: str = JUDGEMENT, *, ending: str = "complete", headers: dict[str, str] | None = None
    ) -> None:
        self.route.respond(200, headers=headers, json=self.vendor.answer(text, self.vendor.endings[ending]))

    async def ask(self, **changes: Any) -> ProviderReply:
        return await self.provider.compare(make_call(model=self.vendor.model, **changes))

    async def fail(self) -> ProviderFailure:
        """Makes a call that fails; the failure repeats nothing that is secret."""
        with pytest.raises(ProviderFailure) as caught:
            await self.ask()
        failure = caught.value
        told = json.dumps([failure.message, failure.details, failure.model])
        assert not [secret for secret in SECRETS if secret in told]
        return failure


@pytest.fixture
def line(vendor: Vendor) -> Line:
    router = respx.Router(assert_all_called=False)
    dialect: Dialect = vendor.dialect(api_key=KEY, base_url=vendor.base_url)
    transport = httpx.MockTransport(router.async_handler)
    provider = RemoteProvider(dialect, default_model=vendor.model, catalogue=CATALOGUE, transport=transport)
    return Line(vendor, provider, router.post(vendor.base_url + vendor.path))


async def test_answer_becomes_a_judgement_with_its_usage(line: Line) -> None:
    line.answer()

    reply = await line.ask()

    assert (reply.judgement.winner, reply.judgement.confidence) == ("essay_b", 0.75)
    assert reply.judgement.justification == "canary-answer"
    assert replace(reply.usage, cost_usd=0.0) == Usage(1000, 200, 400, 50)
    assert reply.usage.cost_usd > 0


async def test_key_goes_in_a_header_and_the_prompts_in_the_body(line: Line) -> None:
    line.answer()

    await line.ask(max_tokens=77)

    request = line.route.calls.last.request
    name, value = line.vendor.key_header
    body = request.content.decode()
    assert request.headers[name] == value
    assert KEY not in str(request.url)
    assert KEY not in body
    assert "canary-system" in body
    assert "canary-essay" in body
    assert '"essay_a"' in body
    assert '"justification"' in body
    assert "77" in body


@pytest.mark.parametrize("ending", ["length", "refused", "withheld"])
async def test_unusable_ending_is_told_and_not_repeated(line: Line, ending: str) -> None:
    if ending not in line.vendor.endings:
        pytest.skip(f"{line.vendor.name} has no such ending")
    line.answer(ending=ending)

    failure = await line.fail()

    assert (failure.code, failure.retryable) == (LLMErrorCode.INVALID_RESPONSE, False)
    assert failure.usage.total_tokens == 1200
    assert failure.usage.cost_usd > 0


@pytest.mark.parametrize("text", ["", "no json", '{"winner":"essay_c"}', JUDGEMENT[:-9]])
async def test_answer_that_is_no_judgement_may_be_asked_for_again(line: Line, text: str) -> None:
    line.answer(text)

    failure = await line.fail()

    misfit = text == '{"winner":"essay_c"}'
    assert failure.code is (LLMErrorCode.INVALID_RESPONSE if misfit else LLMErrorCode.PARSING_ERROR)
    assert failure.retryable
    assert failure.usage.cost_usd > 0


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'{"choices":[]}', b'{"choices":[1]}', b'{"choices":[{}]}',
        b'{"content":3}', b"<html>", b"\xff\xfe", b'{"choices":' + b"[" * 3000 + b"]" * 3000 + b"}",
        b'{"choices":[{"message":',
    ],
    ids=lambda body: ascii(body[:25]),
)  # fmt: skip
async def test_shapeless_body_raises_nothing_else(line: Line, body: bytes) -> None:
    line.route.respond(200, content=body)

    failure = await line.fail()

    assert (failure.code, failure.retryable) == (LLMErrorCode.PARSING_ERROR, True)
    assert failure.may_be_billed


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (400, LLMErrorCode.PROVIDER_API_ERROR, False), (401, LLMErrorCode.CONFIGURATION_ERROR, False),
        (403, LLMErrorCode.CONFIGURATION_ERROR, False), (408, LLMErrorCode.PROVIDER_TIMEOUT, True),
        (413, LLMErrorCode.CONTENT_TOO_LONG, False), (500, LLMErrorCode.PROVIDER_UNAVAILABLE, True),
        (502, LLMErrorCode.PROVIDER_UNAVAILABLE, True), (503, LLMErrorCode.PROVIDER_UNAVAILABLE, True),
        (529, LLMErrorCode.PROVIDER_UNAVAILABLE, True),
    ],
)  # fmt: skip
async def test_status_has_one_meaning_at_every_vendor(
    line: Line, status: int, code: LLMErrorCode, retryable: bool
) -> None:
    line.route.respond(status, json=line.vendor.refuse(status))

    failure = await line.fail()

    assert (failure.code, failure.retryable) == (code, retryable)
    assert failure.details["status"] == status


async def test_missing_model_is_told_from_a_wrong_address(line: Line) -> None:
    line.route.respond(404, text="<html>not here</html>")

    assert (await line.fail()).code is LLMErrorCode.CONFIGURATION_ERROR


async def test_rate_limit_says_how_long_to_wait(line: Line) -> None:
    headers, body = line.vendor.limited
    line.route.respond(429, headers=headers, json=body)

    failure = await line.fail()

    assert (failure.code, failure.retryable) == (LLMErrorCode.PROVIDER_RATE_LIMIT, True)
    assert failure.retry_after_seconds == pytest.approx(7.0)
    assert "quota_used_up" not in failure.details


async def test_used_up_quota_is_no_rate_limit(line: Line) -> None:
    status, body = line.vendor.quota
    line.route.respond(status, json=body)

    failure = await line.fail()

    assert failure.code is LLMErrorCode.PROVIDER_RATE_LIMIT
    assert failure.details["quota_used_up"] is True
    assert not failure.retryable


async def test_limits_beside_an_answer_are_read(line: Line) -> None:
    line.answer(headers=line.vendor.window)

    window = (await line.ask()).window

    if not line.vendor.window:
        assert window is None
        return
    assert isinstance(window, RateWindow)
    assert window.remaining_requests == 0


@pytest.mark.parametrize("key", ["", "sk canary", "canary\nb", "schlüssel-canary"])
def test_key_that_cannot_be_sent_is_refused_and_not_shown(vendor: Vendor, key: str) -> None:
    with pytest.raises(ValueError, match="API key") as caught:
        vendor.dialect(api_key=key, base_url=vendor.base_url)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["", "h/v1", "ftp://h/v1", "https://u:canary@h/v1", "https://h/v1?k=canary", "http://[::1/v1"]
)
def test_wrong_base_url_is_refused_and_its_secret_not_shown(vendor: Vendor, url: str) -> None:
    with pytest.raises(ValueError, match="base URL") as caught:
        vendor.dialect(api_key=KEY, base_url=url)
    assert "canary" not in str(caught.value)
