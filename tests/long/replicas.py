"""Replicas of the Kafka queue, killed and stopped under load, and what became of every request.

    python -m tests.long.replicas --replicas 3 --kills 100 --stops 10 --stop-seconds 60

A killed replica is started again under its name; a stopped one (SIGSTOP) loses its partitions when its
session is over, and goes on later without knowing it. Needs Apache Kafka, started from Maven's artifacts.
"""

import argparse
import asyncio
import random
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from confluent_kafka.admin import AdminClient, NewTopic

from service.contracts.topics import name_journal, name_memory
from simulator.load.ledger import LedgerReport, Verdict
from tests.apache_kafka.cluster import Cluster
from tests.conftest import Child, Launcher
from tests.long.usage_tally import UsageTally, read_usage
from tests.process.load import Load, SharedLedger, TopicWatch
from tests.waiting import HANG_SECONDS

PREFIX = "LLM_PROVIDER_SERVICE_"
HIGHEST_REPLICATION = 3


@dataclass(frozen=True)
class ReplicaPlan:
    """How many replicas, and what is done to them."""

    replicas: int = 3
    partitions: int = 12
    kills: int = 6
    stops: int = 1
    stop_seconds: float = 15.0
    per_second: float = 60.0
    latency_ms: int = 200
    seed: int = 1
    between_seconds: tuple[float, float] = (0.5, 3.0)
    """Between one kill and the next."""
    repeat_every: int = 10


@dataclass
class ReplicaVerdict:
    """What was done and what came of it."""

    report: LedgerReport
    kills: int = 0
    stops: int = 0
    seconds: float = 0.0
    ends: dict[str, int] = field(default_factory=dict)
    repeated: int = 0
    usage: UsageTally = field(default_factory=UsageTally)
    usage_missing: int = 0
    """Requests that were answered, and of which no usage event tells."""

    def describe(self) -> str:
        """One line for a person."""
        report = self.report
        return (
            f"{self.kills} kills and {self.stops} stops in {self.seconds:.0f} s: accepted {report.accepted}, "
            f"ok {report.ok}, failed {report.failed}, missing {report.missing}, "
            f"conflicting {report.conflicting}, identical copies {report.identical}, orphan {report.orphan}; "
            f"{self.repeated} handed in again under their key; ends {self.ends}; usage told of "
            f"{len(self.usage.values)}, missing {self.usage_missing}, copies {self.usage.copies}, "
            f"conflicting {len(self.usage.conflicting)}"
        )


class Replicas:
    """Replicas of one queue that share a group, and the fake provider that they ask."""

    def __init__(self, launcher: Launcher, bootstrap_servers: str, brokers: int, plan: ReplicaPlan) -> None:
        self._launcher = launcher
        self._bootstrap_servers = bootstrap_servers
        self._brokers = brokers
        self._plan = plan
        self._name = f"requests.{uuid4().hex[:12]}"
        self.topic = f"results.{uuid4().hex[:12]}"
        self.usage_topic = f"usage.{uuid4().hex[:12]}"
        self.children: list[Child] = []
        self.ports: list[int] = []
        self._provider_url = ""

    @property
    def urls(self) -> list[str]:
        """Where each replica listens."""
        return [f"http://127.0.0.1:{port}" for port in self.ports]

    def start(self) -> None:
        """Creates the topics and starts everybody."""
        self._create_topics()
        provider = self._launcher.start(
            "simulator.provider", "--port", "0", "--latency-p50-ms", str(self._plan.latency_ms)
        )
        self._provider_url = provider.ready["base_urls"]["openai"]
        for _ in range(self._plan.replicas):
            self.add()

    def add(self) -> int:
        """Starts one more replica; returns its number."""
        self.ports.append(find_port())
        number = len(self.ports) - 1
        self.children.append(self._launch(number))
        return number

    def start_again(self, number: int) -> None:
        """Starts a replica that was killed, under its name and on its port."""
        self.children[number] = self._launch(number)

    def _launch(self, number: int) -> Child:
        settings = {
            "PORT": str(self.ports[number]),
            "KAFKA_BOOTSTRAP_SERVERS": self._bootstrap_servers,
            "QUEUE_BACKEND": "kafka",
            "REQUEST_TOPIC": self._name,
            "DEAD_LETTER_TOPIC": f"{self._name}.dead-letters",
            "REQUEST_GROUP": self._name,
            "REPLICA_NAME": f"replica-{number}",
            "OPENAI_API_KEY": "fake-key",
            "OPENAI_BASE_URL": self._provider_url,
            "USAGE_TOPIC": self.usage_topic,
            "MAX_ATTEMPTS": "50",
            # Calls that were lent by a replica that was killed are made again when this is over.
            "PROVIDER_TIMEOUT_SECONDS": "15",
        }
        return self._launcher.start("service", env={PREFIX + name: value for name, value in settings.items()})

    def _create_topics(self) -> None:
        admin = AdminClient({"bootstrap.servers": self._bootstrap_servers})
        replication = min(HIGHEST_REPLICATION, self._brokers)
        config = {"min.insync.replicas": str(max(1, replication - 1))}
        wanted = {
            self._name: self._plan.partitions,
            name_journal(self._name): self._plan.partitions,
            name_memory(self._name): 1,
            f"{self._name}.dead-letters": self._plan.partitions,
            self.topic: self._plan.partitions,
            self.usage_topic: self._plan.partitions,
        }
        created = admin.create_topics(
            [NewTopic(name, count, replication, config=config) for name, count in wanted.items()]
        )
        for answer in created.values():
            answer.result(HANG_SECONDS)


class Tormentor:
    """Kills and stops replicas, one at a time of each kind, as the plan says."""

    def __init__(self, replicas: Replicas, plan: ReplicaPlan, tell: Callable[[str], object]) -> None:
        self._replicas = replicas
        self._plan = plan
        self._random = random.Random(plan.seed)
        self._tell = tell
        self._busy: set[int] = set()
        self.kills = 0
        self.stops = 0

    async def run(self) -> None:
        """Until every kill and every stop was made."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._kill())
            tasks.create_task(self._stop())

    async def _kill(self) -> None:
        while self.kills < self._plan.kills:
            await asyncio.sleep(self._random.uniform(*self._plan.between_seconds))
            number = self._choose()
            if number is None:
                continue
            child = self._replicas.children[number]
            await asyncio.to_thread(child.kill)
            self.kills += 1
            self._tell(f"killed replica {number} ({self.kills})")
            await asyncio.to_thread(self._replicas.start_again, number)
            self._busy.discard(number)

    async def _stop(self) -> None:
        while self.stops < self._plan.stops:
            await asyncio.sleep(self._random.uniform(*self._plan.between_seconds))
            number = self._choose()
            if number is None:
                continue
            process = self._replicas.children[number].process
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(self._plan.stop_seconds)
            process.send_signal(signal.SIGCONT)
            self.stops += 1
            self._tell(f"stopped replica {number} for {self._plan.stop_seconds:g} s ({self.stops})")
            self._busy.discard(number)

    def _choose(self) -> int | None:
        """A replica with which nothing is being done; None where it would be the last one."""
        free = [number for number in range(len(self._replicas.children)) if number not in self._busy]
        if len(free) < 2:
            return None
        number = self._random.choice(free)
        self._busy.add(number)
        return number


async def torment(
    launcher: Launcher,
    bootstrap_servers: str,
    brokers: int,
    plan: ReplicaPlan,
    tell: Callable[[str], object] = lambda _: None,
) -> ReplicaVerdict:
    """Runs the plan; returns when every accepted request was called back, or fails."""
    replicas = Replicas(launcher, bootstrap_servers, brokers, plan)
    await asyncio.to_thread(replicas.start)
    ledger = SharedLedger()
    tormentor = Tormentor(replicas, plan, tell)
    began = time.monotonic()
    with TopicWatch(bootstrap_servers, [replicas.topic], ledger) as watch:
        async with Load(
            replicas.urls,
            [replicas.topic],
            ledger,
            per_second=plan.per_second,
            repeat_every=plan.repeat_every,
            give_up_after_seconds=plan.stop_seconds + 90,
            one_queue=True,
        ) as load:
            await tormentor.run()
            await asyncio.sleep(plan.between_seconds[1])
            load.stop_offering()
            seconds = time.monotonic() - began
            await load.resolve()
            try:
                await watch.until_called_back(quiet_seconds=3.0)
            except AssertionError:
                tell(f"missing: {ledger.find(Verdict.MISSING)[:10]}")
                raise
        load.check()
    if copies := ledger.find(Verdict.DUPLICATE):
        tell(f"copies: {copies[:10]}")
    answered = set(ledger.find(Verdict.OK, Verdict.DUPLICATE))
    usage = await asyncio.to_thread(
        read_usage, bootstrap_servers, replicas.usage_topic, answered, HANG_SECONDS
    )
    return ReplicaVerdict(
        ledger.report(),
        tormentor.kills,
        tormentor.stops,
        seconds,
        dict(load.ends()),
        load.repeated,
        usage,
        len(answered - usage.values.keys()),
    )


def find_port() -> int:
    """A port that is free now and that a replica keeps when it is started again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a plan against Apache Kafka of its own and prints the verdict."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--brokers", type=int, default=1)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--stops", type=int, default=10)
    parser.add_argument("--stop-seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=60.0)
    parser.add_argument("--latency-ms", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    plan = ReplicaPlan(
        replicas=given.replicas,
        kills=given.kills,
        stops=given.stops,
        stop_seconds=given.stop_seconds,
        per_second=given.rate,
        latency_ms=given.latency_ms,
        seed=given.seed,
    )
    folder = Path(tempfile.mkdtemp(prefix="replicas-"))
    (folder / "kafka").mkdir()
    cluster, launcher = Cluster(folder / "kafka", given.brokers), Launcher(folder)
    with ExitStack() as closing:
        closing.callback(cluster.stop)
        closing.callback(launcher.close)
        cluster.start()
        verdict = asyncio.run(
            torment(
                launcher, cluster.bootstrap_servers, given.brokers, plan, lambda line: print(line, flush=True)
            )
        )
    print(verdict.describe())
    report = verdict.report
    wrong = report.missing + report.conflicting + report.orphan
    return 0 if not (wrong or verdict.usage_missing or verdict.usage.conflicting) else 5


if __name__ == "__main__":
    sys.exit(main())
