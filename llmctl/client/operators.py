"""The operators' routes of the service: drain, how it stands, resume."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from llmctl.client.http import open_http, read_refusal, refuse_service, refuse_silence, refuse_stranger
from llmctl.exits import Failed, Unreachable

DRAIN_PATH = "/admin/v1/drain"
RESUME_PATH = "/admin/v1/resume"


@dataclass(frozen=True)
class DrainStatus:
    """How a drain stands: `state` is none, running, done or timed_out."""

    phase: str
    state: str
    in_flight: int
    outbox: int
    queued: int
    finished: int
    """Requests that reached their outcome since the drain began."""

    def describe(self) -> str:
        """The figures in a sentence's part."""
        return (
            f"{self.finished} finished, {self.in_flight} still in flight, "
            f"{self.outbox} callback{'' if self.outbox == 1 else 's'} not delivered, "
            f"{self.queued} left in the queue"
        )

    def describe_briefly(self) -> str:
        """The same for one line of a narrow terminal."""
        return (
            f"{self.in_flight} in flight, {self.outbox} in outbox, "
            f"{self.queued} queued, {self.finished} finished"
        )


class OperatorClient:
    """Orders over one connection; errors say what to do."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url

    async def start_drain(self, timeout_seconds: float, *, until_empty: bool) -> DrainStatus:
        """Closes the service's door and begins to drain."""
        order = {"timeout_seconds": timeout_seconds, "until_empty": until_empty}
        return await self._ask("POST", DRAIN_PATH, order)

    async def read_drain(self) -> DrainStatus:
        """How the drain stands."""
        return await self._ask("GET", DRAIN_PATH)

    async def resume(self) -> DrainStatus:
        """Opens the door again."""
        return await self._ask("POST", RESUME_PATH)

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> DrainStatus:
        try:
            answer = await self._client.request(method, path, json=body)
        except httpx.TimeoutException as problem:
            if isinstance(problem, httpx.ConnectTimeout):
                raise refuse_service(self._url) from problem
            raise refuse_silence(self._url) from problem
        except httpx.ConnectError as problem:
            raise refuse_service(self._url) from problem
        except httpx.TransportError as problem:
            raise Unreachable(f"The connection to {self._url} broke before an answer came.") from problem
        if not answer.is_success:
            refusal = read_refusal(answer, self._url)
            raise Failed(f"The service refuses: {refusal.message} ({refusal.code})")
        try:
            document = answer.json()
            return DrainStatus(**{name: document[name] for name in DrainStatus.__dataclass_fields__})
        except (ValueError, KeyError, TypeError):
            raise refuse_stranger(self._url, answer.status_code) from None


@asynccontextmanager
async def open_operator(url: str, token: str | None = None) -> AsyncIterator[OperatorClient]:
    """A client of the operators' routes at `url`; nothing is sent yet."""
    async with open_http(url, token) as client:
        yield OperatorClient(client, url)
