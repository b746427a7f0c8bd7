"""The queue at work on a recorded disk, and its rows after each of many power cuts.

    python -m tests.ports.power_run [--cuts 10000] [--seed 1] [--synchronous NORMAL]

Prints what was found as one line of JSON; exits with 1 where anything was wrong.
"""

import argparse
import asyncio
import itertools
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from service.contracts.codec import SealedEnvelope
from service.contracts.requests import LLMComparisonRequest, QueuedRequest
from service.core.errors import QueueUnavailable
from service.core.outcome import Spent, Usage
from service.core.records import Callback, Claim, OutboxEntry
from service.queues.sqlite.file import Row, Statement
from service.queues.sqlite.queue import SqliteQueue
from tests.ports.power import (
    Acknowledged,
    Begun,
    Disk,
    Found,
    Promises,
    Recorder,
    Sync,
    find_early_acknowledgements,
)
from tests.ports.wal import find_forged_pages

FILE_NAME = "queue.db"
TOPICS = ("essays.results", "essays.other")
CALLER = "caller"
CUTS_PER_RUN = 250
RUNS_PER_FILE = 4
"""The first of them creates the file; each further one begins on a disk that a cut of the one before left."""
LIVES = 2
"""How often a run opens and closes the file."""
ACTORS = 10
STEPS_PER_ACTOR = 25
CHECKPOINT_PAGES = 40
"""Small, so that a run has many checkpoints, and cuts within them."""
EXAMPLES_KEPT = 5


class Workload:
    def __init__(
        self, recorder: Recorder, path: Path, dice: random.Random, found: Found, synchronous: str | None
    ) -> None:
        self._recorder = recorder
        self._synchronous = synchronous
        self._path = path
        self._dice = dice
        self._steps = itertools.count(1)
        self._queue = SqliteQueue(path)
        self._reached = Counter({topic: int(str(found.get((topic, "written"), 0))) for topic in TOPICS})
        self._parked: set[str] = set()

    async def live(self) -> None:
        queue = self._queue = SqliteQueue(self._path)
        queue._file._vfs = self._recorder.name
        await queue.open()
        connection = queue._file._connection
        assert connection is not None
        connection.pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        if self._synchronous is not None:
            connection.pragma("synchronous", self._synchronous)
        await self._settle_doubts()
        async with asyncio.TaskGroup() as actors:
            for _ in range(ACTORS):
                actors.create_task(self._act())
        await queue.close()

    @contextmanager
    def _asking(self, *changes: tuple[str, str, object], trace: bytes | None = b"") -> Iterator[None]:
        step = next(self._steps)
        self._recorder.entries.append(Begun(step, changes, trace))
        yield
        self._recorder.entries.append(Acknowledged(step))

    async def _act(self) -> None:
        for _ in range(STEPS_PER_ACTOR):
            await self._dice.choices((self._put, self._work, self._send, self._resend), (10, 9, 8, 1))[0]()

    async def _put(self) -> None:
        request = make_request(self._dice)
        row = request.queue_id
        changes: list[tuple[str, str, object]] = [
            (row, "place", "queue"),
            (row, "payload", request.model_dump_json().encode()),
            (row, "attempts", 0),
        ]
        if request.idempotency_key is not None:
            changes.append((row, "key", "open"))
        with self._asking(*changes, trace=row.encode()):
            await self._queue.put(request)

    async def _work(self) -> None:
        if not self._queue._backlog:
            return
        claims = await self._queue.claim(self._dice.randint(1, 4))
        counted = [(claim.request.queue_id, "attempts", claim.attempt) for claim in claims]
        with self._asking(*counted, trace=None):
            pass
        await asyncio.gather(*(self._end_attempt(claim) for claim in claims))

    async def _end_attempt(self, claim: Claim) -> None:
        row = claim.request.queue_id
        if self._dice.random() < 0.2:
            spent = Spent(Usage(claim.attempt, self._dice.randrange(10**6)))
            with self._asking((row, "spent", orjson.dumps(spent))):
                await self._queue.retry(claim, 0.0, spent)
            return
        callback = make_callback(claim, self._dice)
        changes: list[tuple[str, str, object]] = [
            (row, "place", "outbox"),
            (row, "callback", describe_callback(callback)),
        ]
        if claim.request.idempotency_key is not None:
            changes.append((row, "key", "ended"))
        with self._asking(*changes, trace=callback.sealed.value[:40]):
            await self._queue.complete(claim, callback)

    async def _send(self) -> None:
        outbox = self._queue.outbox
        entries = await outbox.take(self._dice.randint(1, 6))
        for topic in sorted({entry.callback.topic for entry in entries}):
            if not self._reached[topic]:
                self._reached[topic] = 1
                with self._asking((topic, "written", 1)):
                    await outbox.begin_topic(topic, {0: 1})
        delivered: list[OutboxEntry] = []
        for entry in entries:
            fate = self._dice.random()
            if fate < 0.1:
                outbox.put_back(entry)
            elif fate < 0.25:
                await self._park(entry)
            else:
                delivered.append(entry)
        if not delivered:
            return
        changes: list[tuple[str, str, object]] = []
        for entry in delivered:
            topic = entry.callback.topic
            self._reached[topic] += 1
            changes.append((entry.callback.queue_id, "place", "nowhere"))
        ends = {entry.callback.topic: {0: self._reached[entry.callback.topic]} for entry in delivered}
        changes.extend((topic, "written", reached[0]) for topic, reached in ends.items())
        with self._asking(*changes):
            await outbox.delivered(delivered, ends)

    async def _park(self, entry: OutboxEntry) -> None:
        row = entry.callback.queue_id
        with self._asking((row, "parked", "MESSAGE_TOO_LARGE")):
            await self._queue.outbox.park(entry, "MESSAGE_TOO_LARGE")
        self._parked.add(row)

    async def _resend(self) -> None:
        rows, self._parked = self._parked, set()
        if rows:
            with self._asking(*((row, "parked", None) for row in sorted(rows))):
                await self._queue.outbox.resend(rows)

    async def _settle_doubts(self) -> None:
        outbox = self._queue.outbox
        sequences = {row[0]: row[1] for row in await self._read("SELECT sequence, queue_id FROM callback")}
        while outbox._doubts._waiting:
            topic, doubts = await outbox.take_doubtful()
            standing = [doubt for doubt in doubts if self._dice.random() < 0.5]
            forgotten = [(sequences[doubt.sequence], "place", "nowhere") for doubt in standing]
            with self._asking(*forgotten, trace=b"" if forgotten else None):
                await outbox.settle(topic, doubts, {doubt.event_id for doubt in standing})

    async def _read(self, sql: str) -> list[Row]:
        return await self._queue._file.submit((), query=Statement(sql))


def make_request(dice: random.Random) -> QueuedRequest:
    data = LLMComparisonRequest(
        user_prompt="p",
        essay_a="a" * int(dice.paretovariate(0.6) * 50 % 30_000 + 1),
        essay_b="b",
        callback_topic=dice.choice(TOPICS),
    )
    now = datetime.now(UTC)
    row = f"{dice.getrandbits(128):032x}"
    return QueuedRequest(
        queue_id=row,
        correlation_id=data.correlation_id,
        callback_topic=data.callback_topic,
        request_data=data,
        queued_at=now,
        expires_at=now + timedelta(hours=1),
        caller=CALLER,
        idempotency_key=row if dice.random() < 0.67 else None,
        body_digest="digest",
    )


def make_callback(claim: Claim, dice: random.Random) -> Callback:
    return Callback(
        claim.request.queue_id,
        claim.request.callback_topic,
        str(claim.request.correlation_id),
        SealedEnvelope(
            f"callback {dice.getrandbits(128):032x}".encode() + dice.randbytes(dice.randrange(3000)),
            (("h", dice.randbytes(4)),),
        ),
        dice.random() < 0.8,
        claim.request.queued_at.timestamp(),
    )


def describe_callback(callback: Callback) -> tuple[object, ...]:
    return callback.topic, callback.key, callback.success, callback.sealed.headers, callback.sealed.value


async def look(path: Path) -> dict[tuple[str, str], object]:
    """Opens a file with the real queue; what stands in it, also as the queue itself tells it.

    Raises `QueueUnavailable`, and `AssertionError` where the queue tells something else than the file.
    """
    queue = SqliteQueue(path)
    await queue.open()
    try:
        return await _look_into(queue)
    finally:
        await queue.close()


async def _look_into(queue: SqliteQueue) -> dict[tuple[str, str], object]:
    found: dict[tuple[str, str], object] = {}

    async def read(sql: str) -> list[Row]:
        return await queue._file.submit((), query=Statement(sql))

    # Also what no statement above comes across: the next life would find the damage in the middle of work.
    damage = [row[0] for row in await read("PRAGMA integrity_check")]
    assert damage == ["ok"], damage[0]
    requests = await read("SELECT payload, attempts, spent FROM request")
    callbacks = await read(
        "SELECT queue_id, topic, key, success, headers, value, parked_reason FROM callback"
    )
    for payload, attempts, spent in requests:
        row = orjson.loads(payload)["queue_id"]
        found[row, "place"] = "queue"
        found[row, "payload"] = payload
        found[row, "attempts"] = attempts
        found[row, "spent"] = spent
    for row, topic, key, success, headers, value, parked in callbacks:
        found[row, "place"] = "both" if (row, "place") in found else "outbox"
        pairs = tuple((name, text.encode("latin-1")) for name, text in orjson.loads(headers))
        found[row, "callback"] = (topic, key, bool(success), pairs, value)
        found[row, "parked"] = parked
    for row, ended in await read("SELECT queue_id, ended_unix_seconds IS NOT NULL FROM idempotency"):
        found[row, "key"] = "ended" if ended else "open"
    for topic, offset in await read("SELECT topic, offset FROM written"):
        found[topic, "written"] = offset

    assert queue.stats().waiting == len(requests)
    assert queue.outbox.depth() + queue.outbox.parked() == len(callbacks)
    if requests:
        claims = await queue.claim(len(requests))
        assert {claim.request.model_dump_json().encode() for claim in claims} == {row[0] for row in requests}
    return found


@dataclass
class Report:
    seed: int
    cuts: int = 0
    acknowledged: int = 0
    """Promises in all runs."""
    early_acknowledgements: int = 0
    log_syncs: int = 0
    checkpoints: int = 0
    bad_cuts: int = 0
    forged_pages: int = 0
    """Cuts of which SQLite's own checksum does not see what they tore (see `wal.py`); not among the bad."""
    losing_cuts: int = 0
    wrongs: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_clean(self) -> bool:
        return self.bad_cuts == self.early_acknowledgements == 0

    def note(self, where: str, wrongs: Sequence[tuple[str, str]]) -> None:
        self.cuts += 1
        self.bad_cuts += bool(wrongs)
        self.losing_cuts += any(kind in {"lost", "refused", "unreadable"} for kind, _ in wrongs)
        self.wrongs.update(kind for kind, _ in wrongs)
        if wrongs and len(self.examples) < EXAMPLES_KEPT:
            kind, sentence = wrongs[0]
            self.examples.append(f"{where}: {kind}: {sentence}")


async def judge(path: Path, promises: Promises) -> tuple[Found, list[tuple[str, str]]]:
    try:
        found = await look(path)
    except QueueUnavailable as error:
        return {}, [("refused", str(error))]
    except (AssertionError, LookupError, ValueError) as error:
        return {}, [("unreadable", f"{type(error).__name__}: {error}")]
    return found, list(promises.judge(found))


class PowerCuts:
    def __init__(self, seed: int, folder: Path, keep: Path | None, synchronous: str | None) -> None:
        self.report = Report(seed)
        self._synchronous = synchronous
        self._folder = folder
        self._keep = keep
        self._image: dict[str, bytes] = {}
        self._found: Found = {}

    def run(self, cuts: int) -> None:
        began = time.monotonic()
        with asyncio.Runner() as runner:
            for number in itertools.count():
                if self.report.cuts >= cuts:
                    break
                if number % RUNS_PER_FILE == 0:
                    self._image, self._found = {}, {}
                self._cut_run(number, min(CUTS_PER_RUN, cuts - self.report.cuts), runner)
        self.report.seconds = time.monotonic() - began

    def _cut_run(self, number: int, cuts: int, runner: asyncio.Runner) -> None:
        dice = random.Random(f"{self.report.seed} {number}")
        with write_image(self._image, self._folder) as path:
            recorder = Recorder(path.parent)
            workload = Workload(recorder, path, dice, self._found, self._synchronous)
            for _ in range(LIVES):
                runner.run(workload.live())
            recorder.unregister()
        self.report.early_acknowledgements += len(find_early_acknowledgements(recorder))
        synced = Counter(entry.file for entry in recorder.entries if isinstance(entry, Sync))
        self.report.checkpoints += synced.pop(recorder.files[FILE_NAME], 0)
        self.report.log_syncs += synced.total()
        next_image: dict[str, bytes] = {}
        next_found: Found = {}
        positions = Counter(dice.choices(range(1, len(recorder.entries) + 1), k=cuts))
        promises = Promises(self._found)
        for position, disk in follow(recorder, promises):
            for _ in range(positions[position]):
                image = disk.cut(dice)
                with write_image(image, self._folder) as path:
                    found, wrongs = runner.run(judge(path, promises))
                where = f"seed {self.report.seed}, run {number}, entry {position}"
                if not wrongs and (not next_image or dice.random() < 0.1):
                    next_image, next_found = image, found
                if wrongs and find_forged_pages(recorder.entries[:position], image):
                    self.report.forged_pages += 1
                    self.report.cuts += 1
                    continue
                if wrongs and self._keep is not None and self.report.bad_cuts == 0:
                    where += f", kept in {self._keep}"
                    fill(self._keep, image)
                self.report.note(where, wrongs)
        self.report.acknowledged += promises.acknowledged
        self._image, self._found = next_image, next_found


def cut_power(cuts: int, seed: int, *, keep: Path | None = None, synchronous: str | None = None) -> Report:
    """Cuts the power this many times.

    `keep` is a folder for the first disk with something wrong on it. `synchronous` replaces the queue's own
    level of that SQLite pragma, to show that a weaker one is convicted.
    """
    # Where there is a file system in memory, the syncs of ten thousand openings cost nothing.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, prefix="power-") as name:
        power_cuts = PowerCuts(seed, Path(name), keep, synchronous)
        power_cuts.run(cuts)
        return power_cuts.report


def follow(recorder: Recorder, promises: Promises) -> Iterator[tuple[int, Disk]]:
    disk = Disk(recorder.before)
    for position, entry in enumerate(recorder.entries, start=1):
        disk.follow(entry)
        promises.follow(entry)
        yield position, disk


@contextmanager
def write_image(image: Mapping[str, bytes], folder: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=folder) as name:
        fill(Path(name), image)
        yield Path(name) / FILE_NAME


def fill(folder: Path, image: Mapping[str, bytes]) -> None:
    for name, data in image.items():
        (folder / name).write_bytes(data)


def main() -> int:
    parser = argparse.ArgumentParser(description="Power cuts under the queue.")
    parser.add_argument("--cuts", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--synchronous", choices=["OFF", "NORMAL", "FULL"], help="instead of the queue's own")
    options = parser.parse_args()
    report = cut_power(options.cuts, options.seed, synchronous=options.synchronous)
    print(json.dumps(vars(report)))
    return int(not report.is_clean)


if __name__ == "__main__":
    sys.exit(main())
