"""The crash harness: load all the time, the service killed again and again, and at checkpoints the verdict.

`python -m tests.process.crashes --cycles 1000 --seed N`, and in `test_crashes.py`. Broker and
provider run in processes of their own and live on; what is killed is the real service on one queue file.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from simulator.broker.control import BrokerControl, TopicSpec
from tests.conftest import ROOT, Launcher
from tests.free_ports import find_free_ports
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
"""Of what a slow broker lets by, a batch an answer."""
TOPICS = 2
PARTITIONS = 6
LONGEST_LIFE_SECONDS = 0.6
IDLE_LOOKS = 25
LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class Plan:
    """What a run does. `fault` is one of `FAULTS`, which the service has then."""

    cycles: int
    seed: int
    checkpoint_every: int = 10
    per_second: float = 150.0
    cycle_limit_seconds: float = 60.0
    """A service that has not come to its point by then is killed from outside."""
    points: tuple[str, ...] = (*RECURRING_POINTS, ANY_INSTANT, ANY_INSTANT, SIGTERM_ANY_INSTANT)
    opening: tuple[str, ...] = (TOPIC_BEGUN,)
    """Where the first cycles end: what happens only once in the life of a topic."""
    slow_share: float = 0.25
    slow_milliseconds: tuple[int, ...] = (50, 100, 200)
    provider_p50_ms: int = 10
    fault: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)


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
    """Ids that were called back without having been accepted by anybody who waits for them."""
    wrong: int = 0
    """Accepted requests whose callback is corrupt, misplaced, wrongly keyed or an error."""
    asked_again: int = 0
    """Requests that were asked again although their outcome was stored."""
    calls_made_again: int = 0
    """Attempts beyond the first, all of them allowed: the process died during the one before."""
    seconds: float = 0.0
    ended: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    """Points that a cycle did not reach; it was killed from outside then."""
    ends: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    """Everything else that is wrong, a sentence each."""

    @property
    def sound(self) -> bool:
        """Whether the promise held."""
        broken = (self.lost, self.changed, self.repeated, self.ghosts, self.wrong, self.asked_again)
        return not any(broken) and not self.faults

    def describe(self) -> str:
        """The counts in a line."""
        return (
            f"cycles {self.cycles} · accepted {self.accepted} · lost {self.lost} · changed {self.changed} · "
            f"repeated {self.repeated} · ghosts {self.ghosts} · wrong {self.wrong} · "
            f"asked again after the outcome {self.asked_again} · {self.seconds:.0f} s · seed {self.seed}"
        )

    def describe_at_length(self) -> str:
        """The counts, the kills of each point and what is wrong, a line each."""
        ended = ", ".join(f"{point} {count}" for point, count in sorted(self.ended.items()))
        missed = ", ".join(f"{point} {count}" for point, count in sorted(self.missed.items())) or "none"
        ends = ", ".join(f"{end} {count}" for end, count in self.ends.most_common())
        return "\n".join(
            (
                f"{'sound' if self.sound else 'BROKEN'}: {self.describe()}",
                f"ended at: {ended}; points not reached: {missed}",
                f"attempts at handing in: {ends}; provider calls made again: {self.calls_made_again}",
                *self.faults,
            )
        )


def _be_quiet(_: str) -> None:
    """Tells nobody."""


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
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("LLM_PROVIDER_SERVICE_")}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.process.doomed_service",
            "--fork-server",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=self._folder,
            env={**inherited, "PYTHONPATH": str(ROOT)},
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
        """Starts a service; it has been forked then, and is not ready yet."""
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
        """What the services have logged since it was last asked."""
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
        """Whether it ended by itself within the limit."""
        await asyncio.wait([self._ended], timeout=limit_seconds)
        return self._ended.done()

    async def until_ready(self, limit_seconds: float) -> bool:
        """Whether it listens; it may have died instead."""
        ready = asyncio.create_task(self.ready.wait())
        await asyncio.wait([ready, self._ended], timeout=limit_seconds, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        return self.ready.is_set()

    async def end(self, number: int) -> int | None:
        """Sends it a signal, if it still lives, and waits for its end; returns its exit code."""
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

    def __init__(self, plan: Plan, folder: Path, tell: Callable[[str], object] = _be_quiet) -> None:
        self._plan = plan
        self._folder = folder
        self._tell = tell
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
        latency = str(self._plan.provider_p50_ms)
        provider = await asyncio.to_thread(
            self._launcher.start, "simulator.provider", "--port", "0", "--latency-p50-ms", latency
        )
        self.control = BrokerControl(Path(broker.ready["control"]))
        self._topics = [f"results.{uuid4().hex}" for _ in range(TOPICS)]
        await self.control.create_topics([TopicSpec(topic, PARTITIONS) for topic in self._topics])
        self._bootstrap_servers = str(broker.ready["bootstrap_servers"])
        self._watch = TopicWatch(self._bootstrap_servers, self._topics, self._ledger)
        (port,) = find_free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        settings = {
            "PORT": str(port),
            "KAFKA_BOOTSTRAP_SERVERS": self._bootstrap_servers,
            "QUEUE_PATH": str(self._queue_path),
            "OPENAI_API_KEY": "fake-key",
            "OPENAI_BASE_URL": provider.ready["base_urls"]["openai"],
            "CONCURRENCY": "64",
            # Attempts are counted when claimed; nobody is to run out of them here.
            "MAX_ATTEMPTS": "1000",
            **self._plan.settings,
        }
        self._settings = {f"LLM_PROVIDER_SERVICE_{name}": value for name, value in settings.items()}
        await self._fork_server.__aenter__()

    async def run(self) -> Verdict:
        """All cycles, with checkpoints between; stops at the first checkpoint that is not sound."""
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
                    self._tell(verdict.describe())
        return verdict

    def _draw(self) -> str:
        """The next point: all of them in one order, then all of them in another."""
        if not self._deck:
            self._deck = list(self._plan.points)
            self._random.shuffle(self._deck)
        return self._deck.pop()

    async def _cycle(self, point: str) -> None:
        if point == TOPIC_BEGUN:
            await self._live_and_end(point, 1, 0)
            return
        if point in READ_BACK_POINTS:
            # There must be something in doubt: callbacks sent, and nobody knows what became of them.
            await self._live_and_end("in-send", self._random.randint(1, MANY_PASSES), 0)
            await self._live_and_end(point, 1, 0)
            return
        slow = self._random.random() < self._plan.slow_share
        milliseconds = self._random.choice(self._plan.slow_milliseconds) if slow else 0
        most = FEW_PASSES if slow and point in SENDING_POINTS else MANY_PASSES
        await self._live_and_end(point, self._random.randint(1, most), milliseconds)

    async def _live_and_end(self, point: str, passes: int, slow_milliseconds: int) -> None:
        """Starts the service and sees it to its end: at its point, or at an instant from outside."""
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
        """Waits until the service calls back: connecting to a slow broker is not what is to be slow."""
        deadline = time.monotonic() + self._plan.cycle_limit_seconds
        records = self._watch.records
        while True:
            if self._watch.records > records or service.code is not None or time.monotonic() >= deadline:
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def _judge(self, load: Load) -> None:
        """Lets everything come to its end, and holds what came against what was promised."""
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
        """Whether the service comes to rest: all is called back, or nothing happens any more."""
        deadline = time.monotonic() + HANG_SECONDS
        looks = 0
        async with open_client(self.url) as client:
            while time.monotonic() < deadline:
                gauges = _read_gauges((await client.get("/metrics")).text)
                looks = 0 if any(gauges.values()) else looks + 1
                # Between two gauges there is a gap; what is on its way shows in one of several looks.
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
    """What is left to do, of /metrics."""
    names = ("llm_queue_depth", "llm_requests_in_flight", "llm_outbox_depth")
    lines = (line.split(" ") for line in metrics.splitlines() if line.startswith(names))
    gauges = {name: float(value) for name, value in lines}
    assert gauges.keys() == set(names), f"/metrics does not have {names}"
    return gauges


async def run_crashes(plan: Plan, folder: Path, tell: Callable[[str], object] = _be_quiet) -> Verdict:
    """Runs a plan in a folder; returns its verdict."""
    async with Harness(plan, folder, tell) as harness:
        return await harness.run()


def main() -> int:
    """The command: a line a checkpoint, the counts at the end; exit code 5 where the promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.process.crashes", description=__doc__)
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--rate", type=float, default=150.0, help="requests a second")
    parser.add_argument("--checkpoint-every", type=int, default=25, metavar="CYCLES")
    options = parser.parse_args()
    plan = Plan(
        cycles=options.cycles,
        seed=options.seed,
        per_second=options.rate,
        checkpoint_every=options.checkpoint_every,
    )
    folder = Path(tempfile.mkdtemp(prefix="crashes-"))
    print(f"seed {plan.seed}, queue file and logs in {folder}", flush=True)
    verdict = asyncio.run(run_crashes(plan, folder, partial(print, flush=True)))
    print(verdict.describe_at_length())
    return 0 if verdict.sound else 5


if __name__ == "__main__":
    sys.exit(main())
