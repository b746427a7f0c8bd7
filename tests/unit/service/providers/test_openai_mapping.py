"""Every refusal and every broken exchange becomes one failure with the right code."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
import respx

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import ProviderFailure
from service.core.records import ProviderCall
from service.providers.exchange import explain_request_error
from service.providers.remote import RemoteProvider

Call = Callable[..., ProviderCall]
Code = LLMErrorCode


def error_body(code: str | None = None, kind: str | None = None) -> dict[str, Any]:
    return {"error": {"message": "canary-essay sk-canary-7f3a91", "type": kind, "code": code, "param": None}}


async def fail(provider: RemoteProvider, call: ProviderCall) -> ProviderFailure:
    with pytest.raises(ProviderFailure) as caught:
        await provider.compare(call)
    return caught.value


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
async def test_refusal(
    provider: RemoteProvider,
    route: respx.Route,
    make_call: Call,
    secrets: tuple[str, ...],
    status: int,
    vendor_code: str | None,
    code: LLMErrorCode,
    retryable: bool,
) -> None:
    """A refusal has the code of its status, or of the vendor's own code, and repeats nothing secret."""
    route.respond(status, json=error_body(vendor_code), headers={"x-request-id": "req_42"})
    failure = await fail(provider, make_call())
    assert (failure.code, failure.retryable) == (code, retryable)
    assert failure.details["status"] == status
    assert failure.details["provider_request_id"] == "req_42"
    assert failure.details.get("vendor_code") == vendor_code
    assert failure.model == "gpt-4o-mini"
    assert f"status {status}" in failure.message
    assert not any(secret in repr(failure) + failure.message for secret in secrets)


async def test_every_status_has_a_meaning(
    provider: RemoteProvider, route: respx.Route, make_call: Call
) -> None:
    """No status from 201 to 599 escapes the table, whatever its body is."""
    for status in range(201, 600):
        route.respond(status, content=b"<html>gateway</html>")
        failure = await fail(provider, make_call())
        assert failure.details["status"] == status
        assert failure.retryable is (
            status in {408, 409, 425, 429} or (status >= 500 and status not in {501, 505})
        )


async def test_quota_by_type(provider: RemoteProvider, route: respx.Route, make_call: Call) -> None:
    """A used-up quota that only the type tells is no rate limit to wait for, and says so."""
    route.respond(429, json=error_body(None, "insufficient_quota"), headers={"retry-after": "3"})
    failure = await fail(provider, make_call())
    assert not failure.retryable
    assert failure.retry_after_seconds is None
    assert failure.details["quota_used_up"] is True
    assert "quota" in failure.message


@pytest.mark.parametrize("status", [300, 301, 302, 307, 308])
async def test_redirect(provider: RemoteProvider, route: respx.Route, make_call: Call, status: int) -> None:
    """A redirect is not followed; the failure names the setting to correct and not the target."""
    route.respond(status, headers={"location": "http://169.254.169.254/"})
    failure = await fail(provider, make_call())
    assert failure.code is Code.PROVIDER_API_ERROR
    assert not failure.retryable
    assert "base URL" in failure.message
    assert "169.254" not in repr(failure)
    assert route.call_count == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_wait_is_honored(
    provider: RemoteProvider, route: respx.Route, make_call: Call, status: int
) -> None:
    """The wait that the provider asks for comes out of the failure."""
    route.respond(status, headers={"retry-after": "7"})
    assert (await fail(provider, make_call())).retry_after_seconds == 7.0


async def test_wait_until_a_date(provider: RemoteProvider, route: respx.Route, make_call: Call) -> None:
    """A date to wait for is turned into seconds from now."""
    moment = datetime.now(UTC) + timedelta(seconds=100)
    route.respond(429, headers={"retry-after": format_datetime(moment, usegmt=True)})
    wait = (await fail(provider, make_call())).retry_after_seconds
    assert wait is not None
    assert 90 < wait <= 100


async def test_hostile_names(provider: RemoteProvider, route: respx.Route, make_call: Call) -> None:
    """What the other side calls code, type, request or model is not repeated if it is a text or our key."""
    body = {"error": {"code": "sk-canary-7f3a91", "type": "canary essay text", "param": ["x"]}}
    route.respond(400, json=body, headers={"x-request-id": "x" * 300})
    assert (await fail(provider, make_call())).details == {"status": 400}
    route.respond(json={"model": "sk-canary-7f3a91", "choices": []})
    assert (await fail(provider, make_call())).model == "gpt-4o-mini"


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
async def test_broken_exchange(
    provider: RemoteProvider,
    route: respx.Route,
    make_call: Call,
    error: type[httpx.RequestError],
    code: LLMErrorCode,
    retryable: bool,
    billed: bool,
) -> None:
    """A broken exchange says whether it is worth another try and whether it may have cost money."""
    route.mock(side_effect=error("canary-essay"))
    failure = await fail(provider, make_call())
    assert (failure.code, failure.retryable, failure.may_be_billed) == (code, retryable, billed)
    assert "canary" not in repr(failure)
    assert failure.model == "gpt-4o-mini"


def subclasses(kind: type[httpx.RequestError]) -> Iterator[type[httpx.RequestError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from subclasses(child)


def test_every_exception_of_httpx_has_a_meaning() -> None:
    """No exception that a transport may raise escapes the table."""
    for kind in subclasses(httpx.RequestError):
        failure = explain_request_error(kind("canary"))
        assert failure.code in {
            Code.PROVIDER_UNAVAILABLE,
            Code.PROVIDER_TIMEOUT,
            Code.PARSING_ERROR,
            Code.CONFIGURATION_ERROR,
        }
        assert "canary" not in json.dumps([failure.message, failure.details])
