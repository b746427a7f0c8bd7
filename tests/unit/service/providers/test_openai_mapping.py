"""Every refusal and every broken exchange becomes one failure with the right code."""

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
import respx

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import ProviderFailure
from service.providers.exchange import explain_request_error

Fail = Callable[..., Awaitable[ProviderFailure]]
Code = LLMErrorCode


def error_body(code: str | None = None, kind: str | None = None) -> dict[str, Any]:
    return {"error": {"message": "canary-essay sk-canary-7f3a91", "type": kind, "code": code, "param": None}}


@pytest.mark.parametrize(
    ("status", "vendor_code", "code", "retryable"),
    [
        (400, None, Code.PROVIDER_API_ERROR, False),
        (400, "unsupported_value", Code.PROVIDER_API_ERROR, False),
        (400, "context_length_exceeded", Code.CONTENT_TOO_LONG, False),
        (400, "string_above_max_length", Code.CONTENT_TOO_LONG, False),
        (401, "invalid_api_key", Code.CONFIGURATION_ERROR, False),
        (402, None, Code.PROVIDER_RATE_LIMIT, False),
        (403, None, Code.CONFIGURATION_ERROR, False),
        (404, "model_not_found", Code.INVALID_CONFIG, False),
        (404, None, Code.CONFIGURATION_ERROR, False),
        (405, None, Code.PROVIDER_API_ERROR, False),
        (408, None, Code.PROVIDER_TIMEOUT, True),
        (409, None, Code.PROVIDER_UNAVAILABLE, True),
        (413, None, Code.CONTENT_TOO_LONG, False),
        (418, None, Code.PROVIDER_API_ERROR, False),
        (422, None, Code.PROVIDER_API_ERROR, False),
        (425, None, Code.PROVIDER_UNAVAILABLE, True),
        (429, None, Code.PROVIDER_RATE_LIMIT, True),
        (429, "rate_limit_exceeded", Code.PROVIDER_RATE_LIMIT, True),
        (429, "insufficient_quota", Code.PROVIDER_RATE_LIMIT, False),
        (429, "billing_hard_limit_reached", Code.PROVIDER_RATE_LIMIT, False),
        (500, None, Code.PROVIDER_UNAVAILABLE, True),
        (501, None, Code.PROVIDER_API_ERROR, False),
        (502, None, Code.PROVIDER_UNAVAILABLE, True),
        (503, None, Code.PROVIDER_UNAVAILABLE, True),
        (504, None, Code.PROVIDER_UNAVAILABLE, True),
        (524, None, Code.PROVIDER_UNAVAILABLE, True),
        (529, None, Code.PROVIDER_UNAVAILABLE, True),
    ],
)
async def test_refusal_has_a_code_and_repeats_nothing_secret(
    fail: Fail, status: int, vendor_code: str | None, code: LLMErrorCode, retryable: bool
) -> None:
    failure = await fail(status, json=error_body(vendor_code), headers={"x-request-id": "req_42"})
    assert (failure.code, failure.retryable) == (code, retryable)
    assert failure.details["status"] == status
    assert failure.details["provider_request_id"] == "req_42"
    assert failure.details.get("vendor_code") == vendor_code
    assert failure.model == "gpt-4o-mini"
    assert f"status {status}" in failure.message


async def test_quota_is_recognized_by_its_type(fail: Fail) -> None:
    failure = await fail(429, json=error_body(None, "insufficient_quota"), headers={"retry-after": "3"})
    assert (failure.retryable, failure.retry_after_seconds) == (False, None)
    assert failure.details["quota_used_up"] is True
    assert "quota" in failure.message


@pytest.mark.parametrize("status", [300, 301, 302, 307, 308])
async def test_redirect_names_the_setting_and_not_the_target(
    fail: Fail, route: respx.Route, status: int
) -> None:
    failure = await fail(status, headers={"location": "http://169.254.169.254/"})
    assert (failure.code, failure.retryable) == (Code.PROVIDER_API_ERROR, False)
    assert "base URL" in failure.message
    assert "169.254" not in repr(failure)
    assert route.call_count == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_failure_carries_the_wait_of_the_provider(fail: Fail, status: int) -> None:
    assert (await fail(status, headers={"retry-after": "7"})).retry_after_seconds == 7.0


async def test_names_of_the_provider_are_not_repeated_if_they_hold_text_or_the_key(fail: Fail) -> None:
    body = {"error": {"code": "sk-canary-7f3a91", "type": "canary essay text", "param": ["x"]}}
    assert (await fail(400, json=body, headers={"x-request-id": "x" * 300})).details == {"status": 400}
    assert (await fail(json={"model": "sk-canary-7f3a91", "choices": []})).model == "gpt-4o-mini"


@pytest.mark.parametrize(
    ("error", "code", "retryable", "billed"),
    [
        (httpx.ConnectError, Code.PROVIDER_UNAVAILABLE, True, False),
        (httpx.ConnectTimeout, Code.PROVIDER_TIMEOUT, True, False),
        (httpx.PoolTimeout, Code.PROVIDER_TIMEOUT, True, False),
        (httpx.ReadTimeout, Code.PROVIDER_TIMEOUT, True, True),
        (httpx.WriteTimeout, Code.PROVIDER_TIMEOUT, True, True),
        (httpx.ReadError, Code.PROVIDER_UNAVAILABLE, True, True),
        (httpx.WriteError, Code.PROVIDER_UNAVAILABLE, True, True),
        (httpx.CloseError, Code.PROVIDER_UNAVAILABLE, True, True),
        (httpx.RemoteProtocolError, Code.PARSING_ERROR, True, True),
        (httpx.DecodingError, Code.PARSING_ERROR, True, True),
        (httpx.UnsupportedProtocol, Code.CONFIGURATION_ERROR, False, False),
    ],
)
async def test_broken_exchange_has_a_code_and_may_be_billed(
    fail: Fail, error: type[httpx.RequestError], code: LLMErrorCode, retryable: bool, billed: bool
) -> None:
    failure = await fail(error=error("canary-essay"))
    assert (failure.code, failure.retryable, failure.may_be_billed) == (code, retryable, billed)
    assert failure.model == "gpt-4o-mini"


def subclasses(kind: type[httpx.RequestError]) -> Iterator[type[httpx.RequestError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from subclasses(child)


def test_every_exception_of_httpx_has_a_meaning() -> None:
    for kind in subclasses(httpx.RequestError):
        failure = explain_request_error(kind("canary"))
        assert failure.code in {
            Code.PROVIDER_UNAVAILABLE,
            Code.PROVIDER_TIMEOUT,
            Code.PARSING_ERROR,
            Code.CONFIGURATION_ERROR,
        }
        assert "canary" not in json.dumps([failure.message, failure.details])
