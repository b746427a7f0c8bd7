"""What only one vendor says: refusals that no status tells apart, limits and waits in its own way."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import ProviderFailure
from service.core.outcome import RateWindow
from service.providers.anthropic import Anthropic
from service.providers.catalogue import CATALOGUE
from service.providers.dialect import Dialect, Ending
from service.providers.exchange import Answer
from service.providers.google import Google
from service.providers.openai import OpenAI
from service.providers.openrouter import OpenRouter
from service.providers.waits import MAX_WAIT_SECONDS
from tests.ports.making import make_call
from tests.waiting import HANG_SECONDS

KEY = "sk-canary-7f3a91"
ANTHROPIC = Anthropic(api_key=KEY, base_url="https://judge.example")
GOOGLE = Google(api_key=KEY, base_url="https://judge.example")
OPENAI = OpenAI(api_key=KEY, base_url="https://judge.example/v1")
OPENROUTER = OpenRouter(api_key=KEY, base_url="https://judge.example/api/v1")
RPC = "type.googleapis.com/google.rpc."
Code = LLMErrorCode

Outcome = tuple[LLMErrorCode, bool, bool]
"""The code, whether another attempt may help, whether a quota is used up."""
TOO_LONG = (Code.CONTENT_TOO_LONG, False, False)
SPENT = (Code.PROVIDER_RATE_LIMIT, False, True)
LIMITED = (Code.PROVIDER_RATE_LIMIT, True, False)
WRONG = (Code.PROVIDER_API_ERROR, False, False)
SETUP = (Code.CONFIGURATION_ERROR, False, False)
NO_MODEL = (Code.INVALID_CONFIG, False, False)
AWAY = (Code.PROVIDER_UNAVAILABLE, True, False)
FILTERED = (Code.INVALID_RESPONSE, False, False)


def read_outcome(failure: ProviderFailure) -> Outcome:
    return failure.code, failure.retryable, failure.details.get("quota_used_up", False)


def explain(
    dialect: Dialect, status: int, body: Any, headers: Mapping[str, str] | None = None
) -> ProviderFailure:
    return dialect.explain(Answer(status, httpx.Headers(headers), json.dumps(body).encode()))


def read_window(dialect: Dialect, headers: Mapping[str, str]) -> RateWindow | None:
    return dialect.read_window(Answer(200, httpx.Headers(headers), b"{}"))


def anthropic_error(kind: str, message: str = "canary", **more: Any) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message, **more}, "request_id": "req_body"}


def bad_request(message: str = "canary") -> dict[str, Any]:
    return anthropic_error("invalid_request_error", message)


def google_error(status: str, *details: dict[str, Any], message: str = "canary") -> dict[str, Any]:
    return {"error": {"code": 0, "message": message, "status": status, "details": list(details)}}


def quota(*ids: str) -> dict[str, Any]:
    return {"@type": RPC + "QuotaFailure", "violations": [{"quotaId": each} for each in ids]}


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (400, bad_request(), WRONG),
        (400, bad_request("prompt is too long: 9 > 8"), TOO_LONG),
        (400, bad_request("input length and `max_tokens` exceed it"), TOO_LONG),
        (400, bad_request("Your credit balance is too low to"), SPENT),
        (400, bad_request("You have reached your specified API usage limits."), SPENT),
        (402, anthropic_error("billing_error"), SPENT),
        (404, anthropic_error("not_found_error", "model: claude-none"), NO_MODEL),
        (404, anthropic_error("not_found_error", "Not Found"), SETUP),
        (413, anthropic_error("request_too_large"), TOO_LONG),
        (429, anthropic_error("rate_limit_error"), LIMITED),
        (
            429,
            anthropic_error("rate_limit_error", details={"error_code": "enforced_spend_limit_reached"}),
            SPENT,
        ),
        (529, anthropic_error("overloaded_error"), AWAY),
    ],
)
def test_anthropic_refusal_has_its_code(status: int, body: dict[str, Any], outcome: Outcome) -> None:
    failure = explain(ANTHROPIC, status, body, {"request-id": "req_head"})
    assert read_outcome(failure) == outcome
    assert failure.details["provider_request_id"] == "req_head"
    assert "canary" not in failure.message + repr(failure.details)


def test_anthropic_request_id_is_read_from_the_body() -> None:
    """A gateway may have dropped the header."""
    failure = explain(ANTHROPIC, 500, anthropic_error("api_error"))
    assert failure.details["provider_request_id"] == "req_body"


def test_anthropic_window_and_wait() -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=10_000)).isoformat()
    later = (datetime.now(UTC) + timedelta(seconds=50_000)).isoformat().replace("+00:00", "Z")
    headers = {
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": soon,
        "anthropic-ratelimit-tokens-remaining": "12000",
        "anthropic-ratelimit-tokens-reset": later,
    }
    window = read_window(ANTHROPIC, headers)
    assert window is not None
    assert (window.remaining_requests, window.remaining_tokens) == (0, 12000)
    assert window.requests_reset_seconds == pytest.approx(10_000, abs=HANG_SECONDS)
    assert window.tokens_reset_seconds == pytest.approx(50_000, abs=HANG_SECONDS)
    wait = explain(ANTHROPIC, 429, anthropic_error("rate_limit_error"), headers).retry_after_seconds
    assert wait == pytest.approx(10_000, abs=HANG_SECONDS)
    asked = explain(ANTHROPIC, 429, {}, {**headers, "retry-after": "3"}).retry_after_seconds
    assert asked == 3.0


def test_anthropic_rate_per_minute_is_read() -> None:
    headers = {"anthropic-ratelimit-requests-limit": "50", "anthropic-ratelimit-tokens-limit": "40000"}

    assert read_window(ANTHROPIC, headers) == RateWindow(requests_per_minute=50)


@pytest.mark.parametrize("reset", ["", "soon", "2026-13-01T00:00:00Z", "9" * 400])
def test_anthropic_reset_that_cannot_be_read_is_ignored(reset: str) -> None:
    headers = {"anthropic-ratelimit-requests-remaining": "5", "anthropic-ratelimit-requests-reset": reset}
    assert read_window(ANTHROPIC, headers) == RateWindow(remaining_requests=5)


def test_anthropic_input_tokens_replace_a_missing_total() -> None:
    headers = {"anthropic-ratelimit-input-tokens-remaining": "7"}
    assert read_window(ANTHROPIC, headers) == RateWindow(remaining_tokens=7)


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (400, google_error("INVALID_ARGUMENT"), WRONG),
        (
            400,
            google_error("INVALID_ARGUMENT", {"@type": RPC + "ErrorInfo", "reason": "API_KEY_INVALID"}),
            SETUP,
        ),
        (400, google_error("FAILED_PRECONDITION"), SETUP),
        (400, google_error("INVALID_ARGUMENT", message="The input token count (9) exceeds"), TOO_LONG),
        (403, google_error("PERMISSION_DENIED"), SETUP),
        (404, google_error("NOT_FOUND", message="models/x is not found for API version"), NO_MODEL),
        (429, google_error("RESOURCE_EXHAUSTED"), LIMITED),
        (429, google_error("RESOURCE_EXHAUSTED", quota("GenerateRequestsPerMinutePerProject")), LIMITED),
        (
            429,
            google_error("RESOURCE_EXHAUSTED", quota("XPerMinute", "GenerateRequestsPerDayPerProject")),
            SPENT,
        ),
        (499, google_error("CANCELLED"), AWAY),
        (503, google_error("UNAVAILABLE"), AWAY),
        (504, google_error("DEADLINE_EXCEEDED"), AWAY),
    ],
)
def test_google_refusal_has_its_code(status: int, body: dict[str, Any], outcome: Outcome) -> None:
    failure = explain(GOOGLE, status, body)
    assert read_outcome(failure) == outcome


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [("47s", 47.0), ("0.25s", 0.25), ("999999s", MAX_WAIT_SECONDS), ("soon", None), (7, None)],
)
def test_google_delay_is_read_from_the_body(delay: Any, seconds: float | None) -> None:
    body = google_error("RESOURCE_EXHAUSTED", {"@type": RPC + "RetryInfo", "retryDelay": delay})
    assert explain(GOOGLE, 429, body).retry_after_seconds == seconds


def test_google_blocked_prompt_is_withheld() -> None:
    body = b'{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":9}}'
    completion = GOOGLE.read(Answer(200, httpx.Headers(), body))
    assert completion.ending is Ending.WITHHELD
    assert completion.usage.prompt_tokens == 9


def test_google_model_cannot_leave_its_place_in_the_address() -> None:
    call = make_call(model="../x?key=1")
    url = GOOGLE.compose(call, None).url
    assert url.raw_path == b"/v1beta/models/..%2Fx%3Fkey%3D1:generateContent"


@pytest.mark.parametrize(
    ("status", "metadata", "headers", "outcome"),
    [
        (400, {"error_type": "context_length_exceeded"}, {}, TOO_LONG),
        (402, {"limit_source": "openrouter_credits"}, {}, SPENT),
        (402, {"limit_source": "openrouter_in_flight_budget"}, {"retry-after": "2"}, LIMITED),
        (402, {}, {"retry-after": "2"}, LIMITED),
        (403, {}, {}, SETUP),
        (403, {"reasons": ["violence"], "flagged_input": "canary"}, {}, FILTERED),
        (403, {"limit_source": "openrouter_key_limit"}, {}, SPENT),
        (404, {}, {}, NO_MODEL),
        (502, {"provider_name": "OpenAI", "raw": "canary"}, {}, AWAY),
    ],
)
def test_openrouter_refusal_has_its_code(
    status: int,
    metadata: dict[str, Any],
    headers: dict[str, str],
    outcome: Outcome,
) -> None:
    body = {"error": {"code": status, "message": "canary", "metadata": metadata}}
    failure = explain(OPENROUTER, status, body, headers)
    assert read_outcome(failure) == outcome
    assert "canary" not in failure.message + repr(failure.details)


def test_openrouter_reset_is_read_in_milliseconds() -> None:
    """From the headers, or from those that the body quotes."""
    moment = str(int((datetime.now(UTC) + timedelta(seconds=10_000)).timestamp() * 1000))
    limits = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": moment}
    window = read_window(OPENROUTER, limits)
    assert window is not None
    assert (window.remaining_requests, window.remaining_tokens) == (0, None)
    assert window.requests_reset_seconds == pytest.approx(10_000, abs=HANG_SECONDS)
    body = {"error": {"code": 429, "message": "x", "metadata": {"headers": limits}}}
    assert explain(OPENROUTER, 429, body).retry_after_seconds == pytest.approx(10_000, abs=HANG_SECONDS)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        ({"code": 502, "message": "canary"}, 502, Code.PROVIDER_UNAVAILABLE),
        ({"code": 429, "message": "canary"}, 429, Code.PROVIDER_RATE_LIMIT),
        ({"code": "strange"}, 502, Code.PROVIDER_UNAVAILABLE),
        ({"code": 200}, 502, Code.PROVIDER_UNAVAILABLE),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_openrouter_error_with_status_200(
    error: dict[str, Any], status: int, code: LLMErrorCode, inside: bool
) -> None:
    body = {"choices": [{"error": error, "finish_reason": "error"}]} if inside else {"error": error}
    failure = OPENROUTER.read(Answer(200, httpx.Headers(), json.dumps(body).encode())).failure
    assert failure is not None
    assert (failure.code, failure.details["status"]) == (code, status)


@pytest.mark.parametrize(
    ("cost", "expected"), [(0.5, 0.5), (0, 0.0), (-1, None), ("1", None), (True, None), (None, None)]
)
def test_openrouter_cost_is_taken_if_it_is_a_price(cost: Any, expected: float | None) -> None:
    body = json.dumps({"usage": {"cost": cost}}).encode()
    assert OPENROUTER.read(Answer(200, httpx.Headers(), body)).cost_usd == expected


def test_every_status_has_a_meaning_at_every_vendor() -> None:
    for dialect in (ANTHROPIC, GOOGLE, OPENAI, OPENROUTER):
        for status in range(201, 600):
            for body in ({}, [], {"error": 1}, {"error": {"details": [1], "metadata": 2}}):
                failure = explain(dialect, status, body)
                assert failure.details["status"] == status
                server_fault = status >= 500 and status not in {501, 505}
                assert failure.retryable is (status in {408, 409, 425, 429} or server_fault)


def test_anthropic_always_gets_a_token_limit() -> None:
    call = make_call(model="m", temperature=0.5)
    always_thinks = CATALOGUE.find(ANTHROPIC.name, "claude-opus-5-5")
    document = json.loads(b"".join(ANTHROPIC.compose(call, always_thinks).stream))
    assert document["max_tokens"] == 16_384
    assert "temperature" not in document
    assert json.loads(b"".join(ANTHROPIC.compose(call, None).stream))["temperature"] == 0.5


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        (ANTHROPIC, {"content": [{"type": "thinking", "text": "{}"}], "stop_reason": "end_turn"}),
        (ANTHROPIC, {"content": [{"type": "text", "text": "{}"}], "stop_reason": "tool_use"}),
        (
            GOOGLE,
            {
                "candidates": [
                    {"content": {"parts": [{"text": "{}", "thought": True}]}, "finishReason": "STOP"}
                ]
            },
        ),
        (GOOGLE, {"candidates": [{"content": {"parts": [{"text": "{}"}]}, "finishReason": "OTHER"}]}),
    ],
)
def test_answer_without_text_or_with_an_unknown_end_is_shapeless(
    dialect: Dialect, body: dict[str, Any]
) -> None:
    assert dialect.read(Answer(200, httpx.Headers(), json.dumps(body).encode())).ending is Ending.SHAPELESS
