"""The service's HTTP side, as its callers use it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx

from llmctl.client.http import (
    Refused,
    open_http,
    read_refusal,
    refuse_service,
    refuse_silence,
    refuse_stranger,
)
from llmctl.exits import Unreachable
from service.contracts.requests import LLMQueuedResponse

MAX_RETRY_PAUSE_SECONDS = 10.0
DEFAULT_RETRY_PAUSE_SECONDS = 1.0
RESEND_LIMIT_SECONDS = 10.0
"""So long at least a request is sent again whose answer was lost: it may have been accepted."""
RESEND_PAUSE_SECONDS = 0.25
SUBMIT_PATH = "/api/v1/comparison"
_LOST_ANSWER = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ReadTimeout, httpx.WriteTimeout)


class ServiceClient:
    """Sends comparisons; every method raises Unreachable where no service answers."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url

    async def submit(self, body: bytes, *, retry_limit_seconds: float = 0.0) -> LLMQueuedResponse | Refused:
        """Hands in one comparison, and again under the same key where that may help, for at most so long.

        A 503 is tried again as `Retry-After` says. A connection that broke before the answer came leaves it
        open whether the request was accepted; sent again with its key, it is accepted once.
        """
        headers = {"content-type": "application/json", "idempotency-key": str(uuid4())}
        begun = time.monotonic()
        limit_seconds = retry_limit_seconds
        in_doubt = False
        while True:
            try:
                answer = await self._client.post(SUBMIT_PATH, content=body, headers=headers)
            except httpx.TransportError as problem:
                in_doubt = in_doubt or (isinstance(problem, _LOST_ANSWER) and not _never_sent(problem))
                limit_seconds = max(limit_seconds, RESEND_LIMIT_SECONDS)
                pause_seconds = RESEND_PAUSE_SECONDS
                if not in_doubt or time.monotonic() + pause_seconds > begun + limit_seconds:
                    raise self._explain(problem, in_doubt=in_doubt) from problem
            else:
                pause_seconds = _read_retry_after(answer.headers.get("retry-after"))
                full = answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
                if not full or time.monotonic() + pause_seconds > begun + limit_seconds:
                    if full and in_doubt:  # it says nothing about the one before
                        raise _refuse_doubt(self._url)
                    return self._read(answer)
            await asyncio.sleep(pause_seconds)

    def _explain(self, problem: httpx.TransportError, *, in_doubt: bool) -> Unreachable:
        if not in_doubt and _never_sent(problem):
            return refuse_service(self._url)
        if isinstance(problem, httpx.TimeoutException) and not _never_sent(problem):
            return refuse_silence(self._url)
        return _refuse_doubt(self._url)

    def _read(self, answer: httpx.Response) -> LLMQueuedResponse | Refused:
        if answer.status_code != httpx.codes.ACCEPTED:
            return read_refusal(answer, self._url)
        try:
            return LLMQueuedResponse.model_validate_json(answer.content)
        except ValueError:
            raise refuse_stranger(self._url, answer.status_code) from None


@asynccontextmanager
async def open_service(url: str, token: str | None = None) -> AsyncIterator[ServiceClient]:
    """A client of the service at `url`; nothing is sent yet."""
    async with open_http(url, token) as client:
        yield ServiceClient(client, url)


def _refuse_doubt(url: str) -> Unreachable:
    return Unreachable(
        f"The connection to {url} broke before an answer came, and asking again brought none; "
        "whether that request was accepted is unknown."
    )


def _never_sent(problem: httpx.TransportError) -> bool:
    return isinstance(problem, httpx.ConnectError | httpx.ConnectTimeout)


def _read_retry_after(text: str | None) -> float:
    try:
        seconds = float(text or DEFAULT_RETRY_PAUSE_SECONDS)
    except ValueError:  # a date: its clock is not ours
        seconds = DEFAULT_RETRY_PAUSE_SECONDS
    return min(max(seconds, 0.05), MAX_RETRY_PAUSE_SECONDS)
