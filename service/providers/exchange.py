"""Makes one HTTP exchange with a provider, within a limit of time and size."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

import httpx

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import ProviderFailure

MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""The largest answer that is read, decompressed; a judgement takes a few kilobytes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response. The body is complete if the status is 200; otherwise it may be empty."""

    status: int
    headers: httpx.Headers
    body: bytes = field(repr=False)


async def exchange(
    transport: httpx.AsyncBaseTransport, request: httpx.Request, *, timeout_seconds: float
) -> Answer:
    """Sends a request and reads the whole response.

    `timeout_seconds` limits everything from the wait for a connection to the last byte. Raises
    `ProviderFailure`; its `may_be_billed` says whether the request can have reached the provider. The status
    and the headers of a refusal decide what it means: its body is left out if it can't be read.
    """
    response: httpx.Response | None = None
    body = b""
    try:
        async with asyncio.timeout(timeout_seconds):
            response = await transport.handle_async_request(request)
            try:
                body = await _read_limited(response)
            finally:
                await response.aclose()
    except ProviderFailure:
        if response is None or response.status_code == httpx.codes.OK:
            raise
    except (TimeoutError, httpx.RequestError) as error:
        if response is None or response.status_code == httpx.codes.OK:
            raise _explain(error, timeout_seconds) from error
    return Answer(response.status_code, response.headers, body)


def _explain(error: TimeoutError | httpx.RequestError, timeout_seconds: float) -> ProviderFailure:
    if isinstance(error, TimeoutError):
        return ProviderFailure(
            LLMErrorCode.PROVIDER_TIMEOUT,
            f"The provider did not answer completely within {timeout_seconds:g} seconds.",
            retryable=True,
            may_be_billed=True,
        )
    return explain_request_error(error)


async def _read_limited(response: httpx.Response) -> bytes:
    stream = response.stream
    assert isinstance(stream, httpx.AsyncByteStream)
    chunks: list[bytes] = []
    size = 0
    async for chunk in stream:
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise ProviderFailure(
                LLMErrorCode.INVALID_RESPONSE,
                f"The provider's answer is larger than {MAX_ANSWER_BYTES} bytes; it was not read further.",
                retryable=False,
                may_be_billed=True,
                details={"status": response.status_code},
            )
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


_OF_REQUEST_ERROR: Final[tuple[tuple[type[httpx.RequestError], LLMErrorCode, bool, bool, str], ...]] = (
    # exception, code, retryable, may be billed, what happened
    (
        httpx.ConnectTimeout,
        LLMErrorCode.PROVIDER_TIMEOUT,
        True,
        False,
        "No connection to the provider came about in time.",
    ),
    (
        httpx.PoolTimeout,
        LLMErrorCode.PROVIDER_TIMEOUT,
        True,
        False,
        "No connection to the provider became free in time.",
    ),
    (
        httpx.TimeoutException,
        LLMErrorCode.PROVIDER_TIMEOUT,
        True,
        True,
        "The provider did not answer in time.",
    ),
    (
        httpx.ConnectError,
        LLMErrorCode.PROVIDER_UNAVAILABLE,
        True,
        False,
        "The provider cannot be reached.",
    ),
    (
        httpx.NetworkError,
        LLMErrorCode.PROVIDER_UNAVAILABLE,
        True,
        True,
        "The connection to the provider broke before the answer was complete.",
    ),
    (
        httpx.UnsupportedProtocol,
        LLMErrorCode.CONFIGURATION_ERROR,
        False,
        False,
        "The provider's base URL cannot be called; check the base URL setting.",
    ),
    (
        httpx.ProxyError,
        LLMErrorCode.PROVIDER_UNAVAILABLE,
        True,
        False,
        "The provider cannot be reached through the proxy.",
    ),
    (
        httpx.RequestError,
        LLMErrorCode.PARSING_ERROR,
        True,
        True,
        "The provider's answer is cut off or no valid HTTP.",
    ),
)
"""First match counts; the last one is the root of the tree, so that nothing is left over."""


def explain_request_error(error: httpx.RequestError) -> ProviderFailure:
    """What a broken exchange means; total over httpx's exceptions."""
    _, code, retryable, may_be_billed, sentence = next(
        row for row in _OF_REQUEST_ERROR if isinstance(error, row[0])
    )
    return ProviderFailure(
        code,
        sentence,
        retryable=retryable,
        may_be_billed=may_be_billed,
        details={"transport": type(error).__name__},
    )
