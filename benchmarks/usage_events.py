"""What usage events cost the service: its CPU time a request with a usage topic and without one.

    python -m benchmarks.usage_events [--rounds 3] [--rate 200] [--seconds 25]

Turns alternate, each with everything anew: embedded broker, fake provider of 50 ms, a SQLite queue. Prints
each turn, and the ratio of the medians. On Linux.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.in_flight import run_module

USAGE_TOPIC = "usage"
PREFIX = "LLM_PROVIDER_SERVICE_"
LOAD_LIMIT_SECONDS = 300


def read_cpu_seconds(pid: int) -> float:
    """User and system time of a process, by proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(*, told: bool, rate: int, seconds: int) -> float:
    """CPU milliseconds a request of one turn; every request was called back."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="usage-events-")))
        broker = stack.enter_context(
            run_module("simulator.broker", "--port", "0", "--topic", f"{USAGE_TOPIC}:3")
        )
        provider = stack.enter_context(
            run_module("simulator.provider", "--port", "0", "--latency-p50-ms", "50")
        )
        settings = {
            "PORT": "0",
            "KAFKA_BOOTSTRAP_SERVERS": broker["bootstrap_servers"],
            "QUEUE_PATH": str(folder / "queue.db"),
            "OPENAI_API_KEY": "key",
            "OPENAI_BASE_URL": provider["base_urls"]["openai"],
            **({"USAGE_TOPIC": USAGE_TOPIC} if told else {}),
        }
        env = {PREFIX + name: value for name, value in settings.items()}
        service = stack.enter_context(run_module("service", env=env))
        before = read_cpu_seconds(int(service["pid"]))
        load = ["simulate", "load", "--rate", f"{rate}/s", "--duration", f"{seconds}s", "--output", "json"]
        where = ["--url", service["url"], "--bootstrap-servers", broker["bootstrap_servers"]]
        done = subprocess.run(
            [sys.executable, "-m", "llmctl", *load, *where],
            stdout=subprocess.PIPE,
            check=True,
            timeout=LOAD_LIMIT_SECONDS,
        )
        ledger: dict[str, Any] = json.loads(done.stdout)["ledger"]
        return (read_cpu_seconds(int(service["pid"])) - before) * 1000 / ledger["ok"]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=25)
    options = parser.parse_args()
    turns: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(options.rounds):
        for told, found in turns.items():
            found.append(measure(told=told, rate=options.rate, seconds=options.seconds))
            print(
                f"{'with' if told else 'without'} a usage topic: {found[-1]:.2f} ms CPU a request", flush=True
            )
    without, with_topic = (statistics.median(found) for found in turns.values())
    print(f"medians {without:.2f} and {with_topic:.2f} ms: {with_topic / without:.2f} times")


if __name__ == "__main__":
    main()
