"""The whole way, side by side: from the POST over the provider to the callback on Kafka.

    python -m benchmarks.chain [--rounds 5] [--seconds 4] [--in-flight 100 1000] [--only faststream]

Candidates: the floor (the same parts in one process that keeps nothing), the durable floor (the same with a
row before the 202 and its deletion at the end), ours (`python -m service`, its
queue on disk), FastStream, and taskiq over Redis; what is not installed is skipped by name. All of them get
the same HTTP client and the same JSON, call the same stub provider (50 ms) and publish to an embedded broker
with `acks=all`. They take turns in rounds, each with processes of its own: the system under test on one CPU,
and broker, provider, driver and Redis on the others. Prints a Markdown table for each load, medians over the
rounds. Read the ratios; the absolute figures belong to one machine and one hour. Needs Linux.
"""

import argparse
import importlib.util
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from benchmarks.in_flight import run_module
from benchmarks.peers.driver import PARTITIONS, TOPIC, Sample
from benchmarks.peers.work import BOOTSTRAP_SERVERS, PROVIDER_BASE_URL, REDIS_URL, REQUESTS_TOPIC

DRIVE_LIMIT_SECONDS = 120.0

FLOOR = "floor"
DURABLE_FLOOR = "durable floor"
OURS = "ours"
FASTSTREAM = "FastStream"
TASKIQ = "taskiq, Redis"


@dataclass(frozen=True)
class Candidate:
    """Something that takes requests and calls back, what it needs, and how it is started."""

    name: str
    module: str
    packages: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()


CANDIDATES = (
    Candidate(FLOOR, "benchmarks.peers.floor"),
    Candidate(DURABLE_FLOOR, "benchmarks.peers.durable_floor"),
    Candidate(OURS, "service"),
    Candidate(FASTSTREAM, "benchmarks.peers.faststream_app", packages=("faststream",)),
    Candidate(
        TASKIQ, "benchmarks.peers.taskiq_app", packages=("taskiq", "taskiq_redis"), programs=("redis-server",)
    ),
)


@dataclass(frozen=True)
class Load:
    """So many in flight, or so many a second."""

    title: str
    arguments: tuple[str, ...]


def closed(in_flight: int) -> Load:
    """So many always between their sending and their callback."""
    return Load(f"{in_flight:,} in flight", ("--in-flight", str(in_flight)))


OPEN = Load("open loop, 300/s", ("--rate", "300"))

LEAST_RATIOS = (
    (closed(1000), DURABLE_FLOOR, 0.70),
    (closed(1000), FASTSTREAM, 4.0),
    (closed(1000), TASKIQ, 6.0),
    (closed(100), DURABLE_FLOOR, 0.90),
)
"""Our requests a second, as a multiple of another's: what is aimed at."""
MOST = (
    (closed(1000), "cpu_ms_per_request", 0.35),
    (OPEN, "p50_ms", 5.0),
    (OPEN, "p99_ms", 10.0),
)
"""Our figures: what is aimed at."""

Results = dict[str, dict[str, list[Sample]]]
"""The samples by the load's title, then the candidate's name."""


# --- processes


@contextmanager
def on_cpus(cpus: set[int]) -> Iterator[None]:
    """What is started meanwhile stays on these CPUs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def running_redis(folder: Path) -> Iterator[str]:
    """Redis on a socket in a folder, its append-only file synced every second; its URL."""
    path = folder / "redis.sock"
    options = {"port": "0", "unixsocket": path, "dir": folder, "appendonly": "yes", "save": ""}
    command = [
        "redis-server",
        *(str(part) for name, value in options.items() for part in (f"--{name}", value)),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "ready to accept connections" in line.lower():
                break
        try:
            yield f"unix://{path}"
        finally:
            process.terminate()


def measure(candidate: Candidate, loads: Sequence[Load], seconds: float) -> list[Sample]:
    """One turn: everything anew, then one load after the other."""
    own, *others = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chain-")))
        with on_cpus(set(others or [own])):
            topics = [f"--topic={topic}:{PARTITIONS}" for topic in (TOPIC, REQUESTS_TOPIC)]
            broker = stack.enter_context(run_module("simulator.broker", "--port", "0", *topics))
            provider = stack.enter_context(run_module("benchmarks.peers.provider"))
            redis_url = stack.enter_context(running_redis(folder)) if candidate.programs else ""
        settings = {
            BOOTSTRAP_SERVERS: broker["bootstrap_servers"],
            PROVIDER_BASE_URL: provider["base_url"],
            REDIS_URL: redis_url,
            "LLM_PROVIDER_SERVICE_PORT": "0",
            "LLM_PROVIDER_SERVICE_KAFKA_BOOTSTRAP_SERVERS": broker["bootstrap_servers"],
            "LLM_PROVIDER_SERVICE_QUEUE_PATH": str(folder / "queue.db"),
            "LLM_PROVIDER_SERVICE_OPENAI_API_KEY": "key",
            "LLM_PROVIDER_SERVICE_OPENAI_BASE_URL": provider["base_url"],
        }
        with on_cpus({own}):
            system = stack.enter_context(run_module(candidate.module, env=settings))
        latency_ms = provider["latency_seconds"] * 1000
        with on_cpus(set(others or [own])):
            return [drive(system, broker["bootstrap_servers"], load, seconds, latency_ms) for load in loads]


def drive(
    system: dict[str, object], bootstrap_servers: str, load: Load, seconds: float, latency_ms: float
) -> Sample:
    """One load, by a driver in a process of its own; the provider's latency is taken off."""
    command = [sys.executable, "-m", "benchmarks.peers.driver", "--url", system["url"], *load.arguments]
    command += ["--bootstrap-servers", bootstrap_servers, "--pid", system["pid"], "--seconds", seconds]
    answer = subprocess.run(
        [str(part) for part in command], stdout=subprocess.PIPE, check=True, timeout=DRIVE_LIMIT_SECONDS
    )
    figures = json.loads(answer.stdout)
    for name in ("p50_ms", "p99_ms"):
        figures[name] -= latency_ms
    return Sample(**figures)


# --- the report


def summarize(samples: Sequence[Sample]) -> Sample:
    """The median of every figure over the rounds; failures are added up."""
    medians = {
        field.name: statistics.median(getattr(sample, field.name) for sample in samples)
        for field in fields(Sample)
    }
    return Sample(**{**medians, "failed": sum(sample.failed for sample in samples)})


def report(title: str, rows: dict[str, Sample]) -> None:
    """Prints one table."""
    print(f"\n{title}\n")
    print("| | requests/s | x floor | ours, x this | added p50 ms | added p99 ms | CPU ms/request | failed |")
    print("|---|---|---|---|---|---|---|---|")
    floor, ours = rows.get(FLOOR), rows.get(OURS)
    for name, row in rows.items():
        print(
            f"| {name} | {row.requests_per_second:,.0f} | {divide(row, floor)} | {divide(ours, row)} "
            f"| {row.p50_ms:.1f} | {row.p99_ms:.1f} | {row.cpu_ms_per_request:.2f} | {row.failed} |"
        )


def divide(one: Sample | None, other: Sample | None) -> str:
    """The ratio of two rates, or nothing where one of them is missing."""
    if one is None or other is None or not other.requests_per_second:
        return ""
    return f"{one.requests_per_second / other.requests_per_second:.2f}"


def judge(results: dict[str, dict[str, Sample]]) -> Iterator[str]:
    """A line for each target whose figures were taken."""
    for load, other, least in LEAST_RATIOS:
        rows = results.get(load.title, {})
        if OURS in rows and other in rows:
            ratio = rows[OURS].requests_per_second / rows[other].requests_per_second
            yield f"{load.title}: {ratio:.2f} of {other}, wanted {least} or more: {tell(ratio >= least)}"
    for load, name, most in MOST:
        if OURS in (rows := results.get(load.title, {})):
            figure = getattr(rows[OURS], name)
            what = name.replace("_", " ")
            yield f"{load.title}: {figure:.2f} {what}, wanted {most} or less: {tell(figure <= most)}"


def tell(met: bool) -> str:
    """In words."""
    return "met" if met else "not met"


# --- the run


def choose(name_part: str) -> list[Candidate]:
    """The candidates that are installed; says which ones are not."""
    chosen = []
    for candidate in CANDIDATES:
        if name_part.lower() not in candidate.name.lower():
            continue
        missing = [name for name in candidate.packages if importlib.util.find_spec(name) is None]
        missing += [name for name in candidate.programs if shutil.which(name) is None]
        if missing:
            print(f"skipped: {candidate.name} ({', '.join(missing)} not installed)")
        else:
            chosen.append(candidate)
    return chosen


def main() -> None:
    """Measures what is installed and prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one measurement")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--only", default="", help="candidates whose name holds this")
    options = parser.parse_args()
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    loads = [*map(closed, options.in_flight), OPEN]
    chosen = choose(options.only)
    results: Results = {load.title: {candidate.name: [] for candidate in chosen} for load in loads}
    for _ in range(options.rounds):
        for candidate in chosen:
            samples = measure(candidate, loads, options.seconds)
            for load, sample in zip(loads, samples, strict=True):
                results[load.title][candidate.name].append(sample)
    medians = {
        title: {name: summarize(samples) for name, samples in rows.items()} for title, rows in results.items()
    }
    for title, rows in medians.items():
        report(title, rows)
    print("\n" + "\n".join(f"- {line}" for line in judge(medians)))


if __name__ == "__main__":
    main()
