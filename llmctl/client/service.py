"""The service's HTTP side, as its callers use it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from llmctl.exits import Failed, Unreachable
from service.contracts.requests import LLMQueuedResponse

MAX_CONNECTIONS = 20
IDLE_LIMIT_SECONDS = 2.0  # shorter than servers keep an idle connection, so that none is used as it closes
CONNECT_LIMIT_SECONDS = 5.0
ANSWER_LIMIT_SECONDS = 30.0
MAX_RETRY_PAUSE_SECONDS = 10.0
DEFAULT_RETRY_PAUSE_SECONDS = 1.0
SUBMIT_PATH = "/api/v1/comparison"


@dataclass(frozen=True)
class Refused:
    """The service's refusal of one request: the HTTP status and its `ErrorDetail` as it came."""

    status: int
    error: dict[str, Any]

    @property
    def code(self) -> str:
        """Its `error_code`."""
        return str(self.error.get("error_code", ""))

    @property
    def message(self) -> str:
        """Its sentence."""
        return str(self.error.get("message", ""))


class ServiceClient:
    """Sends comparisons; every method raises Unreachable where no service answers."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url

    async def submit(self, body: bytes, *, retry_limit_seconds: float = 0.0) -> LLMQueuedResponse | Refused:
        """Hands in one comparison; a 503 is tried again as `Retry-After` says, for at most so long."""
        deadline = time.monotonic() + retry_limit_seconds
        while True:
            answer = await self._post(body)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                return self._read(answer)
            pause_seconds = _read_retry_after(answer.headers.get("retry-after"))
            if time.monotonic() + pause_seconds > deadline:
                return self._read(answer)
            await asyncio.sleep(pause_seconds)

    async def _post(self, body: bytes) -> httpx.Response:
        try:
            return await self._client.post(
                SUBMIT_PATH, content=body, headers={"content-type": "application/json"}
            )
        except (httpx.ConnectError, httpx.ConnectTimeout) as problem:
            raise refuse_service(self._url) from problem
        except httpx.TimeoutException as problem:
            raise Unreachable(
                f"The service at {self._url} gave no answer in {ANSWER_LIMIT_SECONDS:g} s; look at its log."
            ) from problem
        except httpx.TransportError as problem:
            # Not sent again: it may be accepted already, and would then be asked and paid for twice.
            raise Unreachable(
                f"The connection to {self._url} broke before an answer came; "
                "whether that request was accepted is unknown."
            ) from problem

    def _read(self, answer: httpx.Response) -> LLMQueuedResponse | Refused:
        try:
            if answer.status_code == httpx.codes.ACCEPTED:
                return LLMQueuedResponse.model_validate_json(answer.content)
            error = answer.json()["error"]
            if answer.is_error and isinstance(error, dict):
                return Refused(answer.status_code, error)
        except (ValueError, KeyError, TypeError):
            pass  # said below, for whatever it was that answered
        raise Failed(
            f"What answers at {self._url} is not this service (HTTP {answer.status_code}); check --url."
        )


@asynccontextmanager
async def open_service(url: str, token: str | None = None) -> AsyncIterator[ServiceClient]:
    """A client of the service at `url`; nothing is sent yet."""
    headers = {"accept": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
    async with httpx.AsyncClient(
        base_url=url,
        headers=headers,
        timeout=httpx.Timeout(ANSWER_LIMIT_SECONDS, connect=CONNECT_LIMIT_SECONDS),
        limits=httpx.Limits(
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=MAX_CONNECTIONS,
            keepalive_expiry=IDLE_LIMIT_SECONDS,
        ),
        trust_env=False,  # a proxy for the web is none for this service
    ) as client:
        yield ServiceClient(client, url)


def refuse_service(url: str) -> Unreachable:
    """The error that says that nobody answers there, and what to do about it."""
    return Unreachable(
        f"No service answers at {url}; start one with `llmctl up`, or name another with --url."
    )


def _read_retry_after(text: str | None) -> float:
    try:
        seconds = float(text or DEFAULT_RETRY_PAUSE_SECONDS)
    except ValueError:  # a date: its clock is not ours
        seconds = DEFAULT_RETRY_PAUSE_SECONDS
    return min(max(seconds, 0.05), MAX_RETRY_PAUSE_SECONDS)
