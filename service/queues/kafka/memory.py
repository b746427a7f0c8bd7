"""What all replicas of the Kafka queue remember together: idempotency keys, and what a day has cost.

What replicas ask each other (`wishes.py`) stands on the same topic.

A topic of one partition, which every replica reads whole. Its order decides: the first record that names a
queue id for a key whose window is not over wins, whoever wrote it, and every replica comes to that verdict.
A replica that has written such a record reads up to it before it answers.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import orjson
import structlog

from service.contracts.codec import SealedEnvelope
from service.contracts.requests import QueuedRequest
from service.core.charges import UNKNOWN, Charge, ChargeBook, DayCharge, Payer, find_charge
from service.core.errors import QueueUnavailable, QueueUncertain
from service.core.outcome import Spent
from service.core.records import Claim, Receipt
from service.queues.kafka.writer import KafkaWriter

READ_LIMIT_SECONDS = 120.0
"""While the broker is away whoever waits is better off waiting than told that nothing was accepted."""
STORE_EVERY_SECONDS = 1.0
"""What was spent within this time before a crash is forgotten by the day's budget."""
PARTITION = 0

Scope = tuple[str | None, str]
"""A caller and its key."""

_log = structlog.get_logger("service.queue")


@dataclass(slots=True)
class _Key:
    receipt: Receipt
    ended_unix_seconds: float | None = None


class SharedMemory:
    """Keys and costs, as far as the topic was read; `read` takes in its records in their order."""

    def __init__(self, writer: KafkaWriter, topic: str, replica: str, ttl_seconds: float) -> None:
        self._writer = writer
        self._topic = topic
        self._replica = replica
        self._ttl_seconds = ttl_seconds
        self._keys: dict[Scope, _Key] = {}
        self._of_others: dict[str, ChargeBook] = {}
        """What each other replica has used."""
        self._own = ChargeBook()
        """What this one has used, also what is not written yet."""
        self._charged: set[date] = set()
        """The days on which this process has used something: of those it knows better than the topic."""
        self._unwritten: set[date] = set()
        self._something_spent = asyncio.Event()
        self.position = 0
        """The offset of the record that is read next."""
        self._advanced = asyncio.Event()
        self.on_key: Callable[[Scope], None] = lambda _: None
        """Told whenever a key has got its queue id."""
        self.on_wish: Callable[[Mapping[str, Any]], None] = lambda _: None
        """Told what is asked and answered of cancellations."""

    def read(self, offset: int, timestamp_milliseconds: int, value: bytes | None) -> None:
        """Takes in one record."""
        self.position = offset + 1
        try:
            self._apply(orjson.loads(value or b""), timestamp_milliseconds / 1000)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            _log.error(
                "a record of the queue's memory cannot be read and is passed over",
                topic=self._topic,
                offset=offset,
                error=type(error).__name__,
            )
        self._wake()

    def find(self, scope: Scope) -> Receipt | None:
        """What was accepted under a key whose window is open."""
        known = self._keys.get(scope)
        return None if known is None or self._is_over(known, time.time()) else known.receipt

    async def claim(self, request: QueuedRequest) -> Receipt:
        """Names a durable request under its key; returns whose the key is: its own, or an earlier one's.

        Raises `QueueUncertain`: the request itself is durable.
        """
        scope = (request.caller, request.idempotency_key or "")
        receipt = Receipt(
            request.queue_id, request.correlation_id, request.callback_topic, request.body_digest or ""
        )
        try:
            await self._write_key(scope, receipt, None)
        except QueueUnavailable as error:
            raise QueueUncertain("The queue's memory could not name a request that is durable.") from error
        found = self.find(scope)
        if found is None:
            raise QueueUncertain("The queue's memory lost a key that was just written.")
        return found

    async def end(self, scope: Scope, queue_id: str) -> None:
        """The request of a key is over: its window begins to run. Raises `QueueUnavailable`."""
        known = self._keys.get(scope)
        if known is not None and known.receipt.queue_id == queue_id and known.ended_unix_seconds is None:
            await self._write_key(scope, known.receipt, time.time())

    def forget_ended(self) -> int:
        """Forgets keys whose window is over; returns how many."""
        now = time.time()
        over = [scope for scope, known in self._keys.items() if self._is_over(known, now)]
        for scope in over:
            del self._keys[scope]
        return len(over)

    def charge(self, claim: Claim, spent: Spent) -> None:
        """Adds to what this day has used; `keep_storing` writes it."""
        found = find_charge(claim.request.caller, claim.spent, spent)
        if found is not None:
            today = datetime.now(UTC).date()
            self._own.add(today, *found)
            self._charged.add(today)
            self._unwritten.add(today)
            self._something_spent.set()

    async def keep_storing(self) -> None:
        """Writes what was spent, once a second at most. Runs until cancelled."""
        while True:
            await self._something_spent.wait()
            await asyncio.sleep(STORE_EVERY_SECONDS)
            try:
                await self.store()
            except QueueUnavailable as error:
                _log.warning("what was spent cannot be written yet", error=str(error))
                self._something_spent.set()

    async def store(self) -> None:
        """Writes what was spent and not written yet. Raises `QueueUnavailable`."""
        self._something_spent.clear()
        for day in sorted(self._unwritten):
            self._unwritten.discard(day)
            used = [
                [payer.caller, payer.provider, payer.model, *astuple(charge)]
                for payer, charge in self._own.of_day(day).items()
            ]
            try:
                await self.write(
                    self._replica, {"day": day.isoformat(), "replica": self._replica, "used": used}
                )
            except QueueUnavailable:
                self._unwritten.add(day)
                raise

    def spent_usd(self, day: date) -> float:
        """What all replicas have spent on a day, as far as it is known here."""
        return self.spent_elsewhere_usd(day) + self._own.usd_of(day)

    def spent_elsewhere_usd(self, day: date) -> float:
        """What other replicas have spent on a day, as far as it is known here."""
        return sum(book.usd_of(day) for book in self._of_others.values())

    def list_charges(self, since: date) -> list[DayCharge]:
        """What all replicas have used since a day, as far as it is known here."""
        together = ChargeBook()
        for book in (self._own, *self._of_others.values()):
            for each in book.list_since(since):
                together.add(each.day, each.payer, each.charge)
        return list(together.list_since(since))

    async def _write_key(self, scope: Scope, receipt: Receipt, ended_unix_seconds: float | None) -> None:
        caller, key = scope
        body = {
            "caller": caller,
            "key": key,
            "queue_id": receipt.queue_id,
            "correlation_id": str(receipt.correlation_id),
            "callback_topic": receipt.callback_topic,
            "body_digest": receipt.body_digest,
            "ended": ended_unix_seconds,
        }
        await self.write(key, body)

    async def write(self, key: str, body: Mapping[str, Any]) -> None:
        """Writes a record and reads up to it."""
        offset = await self._writer.write(self._topic, PARTITION, key, SealedEnvelope(orjson.dumps(body), ()))
        if offset is None:  # the broker took it before, at a place that it did not say
            raise QueueUnavailable("The queue's memory cannot tell where its record stands.")
        try:
            async with asyncio.timeout(READ_LIMIT_SECONDS):
                while self.position <= offset:
                    await self._advanced.wait()
        except TimeoutError:
            raise QueueUnavailable("The queue's memory cannot be read at the moment.") from None

    def _apply(self, body: Mapping[str, Any], at_unix_seconds: float) -> None:
        if "wish" in body or "granted" in body:
            self.on_wish(body)
            return
        if "day" in body:
            self._apply_charges(date.fromisoformat(body["day"]), body["replica"], body)
            return
        scope = (body["caller"], body["key"])
        known = self._keys.get(scope)
        ended = body["ended"]
        if known is not None and known.receipt.queue_id == body["queue_id"]:
            known.ended_unix_seconds = known.ended_unix_seconds or ended
        elif known is None or self._is_over(known, at_unix_seconds):
            receipt = Receipt(
                body["queue_id"], UUID(body["correlation_id"]), body["callback_topic"], body["body_digest"]
            )
            self._keys[scope] = _Key(receipt, ended)
            self.on_key(scope)

    def _apply_charges(self, day: date, replica: str, body: Mapping[str, Any]) -> None:
        if replica == self._replica:
            if day in self._charged:
                return
            book = self._own  # ours of before a restart
        else:
            book = self._of_others.setdefault(replica, ChargeBook())
        if "used" not in body:  # of a version that noted the sum alone
            book.replace(day, [(Payer(None, UNKNOWN, UNKNOWN), Charge(usd=float(body["usd"])))])
            return
        book.replace(
            day,
            [
                (Payer(caller, provider, model), Charge(*used))
                for caller, provider, model, *used in body["used"]
            ],
        )

    def _is_over(self, known: _Key, now_unix_seconds: float) -> bool:
        ended = known.ended_unix_seconds
        return ended is not None and ended + self._ttl_seconds <= now_unix_seconds

    def _wake(self) -> None:
        self._advanced.set()
        self._advanced = asyncio.Event()
