"""Hands requests in over HTTP: a few at a time, each under its key, all with one patience."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

import httpx

from llmctl.client.http import Refused as Refusal
from llmctl.client.http import read_refusal
from llmctl.client.patience import Patience
from llmctl.client.problems import Refused, ServiceOutOfReach, say_parameters
from llmctl.client.service import SUBMIT_PATH, ServiceClient
from llmctl.exits import CliError
from service.contracts.error_codes import LLMErrorCode
from service.contracts.requests import LLMQueuedResponse

SENT_AT_ONCE = 8
"""Of 1,000 at once: with 8 one costs the half of what it does with 20, as httpx looks at all connections."""


class Sender:
    """Speaks to one service, with so few at once that none waits for a connection."""

    def __init__(self, client: httpx.AsyncClient, url: str, retry_limit_seconds: float) -> None:
        self._client = client
        self._url = url
        self._service = ServiceClient(client, url)
        self._turns = asyncio.Semaphore(SENT_AT_ONCE)
        self._patience = Patience(retry_limit_seconds)
        self._under_way = 0

    async def submit(self, body: bytes, key: str) -> LLMQueuedResponse:
        """The service's 202; Refused, or ServiceOutOfReach with the key."""
        try:
            async with self._turns, self._share_patience() as patience:
                answer = await self._service.submit(body, key=key, patience=patience)
        except CliError as problem:
            raise ServiceOutOfReach(say_parameters(str(problem)), idempotency_key=key) from problem
        if isinstance(answer, Refusal):
            raise Refused(answer)
        return answer

    async def cancel(self, queue_id: str) -> bool:
        """Whether there was something to cancel; Refused or ServiceOutOfReach."""
        try:
            async with self._turns:
                answer = await self._client.delete(f"{SUBMIT_PATH}/{quote(queue_id, safe='')}")
            if answer.status_code == httpx.codes.ACCEPTED:
                return True
            refusal = read_refusal(answer, self._url)
        except httpx.TransportError as problem:
            raise ServiceOutOfReach(
                f"The service at {self._url} did not answer whether {queue_id} is cancelled; ask again."
            ) from problem
        except CliError as problem:
            raise ServiceOutOfReach(say_parameters(str(problem))) from problem
        if refusal.code == LLMErrorCode.NOT_FOUND.value:
            return False
        raise Refused(refusal)

    @asynccontextmanager
    async def _share_patience(self) -> AsyncIterator[Patience]:
        """The patience of all who send at this time; what others were refused earlier does not count."""
        if not self._under_way:
            heard = self._patience.heard
            self._patience = Patience(self._patience.limit_seconds)
            self._patience.heard = heard
        self._under_way += 1
        try:
            yield self._patience
        finally:
            self._under_way -= 1
