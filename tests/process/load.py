"""Load for process tests: offers comparisons on an absolute schedule, watches topics, keeps the ledger.

An attempt has one of four ends: acked, refused, unknown (the connection broke after it stood) and unreachable
(it never stood). What is unknown or refused with 503 is sent again under its own Idempotency-Key until it is
accepted, so that at the end of a run no request is left of which nobody knows what became of it.
"""

import asyncio
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum
from types import TracebackType
from typing import NamedTuple, Self
from uuid import UUID, uuid4

import httpx
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from service.providers.transport import open_transport
from simulator.load.ledger import Accepted, Fact, Ledger, LedgerReport, Received, Rejected, Verdict
from tests.waiting import HANG_SECONDS

PATH = "/api/v1/comparison"
FIRST_WAIT_SECONDS = 0.03
LONGEST_WAIT_SECONDS = 0.4
LOOK_AGAIN_SECONDS = 0.02
CONSUME_SECONDS = 0.05


class End(StrEnum):
    """How one attempt at handing in a request ended."""

    ACKED = "acked"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    UNREACHABLE = "unreachable"


class Attempt(NamedTuple):
    """One attempt, as it was seen from outside."""

    due_at: float
    """`time.monotonic()` of when it was to be sent: by the schedule, or when its wait was over."""
    seconds: float
    """From then until its end, so that what waits behind a stall is counted as slow."""
    end: End
    status: int | None
    error_code: str | None
    first: bool
    """Whether it was the first attempt at its request."""


class _Answer(NamedTuple):
    end: End
    status: int | None = None
    error_code: str | None = None
    retry_after_seconds: float | None = None
    queue_id: str | None = None


class SharedLedger:
    """The ledger of a run, for the load's event loop and the watch's thread at once."""

    def __init__(self) -> None:
        self._ledger = Ledger()
        self._lock = threading.Lock()

    @property
    def outstanding(self) -> int:
        """Accepted requests without a callback so far."""
        with self._lock:
            return self._ledger.outstanding

    def fold(self, *facts: Fact) -> None:
        """Takes facts in, in any order."""
        with self._lock:
            self._ledger.fold(*facts)

    def report(self) -> LedgerReport:
        """The totals as they stand."""
        with self._lock:
            return self._ledger.report()

    def find(self, *verdicts: Verdict) -> list[str]:
        """The queue ids that were judged so."""
        with self._lock:
            return [queue_id for queue_id, verdict in self._ledger.verdicts() if verdict in verdicts]


class Load:
    """Offers `per_second` comparisons to `urls` from entering until `stop_offering`; an open loop.

    A request stays with its place in `urls`, also when `point_at` puts another address there: an
    Idempotency-Key holds for one queue. With `one_queue` each attempt goes to the next place. Every
    `repeat_every`-th accepted request is handed in once more.
    """

    def __init__(
        self,
        urls: Sequence[str],
        topics: Sequence[str],
        ledger: SharedLedger,
        *,
        per_second: float,
        resend_refused: bool = True,
        give_up_after_seconds: float = HANG_SECONDS,
        attempt_limit_seconds: float = HANG_SECONDS,
        retry_after_scale: float = 0.05,
        repeat_every: int = 0,
        one_queue: bool = False,
        token: str | None = None,
        max_connections: int = 500,
    ) -> None:
        self._urls = list(urls)
        self._topics = list(topics)
        self._ledger = ledger
        self._per_second = per_second
        self._resend_refused = resend_refused
        self._give_up_after_seconds = give_up_after_seconds
        self._attempt_limit_seconds = attempt_limit_seconds
        self._retry_after_scale = retry_after_scale
        self._repeat_every = repeat_every
        self._one_queue = one_queue
        self._token = token
        self._transport = open_transport(
            max_connections=max_connections, connection_wait_seconds=HANG_SECONDS
        )
        self._run = uuid4().hex
        self._numbers = itertools.count(1)
        self._random = random.Random(self._run)
        self._tasks: asyncio.TaskGroup | None = None
        self._offering: asyncio.Task[None] | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        self.attempts: list[Attempt] = []
        self.offered = 0
        self._offered_one = asyncio.Event()
        self.accepted = 0
        self.repeated = 0
        """Accepted requests that were handed in once more and gave the same queue_id."""
        self.unresolved: list[str] = []
        """Keys of requests that nobody accepted or refused within the limit."""
        self.problems: list[str] = []
        """What a correct service never does, a sentence each."""
        self.worst_lag_seconds = 0.0
        """By how much the driver itself was behind its schedule at most."""

    async def __aenter__(self) -> Self:
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        self.offer()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._tasks is not None
        self.stop_offering()
        for task in self._under_way:
            task.cancel()
        try:
            await self._tasks.__aexit__(kind, problem, trace)
        finally:
            await self._transport.aclose()

    def offer(self, per_second: float | None = None) -> None:
        """Begins to offer, or goes on after `stop_offering`; at another rate where one is given."""
        assert self._tasks is not None
        self.stop_offering()
        self._per_second = per_second or self._per_second
        self._offering = self._tasks.create_task(self._keep_offering(), name="offering")

    def stop_offering(self) -> None:
        """No new request from here on; those under way go on."""
        if self._offering is not None:
            self._offering.cancel()
            self._offering = None

    def point_at(self, *urls: str) -> None:
        """Where attempts go from here on, place by place."""
        assert len(urls) == len(self._urls), "each place has one address"
        self._urls[:] = urls

    async def offer_just(self, count: int) -> None:
        """Waits until so many have been offered since entering, and offers no more."""
        await self.offer_some(count - self.offered)
        self.stop_offering()

    async def offer_some(self, more: int) -> None:
        """Waits until so many more have been offered, and goes on offering."""
        wanted = self.offered + more
        while self.offered < wanted:
            self._offered_one.clear()
            await self._offered_one.wait()

    async def resolve(self) -> None:
        """Waits until every request handed in is accepted, refused or given up."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=HANG_SECONDS)
        assert not self._under_way, (
            f"{len(self._under_way)} requests have no answer after {HANG_SECONDS} s; "
            f"ends so far: {dict(self.ends())}"
        )

    def check(self) -> None:
        """Fails where a request stayed unknown or one key gave two requests."""
        assert not self.problems, self.problems[:5]
        assert not self.unresolved, f"{len(self.unresolved)} requests are unknown: {self.unresolved[:5]}"

    def ends(self) -> Counter[str]:
        """How many attempts ended how: `acked`, `unknown`, `unreachable`, `503 LLM_QUEUE_FULL`, …"""
        return Counter(
            f"{attempt.status} {attempt.error_code}" if attempt.end is End.REFUSED else attempt.end.value
            for attempt in self.attempts
        )

    def accept_seconds(self, since: float = 0.0, until: float = float("inf")) -> list[float]:
        """How long acceptance took, sorted: first attempts that were due in a span of `time.monotonic()`."""
        return sorted(
            attempt.seconds
            for attempt in self.attempts
            if attempt.end is End.ACKED and attempt.first and since <= attempt.due_at < until
        )

    async def _keep_offering(self) -> None:
        assert self._tasks is not None
        started = time.monotonic()
        for n in itertools.count():
            due_at = started + n / self._per_second
            ahead = due_at - time.monotonic()
            if ahead > 0:
                await asyncio.sleep(ahead)
            else:
                self.worst_lag_seconds = max(self.worst_lag_seconds, -ahead)
            task = self._tasks.create_task(self._hand_in(next(self._numbers), due_at))
            self.offered += 1
            self._offered_one.set()
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _hand_in(self, number: int, due_at: float) -> None:
        """Sends one request until it is accepted, refused for good, or given up."""
        place = number % len(self._urls)
        topic = self._topics[number % len(self._topics)]
        key, correlation_id = f"{self._run}-{number}", uuid4()
        body = _compose(self._run, number, topic, correlation_id)
        answer = await self._send_until_clear(place, key, body, due_at)
        if answer.queue_id is None:
            return
        self.accepted += 1
        self._ledger.fold(Accepted(answer.queue_id, correlation_id, topic, time.monotonic()))
        if self._repeat_every and self.accepted % self._repeat_every == 0:
            again = await self._send_until_clear(place, key, body, time.monotonic(), first=False)
            if again.queue_id == answer.queue_id:
                self.repeated += 1
            elif again.end is End.ACKED:
                self.problems.append(f"key {key} gave {answer.queue_id} first and {again.queue_id} again")

    async def _send_until_clear(
        self, place: int, key: str, body: bytes, due_at: float, *, first: bool = True
    ) -> _Answer:
        give_up_at = time.monotonic() + self._give_up_after_seconds
        wait_seconds = FIRST_WAIT_SECONDS
        perhaps_accepted = not first
        for turn in itertools.count(not first):
            moved = turn if self._one_queue else 0
            answer = await self._send(self._urls[(place + moved) % len(self._urls)], key, body)
            seconds = time.monotonic() - due_at
            self.attempts.append(
                Attempt(due_at, seconds, answer.end, answer.status, answer.error_code, first)
            )
            first = False
            perhaps_accepted = perhaps_accepted or answer.end is End.UNKNOWN
            if answer.end is End.ACKED:
                return answer
            final = answer.status != 503 or (not self._resend_refused and not perhaps_accepted)
            if answer.end is End.REFUSED and final:
                self._ledger.fold(Rejected(answer.status or 0, answer.error_code))
                return answer
            if time.monotonic() >= give_up_at:
                self.unresolved.append(key)
                return answer
            wait_seconds = min(LONGEST_WAIT_SECONDS, wait_seconds * 1.5)
            told_seconds = (answer.retry_after_seconds or 0.0) * self._retry_after_scale
            await asyncio.sleep(max(told_seconds, wait_seconds) * self._random.uniform(0.7, 1.3))
            due_at = time.monotonic()
        raise AssertionError("there is always a next turn")

    async def _send(self, url: str, key: str, body: bytes) -> _Answer:
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        request = httpx.Request("POST", url + PATH, headers=headers, content=body)
        try:
            async with asyncio.timeout(self._attempt_limit_seconds):
                response = await self._transport.handle_async_request(request)
                try:
                    document = json.loads(await response.aread())
                finally:
                    await response.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
            return _Answer(End.UNREACHABLE)
        except (httpx.TransportError, TimeoutError):
            return _Answer(End.UNKNOWN)
        if response.status_code == 202:
            return _Answer(End.ACKED, 202, queue_id=document["queue_id"])
        return _Answer(
            End.REFUSED,
            response.status_code,
            document["error"]["error_code"],
            float(response.headers.get("retry-after", 0)),
        )


def _compose(run: str, number: int, topic: str, correlation_id: UUID) -> bytes:
    return json.dumps(
        {
            "user_prompt": "Which essay argues better?",
            "essay_a": f"The first essay of request {number} of {run}.",
            "essay_b": f"The second essay of request {number} of {run}.",
            "callback_topic": topic,
            "correlation_id": str(correlation_id),
        }
    ).encode()


class TopicWatch:
    """Reads topics from their beginning, in a thread and without a group, and folds what stands there.

    It reads along from entering to leaving: the embedded broker keeps about 5 MB a partition.
    """

    def __init__(self, bootstrap_servers: str, topics: Sequence[str], ledger: SharedLedger) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
        self._topics = list(topics)
        self._ledger = ledger
        self._stop = threading.Event()
        self._wanted_reading = 0
        self._done_reading = 0
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._run, name="topic-watch", daemon=True)
        self.records = 0
        """How many records were read."""
        self.last_record_at = 0.0
        """`time.monotonic()` of the last of them."""
        self.topic_ends: dict[tuple[str, int], int] = {}
        """The offset after the last record read, by topic and partition."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(HANG_SECONDS + 5)

    async def until_called_back(self, *, quiet_seconds: float = 0.5) -> None:
        """Waits until every accepted request has a callback and nothing has come for `quiet_seconds`."""

        def complete() -> bool:
            return not self._ledger.outstanding and time.monotonic() - self.last_record_at >= quiet_seconds

        await self._wait(complete)
        await self.read_to_end()

    async def read_to_end(self) -> None:
        """Waits until everything is read that stands on the topics at this moment."""
        self._wanted_reading += 1
        wanted = self._wanted_reading
        await self._wait(lambda: self._done_reading >= wanted)

    async def _wait(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + HANG_SECONDS
        while not is_so():
            assert self._problem is None, self._problem
            missing = self._ledger.outstanding
            assert time.monotonic() < deadline, (
                f"{missing} accepted requests have no callback after {HANG_SECONDS:g} s; "
                f"{self.records} records were read"
            )
            await asyncio.sleep(LOOK_AGAIN_SECONDS)

    def _run(self) -> None:
        consumer = Consumer(
            {
                "bootstrap.servers": self._bootstrap_servers,
                "group.id": uuid4().hex,
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "reconnect.backoff.max.ms": 300,
                "fetch.wait.max.ms": 100,
                "log_level": 0,
            }
        )
        try:
            self._assign(consumer)
            while not self._stop.is_set():
                self._fold(consumer.consume(500, timeout=CONSUME_SECONDS))
                if self._done_reading < self._wanted_reading:
                    self._read_to_present_end(consumer)
        except KafkaException as error:
            self._problem = f"the topics cannot be read any more: {error}"
        finally:
            consumer.close()

    def _assign(self, consumer: Consumer) -> None:
        known = consumer.list_topics(timeout=HANG_SECONDS).topics
        consumer.assign(
            [
                TopicPartition(name, partition, 0)
                for name in self._topics
                for partition in known[name].partitions
            ]
        )

    def _read_to_present_end(self, consumer: Consumer) -> None:
        wanted = self._wanted_reading
        # Over a connection of its own: behind a fetch that waits, each question would wait too.
        asked = self._admin.list_offsets(
            {place: OffsetSpec.latest() for place in consumer.assignment()},
            request_timeout=HANG_SECONDS,
        )
        ends = {(place.topic, place.partition): answer.result().offset for place, answer in asked.items()}
        while not self._stop.is_set() and any(
            self.topic_ends.get(place, 0) < end for place, end in ends.items()
        ):
            self._fold(consumer.consume(500, timeout=CONSUME_SECONDS))
        self._done_reading = wanted

    def _fold(self, records: Sequence[Message]) -> None:
        for record in records:
            error = record.error()
            if error is not None:
                if not error.retriable():
                    raise KafkaException(error)
                continue
            self.topic_ends[record.topic(), record.partition()] = record.offset() + 1
            headers = tuple((name, value) for name, value in record.headers() or ())
            now = time.monotonic()
            self._ledger.fold(Received(record.topic(), record.key(), headers, record.value(), now))
            self.records += 1
            self.last_record_at = now
