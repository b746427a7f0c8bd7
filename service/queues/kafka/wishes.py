"""Cancellations that one replica asks of another: asked and answered on the topic that all replicas read.

Whoever is asked may hold thousands of requests and not know yet that it owns this one's partition. It answers
"no" only when it has read everything that stood there when it was asked, so that no is no.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from service.core.errors import QueueUnavailable
from service.queues.kafka.holdings import Holdings

KEPT_SECONDS = 10.0
"""So long a wish is kept for whoever takes the partition over; nobody waits for it longer."""

CancelHeld = Callable[[str, str | None], Awaitable[bool]]
Write = Callable[[str, Mapping[str, Any]], Awaitable[None]]

_log = structlog.get_logger("service.queue")


@dataclass(frozen=True, slots=True)
class Wish:
    """One request that somebody wants cancelled."""

    queue_id: str
    caller: str | None
    partition: int
    end: int
    """Where the requests of that partition ended when it was asked."""


class CancelWishes:
    """Asks the other replicas, and answers them for the partitions that are owned here."""

    def __init__(self, write: Write, holdings: Holdings) -> None:
        self._write = write
        self._holdings = holdings
        self._asked: dict[str, asyncio.Future[bool]] = {}
        self._open: dict[str, Wish] = {}

    async def ask(self, wish: Wish) -> bool:
        """Whether the owner of the partition has cancelled the request. Raises `QueueUnavailable`."""
        asked = self._asked.setdefault(wish.queue_id, asyncio.get_running_loop().create_future())
        body = {
            "wish": wish.queue_id,
            "caller": wish.caller,
            "partition": wish.partition,
            "end": wish.end,
        }
        try:
            await self._write(wish.queue_id, body)
            return await asyncio.shield(asked)
        finally:
            self._asked.pop(wish.queue_id, None)

    def read(self, body: Mapping[str, Any]) -> Wish | None:
        """Takes in a record of the topic; returns the wish that it expresses."""
        if "granted" in body:
            asked = self._asked.get(body["queue_id"])
            if asked is not None and not asked.done():
                asked.set_result(bool(body["granted"]))
            return None
        wish = Wish(body["wish"], body["caller"], int(body["partition"]), int(body["end"]))
        self._open[wish.queue_id] = wish
        asyncio.get_running_loop().call_later(KEPT_SECONDS, self._open.pop, wish.queue_id, None)
        return wish

    def of_partition(self, number: int) -> list[Wish]:
        """The wishes that are not answered yet, as far as is known here."""
        return [wish for wish in self._open.values() if wish.partition == number]

    async def answer(self, wish: Wish, cancel_held: CancelHeld) -> None:
        """Fulfils a wish, where its partition is owned here until that is done."""
        while self._open.get(wish.queue_id) is wish:
            partition = self._holdings.partitions.get(wish.partition)
            if partition is None:
                return  # whoever owns it answers
            if partition.open and partition.next_request >= wish.end:
                granted = await cancel_held(wish.queue_id, wish.caller)
                if granted or self._holdings.partitions.get(wish.partition) is partition:
                    await self._reply(wish, granted=granted)
                return
            await self._holdings.wait_for_progress()

    async def _reply(self, wish: Wish, *, granted: bool) -> None:
        self._open.pop(wish.queue_id, None)
        try:
            await self._write(wish.queue_id, {"queue_id": wish.queue_id, "granted": granted})
        except QueueUnavailable as error:
            _log.error("a cancellation cannot be confirmed", request_id=wish.queue_id, error=str(error))
