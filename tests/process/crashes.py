"""The crash harness: load all the time, the service killed again and again, and a verdict at checkpoints.

Broker and provider run in processes of their own and live on; what is killed is the real service on one queue
file. `test_crashes.py` and `test_faults.py` run it.
"""

import asyncio
import json
import os
import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from simulator.broker.control import BrokerControl, TopicSpec
from tests.conftest import ROOT, Launcher
from tests.free_ports import find_free_ports
from tests.process.conftest import configure_service, find_openai, start_provider
from tests.process.doomed_service import POINTS
from tests.process.load import Load, SharedLedger, TopicWatch
from tests.waiting import HANG_SECONDS, open_client

ANY_INSTANT = "any-instant"
SIGTERM_ANY_INSTANT = "sigterm-any-instant"
READ_BACK_POINTS = tuple(point for point in POINTS if point.startswith("read-back"))
SENDING_POINTS = ("in-send", "after-broker-ack-before-delete", "after-delete")
TOPIC_BEGUN = "topic-begun"
RECURRING_POINTS = tuple(point for point in POINTS if point != TOPIC_BEGUN)
DRAWN_AGAIN = 3
MANY_PASSES = 30
FEW_PASSES = 3
"""For a slow broker, which acknowledges one batch at a time."""
TOPICS = 2
PARTITIONS = 6
LONGEST_LIFE_SECONDS = 0.6
IDLE_LOOKS = 25
CHARGES = ("lost", "changed", "repeated", "ghosts", "wrong", "asked_again")
"""Counts of a verdict that must be 0."""
LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class Plan:
    """What a run does; `fault` is a key of `FAULTS`, or empty."""

    cycles: int
    seed: int
    checkpoint_every: int = 10
    per_second: float = 150.0
    cycle_limit_seconds: float = 60.0
    """A service that has not reached its point by then is killed from outside."""
    points: tuple[str, ...] = (*RECURRING_POINTS, ANY_INSTANT, ANY_INSTANT, SIGTERM_ANY_INSTANT)
    opening: tuple[str, ...] = (TOPIC_BEGUN,)
    """Points of the first cycles: they are passed only once per topic."""
    slow_share: float = 0.25
    slow_milliseconds: tuple[int, ...] = (50, 100, 200)
    fault: str = ""


@dataclass
class Verdict:
    """What a run has shown so far."""

    seed: int
    cycles: int = 0
    accepted: int = 0
    lost: int = 0
    changed: int = 0
    repeated: int = 0
    ghosts: int = 0
    """Callbacks to ids that no client got with a 202."""
    wrong: int = 0
    """Accepted requests whose callback is corrupt, on the wrong topic, wrongly keyed or an error."""
    asked_again: int = 0
    """Requests that were sent to the provider again although their outcome was stored."""
    calls_made_again: int = 0
    """Attempts beyond the first; they are allowed, as the process died during the one before."""
    seconds: float = 0.0
    ended: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    """Points that a cycle did not reach before it was killed from outside."""
    ends: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    """Everything else that is wrong, one sentence each."""

    @property
    def sound(self) -> bool:
        """Whether the promise held."""
        return not any(getattr(self, charge) for charge in CHARGES) and not self.faults

    def describe(self) -> str:
        """Returns the counts, the kills of each point and what is wrong, a line each."""
        ended = ", ".join(f"{point} {count}" for point, count in sorted(self.ended.items()))
        missed = ", ".join(f"{point} {count}" for point, count in sorted(self.missed.items())) or "none"
        ends = ", ".join(f"{end} {count}" for end, count in self.ends.most_common())
        run = f"seed {self.seed}, {self.cycles} cycles, {self.seconds:.0f} s, accepted {self.accepted}"
        return "\n".join(
            (
                f"{'sound' if self.sound else 'BROKEN'}: {run}",
                ", ".join(f"{charge} {getattr(self, charge)}" for charge in CHARGES),
                f"ended at: {ended}; points not reached: {missed}",
                f"attempts to submit: {ends}; provider calls made again: {self.calls_made_again}",
                *self.faults,
            )
        )


class ForkServer:
    """Starts services one at a time, each a fork of a process that has imported everything."""

    def __init__(self, folder: Path, fault: str) -> None:
        self._folder = folder
        self._fault = fault
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._facts: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.log = folder / "service.log"
        self._log_read = 0
        self._latest: DoomedService | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.process.doomed_service"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._reading = asyncio.create_task(self._read(), name="fork server")
        await self._next()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._reading is not None
        if self._latest is not None:
            await self._latest.end(signal.SIGKILL)  # where a run was broken off
        self._process.stdin.close()
        try:
            async with asyncio.timeout(HANG_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reading

    async def start(self, settings: Mapping[str, str], crash_at: str) -> "DoomedService":
        """Forks a service, which is not ready yet."""
        assert self._process is not None
        assert self._process.stdin is not None
        order = {"env": dict(settings), "crash_at": crash_at, "fault": self._fault, "log": str(self.log)}
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        await self._process.stdin.drain()
        fact = await self._next()
        assert "started" in fact, "the fork server itself has ended"
        self._latest = DoomedService(fact["started"], self._next)
        return self._latest

    def read_log(self) -> list[str]:
        """Returns what the services have logged since the last call."""
        with self.log.open() as log:
            log.seek(self._log_read)
            lines = log.read().splitlines()
            self._log_read = log.tell()
        return lines

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self._facts.put_nowait(json.loads(line))
        self._facts.put_nowait({"ended": None, "code": None})

    async def _next(self) -> dict[str, Any]:
        async with asyncio.timeout(HANG_SECONDS):
            return await self._facts.get()


class DoomedService:
    """One process of the service, from its fork to its end."""

    def __init__(self, pid: int, read_fact: Callable[[], Any]) -> None:
        self.pid = pid
        self.code: int | None = None
        self.ready = asyncio.Event()
        self._read_fact = read_fact
        self._ended = asyncio.create_task(self._follow(), name=f"service {pid}")

    async def until_ended(self, limit_seconds: float) -> bool:
        """Returns whether it ended by itself within the limit."""
        await asyncio.wait([self._ended], timeout=limit_seconds)
        return self._ended.done()

    async def until_ready(self, limit_seconds: float) -> bool:
        """Returns whether it listens; it may have died instead."""
        ready = asyncio.create_task(self.ready.wait())
        await asyncio.wait([ready, self._ended], timeout=limit_seconds, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        return self.ready.is_set()

    async def end(self, number: int) -> int | None:
        """Sends a signal if it still runs, and waits for its end; returns its exit code."""
        if not self._ended.done():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)
        await self._ended
        return self.code

    async def _follow(self) -> None:
        while True:
            try:
                fact = await self._read_fact()
            except TimeoutError:
                continue  # it lives
            if "ended" in fact:
                self.code = fact["code"]
                return
            self.ready.set()


class Harness:
    """One run: `async with Harness(plan, folder) as harness: verdict = await harness.run()`."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        self._random = random.Random(plan.seed)
        self._launcher = Launcher(folder)
        self._fork_server = ForkServer(folder, plan.fault)
        self._ledger = SharedLedger()
        self._queue_path = folder / "queue.db"
        self._deck = list(reversed(plan.opening))
        self._answered = Counter[str]()
        self._attempts = dict[str, int]()
        self.verdict = Verdict(plan.seed)

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            self._launcher.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._fork_server.__aexit__()
        finally:
            await asyncio.to_thread(self._launcher.close)

    async def _start(self) -> None:
        broker = await asyncio.to_thread(self._launcher.start, "simulator.broker", "--port", "0")
        provider = await asyncio.to_thread(start_provider, self._launcher)
        self.control = BrokerControl(Path(broker.ready["control"]))
        self._topics = [f"results.{uuid4().hex}" for _ in range(TOPICS)]
        await self.control.create_topics([TopicSpec(topic, PARTITIONS) for topic in self._topics])
        self._bootstrap_servers = str(broker.ready["bootstrap_servers"])
        self._watch = TopicWatch(self._bootstrap_servers, self._topics, self._ledger)
        (port,) = find_free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._settings = configure_service(
            self._bootstrap_servers,
            self._folder,
            find_openai(provider),
            PORT=str(port),
            CONCURRENCY="64",
            # Attempts are counted when claimed; no request may run out of them here.
            MAX_ATTEMPTS="1000",
        )
        await self._fork_server.__aenter__()

    async def run(self) -> Verdict:
        """Runs all cycles; stops at the first checkpoint that is not sound."""
        started = time.monotonic()
        plan, verdict = self._plan, self.verdict
        with self._watch:
            load = Load(
                [self.url],
                self._topics,
                self._ledger,
                per_second=plan.per_second,
                repeat_every=10,
            )
            async with load:
                while verdict.cycles < plan.cycles and verdict.sound:
                    until = min(plan.cycles, verdict.cycles + plan.checkpoint_every)
                    load.offer()
                    while verdict.cycles < until:
                        await self._cycle(self._draw())
                    await self._judge(load)
                    verdict.seconds = time.monotonic() - started
        return verdict

    def _draw(self) -> str:
        """Returns the next point: all of them in random order, then all of them in another order."""
        if not self._deck:
            self._deck = list(self._plan.points)
            self._random.shuffle(self._deck)
        return self._deck.pop()

    async def _cycle(self, point: str) -> None:
        if point == TOPIC_BEGUN:
            await self._live_and_end(point, 1, 0)
            return
        if point in READ_BACK_POINTS:
            # A read-back needs callbacks that were sent and not acknowledged.
            await self._live_and_end("in-send", self._random.randint(1, MANY_PASSES), 0)
            await self._live_and_end(point, 1, 0)
            return
        slow = self._random.random() < self._plan.slow_share
        milliseconds = self._random.choice(self._plan.slow_milliseconds) if slow else 0
        most = FEW_PASSES if slow and point in SENDING_POINTS else MANY_PASSES
        await self._live_and_end(point, self._random.randint(1, most), milliseconds)

    async def _live_and_end(self, point: str, passes: int, slow_milliseconds: int) -> None:
        """Starts the service, which ends at its point or is killed from outside at a random instant."""
        verdict, plan = self.verdict, self._plan
        number = signal.SIGTERM if point == SIGTERM_ANY_INSTANT else signal.SIGKILL
        from_outside = point not in POINTS
        service = await self._fork_server.start(self._settings, "" if from_outside else f"{point}:{passes}")
        if slow_milliseconds:
            await self._until_flowing(service)
            await self.control.slow(slow_milliseconds)
        limit = self._random.uniform(0.0, LONGEST_LIFE_SECONDS) if from_outside else plan.cycle_limit_seconds
        by_itself = await service.until_ended(limit)
        if not by_itself and number == signal.SIGTERM:
            await service.until_ready(plan.cycle_limit_seconds)
        code = await service.end(number if from_outside else signal.SIGKILL)
        await self.control.slow(0)
        verdict.cycles += 1
        if code != (0 if number == signal.SIGTERM else -signal.SIGKILL):
            verdict.faults.append(f"The service ended with {code} in cycle {verdict.cycles} ({point}).")
        if by_itself or from_outside:
            verdict.ended[point] += 1
        else:
            verdict.missed[point] += 1
            if verdict.missed[point] <= DRAWN_AGAIN:
                self._deck.append(point)

    async def _until_flowing(self, service: DoomedService) -> None:
        """Waits until the service calls back: it is not to connect to a slow broker."""
        deadline = time.monotonic() + self._plan.cycle_limit_seconds
        records = self._watch.records
        while True:
            if self._watch.records > records or service.code is not None or time.monotonic() >= deadline:
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def _judge(self, load: Load) -> None:
        """Waits until all requests have ended, and judges the callbacks."""
        load.stop_offering()
        verdict = self.verdict
        service = await self._fork_server.start(self._settings, "")
        if not await service.until_ready(HANG_SECONDS):
            verdict.faults.append(f"The service did not start again after cycle {verdict.cycles}.")
            return
        idle = False
        try:
            await load.resolve()
            idle = await self._until_idle()
            await self._watch.read_to_end()
            load.check()
        except AssertionError as problem:
            verdict.faults.append(str(problem))
        code = await service.end(signal.SIGTERM)
        if code != 0:
            verdict.faults.append(f"The service ended with {code} where SIGTERM should have given 0.")
        self._count(load)
        if idle:
            self._look_into_the_file()
        elif not verdict.lost:
            verdict.faults.append("The service did not come to rest.")

    async def _until_idle(self) -> bool:
        """Returns whether the service comes to rest: all is called back, or nothing happens any more."""
        deadline = time.monotonic() + HANG_SECONDS
        looks = 0
        async with open_client(self.url) as client:
            while time.monotonic() < deadline:
                gauges = _read_gauges((await client.get("/metrics")).text)
                looks = 0 if any(gauges.values()) else looks + 1
                # A request is in no gauge between two stages; it shows in one of several looks.
                if looks >= (1 if not self._ledger.outstanding else IDLE_LOOKS):
                    return True
                await asyncio.sleep(LOOK_SECONDS)
        return False

    def _count(self, load: Load) -> None:
        report, verdict = self._ledger.report(), self.verdict
        verdict.accepted = report.accepted
        verdict.lost = report.missing
        verdict.changed = report.conflicting
        verdict.repeated = report.identical
        verdict.ghosts = report.orphan
        verdict.wrong = report.corrupt + report.wrong_topic + report.wrong_key + report.failed
        verdict.ends = load.ends()
        for line in self._fork_server.read_log():
            if '"request answered"' in line:
                told = json.loads(line)
                self._answered[told["request_id"]] += 1
                self._attempts[told["request_id"]] = told["attempt"]
        verdict.asked_again = sum(count > 1 for count in self._answered.values())
        verdict.calls_made_again = sum(self._attempts.values()) - len(self._attempts)

    def _look_into_the_file(self) -> None:
        with sqlite3.connect(self._queue_path) as connection:
            (integrity,) = connection.execute("PRAGMA integrity_check").fetchone()
            left = {
                table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in ("request", "callback")
            }
        connection.close()
        if integrity != "ok":
            self.verdict.faults.append(f"The queue file is damaged: {integrity}.")
        if any(left.values()):
            self.verdict.faults.append(f"The service was at rest and its file holds rows: {left}.")


def _read_gauges(metrics: str) -> dict[str, float]:
    """Returns the gauges of unfinished work."""
    names = ("llm_queue_depth", "llm_requests_in_flight", "llm_outbox_depth")
    lines = (line.split(" ") for line in metrics.splitlines() if line.startswith(names))
    gauges = {name: float(value) for name, value in lines}
    assert gauges.keys() == set(names), f"/metrics does not have {names}"
    return gauges


async def run_crashes(plan: Plan, folder: Path) -> Verdict:
    """Runs a plan in a folder; returns its verdict."""
    async with Harness(plan, folder) as harness:
        return await harness.run()
