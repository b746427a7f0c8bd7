"""The service's HTTP side, as its callers use it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from math import isfinite
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
from llmctl.client.patience import Patience
from llmctl.exits import Unreachable
from llmctl.masking import mask_url
from llmctl.tracing import NoTracer, Tracer
from service.contracts.requests import LLMQueuedResponse

DEFAULT_RETRY_PAUSE_SECONDS = 1.0
LEAST_RETRY_PAUSE_SECONDS = 0.05
RESEND_LIMIT_SECONDS = 10.0
"""So long at least a request is sent again whose answer was lost: it may have been accepted."""
RESEND_PAUSE_SECONDS = 0.25
SUBMIT_PATH = "/api/v1/comparison"
FULL, AWAY = "service takes none", "service is away"
_LOST_ANSWER = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ReadTimeout, httpx.WriteTimeout)

_GATEWAYS = (httpx.codes.BAD_GATEWAY, httpx.codes.GATEWAY_TIMEOUT)
"""What a load balancer says of a service that broke off or did not answer in time."""


@dataclass(frozen=True)
class _Trouble:
    """Why an attempt is to be made again."""

    why: str
    pause_seconds: float
    answered: bool
    in_doubt: bool
    """The request may have been accepted."""


class ServiceClient:
    """Sends comparisons; every method raises Unreachable where no service answers."""

    def __init__(self, client: httpx.AsyncClient, url: str, tracer: Tracer | None = None) -> None:
        self._client = client
        self._url = url
        self._tracer = tracer or NoTracer()

    async def submit(
        self, body: bytes, *, key: str | None = None, patience: Patience | None = None
    ) -> LLMQueuedResponse | Refused:
        """Hands in one comparison, and again under the same key where that may help, as far as patience goes.

        A 503 is tried again as `Retry-After` says. A connection that broke before the answer came leaves it
        open whether the request was accepted; sent again with its key, it is accepted once. A service that
        has answered before and is gone is waited for. A Refused with 503 means that patience is at its end.
        """
        with self._tracer.submitting() as traceparent:
            headers = {"content-type": "application/json", "idempotency-key": key or str(uuid4())}
            if traceparent is not None:
                headers["traceparent"] = traceparent
            return await self._submit(body, headers, patience or Patience())

    async def _submit(
        self, body: bytes, headers: Mapping[str, str], shared: Patience
    ) -> LLMQueuedResponse | Refused:
        in_doubt = False
        while True:
            async with shared.turn():
                begun_at = time.monotonic()
                got = await self._post(body, headers)
                trouble = _find_trouble(got)
                if trouble is None:
                    assert isinstance(got, httpx.Response)
                    shared.open()
                    return self._read(got)
                in_doubt = in_doubt or trouble.in_doubt
                shared.heard = shared.heard or trouble.answered
                if not (in_doubt or shared.heard) or not shared.bear(
                    trouble.why,
                    trouble.pause_seconds,
                    begun_at,
                    at_least_seconds=RESEND_LIMIT_SECONDS if in_doubt else 0.0,
                ):
                    return self._give_up(got, in_doubt=in_doubt)

    async def _post(self, body: bytes, headers: Mapping[str, str]) -> httpx.Response | httpx.TransportError:
        try:
            return await self._client.post(SUBMIT_PATH, content=body, headers=headers)
        except httpx.TransportError as problem:
            return problem

    def _give_up(self, got: httpx.Response | httpx.TransportError, *, in_doubt: bool) -> Refused:
        if isinstance(got, httpx.TransportError):
            raise self._explain(got, in_doubt=in_doubt) from got
        refused = read_refusal(got, self._url)
        if in_doubt:  # a refusal says nothing about the attempt before
            raise _refuse_doubt(self._url)
        return refused

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
async def open_service(
    url: str, token: str | None = None, tracer: Tracer | None = None
) -> AsyncIterator[ServiceClient]:
    """A client of the service at `url`; nothing is sent yet. What it sends is told to the tracer."""
    async with open_http(url, token) as client:
        yield ServiceClient(client, url, tracer)


def _find_trouble(got: httpx.Response | httpx.TransportError) -> _Trouble | None:
    """What speaks for another attempt; None where the answer is final."""
    if isinstance(got, httpx.TransportError):
        lost = isinstance(got, _LOST_ANSWER) and not _never_sent(got)
        return _Trouble(AWAY, RESEND_PAUSE_SECONDS, answered=False, in_doubt=lost)
    if got.status_code in _GATEWAYS:
        return _Trouble(AWAY, RESEND_PAUSE_SECONDS, answered=False, in_doubt=True)
    if got.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        return _Trouble(FULL, _read_pause(got.headers), answered=True, in_doubt=False)
    return None


def _refuse_doubt(url: str) -> Unreachable:
    return Unreachable(
        f"The connection to {mask_url(url)} broke before an answer came, and asking again brought none; "
        "whether that request was accepted is unknown."
    )


def _never_sent(problem: httpx.TransportError) -> bool:
    return isinstance(problem, httpx.ConnectError | httpx.ConnectTimeout)


def _read_pause(headers: httpx.Headers) -> float:
    """The seconds of `Retry-After`, which says either them or a date (RFC 9110, 10.2.3)."""
    said = headers.get("retry-after", "")
    try:
        seconds = float(said)
    except ValueError:
        try:  # by the service's own clock, not by ours
            then, now = (parsedate_to_datetime(text) for text in (said, headers.get("date", "")))
            seconds = (then - now).total_seconds()
        except (ValueError, TypeError):
            seconds = DEFAULT_RETRY_PAUSE_SECONDS
    return max(seconds, LEAST_RETRY_PAUSE_SECONDS) if isfinite(seconds) else DEFAULT_RETRY_PAUSE_SECONDS
