"""`llmctl demo`, `up`, `serve` and `simulate`: real children, started, watched and stopped."""

import asyncio
import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.flow.cli.conftest import Run, start
from tests.waiting import HANG_SECONDS, open_client, until

ANY_PORTS = ("--port", "0", "--provider-port", "0")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder for what a command leaves behind; its path is short, for sockets."""
    with tempfile.TemporaryDirectory(prefix="llmctl-", dir="/tmp") as name:
        for folder in ("tmp", "run"):
            (Path(name) / folder).mkdir(mode=0o700)
        yield Path(name)


def put_in(place: Path) -> dict[str, str]:
    return {"TMPDIR": str(place / "tmp"), "LLMCTL_RUNTIME_DIR": str(place / "run")}


def left_in(place: Path) -> list[str]:
    """Lists what a command left behind: temporary folders, sockets of brokers."""
    return sorted(each.name for folder in ("tmp", "run") for each in (place / folder).iterdir())


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def read_ready(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    async with asyncio.timeout(HANG_SECONDS):
        line = await process.stdout.readline()
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


@asynccontextmanager
async def up(
    *words: str, env: dict[str, str] | None = None
) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    """Starts `llmctl up`; yields its process and its ready line."""
    async with start("up", *ANY_PORTS, *words, env=env) as process:
        yield process, await read_ready(process)


async def wait_end(process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(HANG_SECONDS):
        return await process.wait()


async def test_the_demo_proves_that_nothing_is_lost(llmctl: Run, place: Path) -> None:
    ended = await llmctl("demo", "--timeout", "300s", env=put_in(place))
    document = json.loads(ended.out)
    ledger = document["ledger"]
    assert ended.code == document["exit_code"] == 0
    assert ledger["accepted"] == ledger["ok"] == len(document["results"]) >= 24
    assert sum(ledger.values()) == 2 * ledger["ok"]
    assert document["agreement"] > len(document["results"]) / 2
    assert all(each["latency_seconds"] > 0 for each in document["results"])
    assert "0 lost · 0 duplicated" in ended.err
    assert left_in(place) == []


async def test_the_demos_time_limit_is_code_4(llmctl: Run, place: Path) -> None:
    ended = await llmctl("demo", "--timeout", "200ms", env=put_in(place))
    assert (ended.code, ended.out) == (4, "")
    assert left_in(place) == []


HOLD_THE_SERVICE = "import sys, time\nif 'service' in sys.orig_argv: time.sleep(3600)\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_demo_can_be_interrupted(place: Path, number: signal.Signals) -> None:
    """The service never starts, so that the demo cannot end by itself."""
    (place / "sitecustomize.py").write_text(HOLD_THE_SERVICE)
    async with start("demo", env={**put_in(place), "PYTHONPATH": str(place)}) as process:
        await until(lambda: list((place / "run").iterdir()), "the broker's socket")
        process.send_signal(number)
        assert await wait_end(process) == 130
        assert process.stderr is not None
        assert b"Traceback" not in await process.stderr.read()
    assert left_in(place) == []


async def test_up_stands_until_it_is_told_to_go(llmctl: Run, place: Path) -> None:
    """The developer's own settings would keep the service from starting: they do not reach it."""
    env = {
        **put_in(place),
        "LLM_PROVIDER_SERVICE_CONCURRENCY": "none",
        "LLM_PROVIDER_SERVICE_OPENAI_API_KEY": "real key",
    }
    words = ("--kafka-port", "0", "--data-dir", str(place / "data"), "--usage-topic", "usage")
    async with up(*words, env=env) as (process, said):
        body = json.dumps({"user_prompt": "p", "essay_a": "a", "essay_b": "b"}).encode()
        handed = await llmctl(
            *("submit", "--wait", "--file", "-", "--callback-topic", said["topics"][0], "--url", said["url"]),
            *("--bootstrap-servers", said["bootstrap_servers"]),
            stdin=body,
            env=put_in(place),
        )
        assert handed.code == 0
        assert json.loads(handed.out)["result"]["provider"] == "openai"

        async def is_told() -> bool:
            servers = ("--bootstrap-servers", said["bootstrap_servers"])
            ended = await llmctl("usage", said["topics"][-1], *servers, env=put_in(place))
            return sum(row["calls"] for row in json.loads(ended.out)["rows"]) == 1

        await until(is_told, what="the usage event")
        process.send_signal(signal.SIGINT)
        assert await wait_end(process) == 0
    assert not any(lives(pid) for pid in said["pids"].values())
    assert (place / "data" / "queue.db").is_file()
    assert left_in(place) == []


async def test_up_ends_when_a_part_dies(place: Path) -> None:
    async with up("--kafka-port", "0", env=put_in(place)) as (process, said):
        os.kill(said["pids"]["provider"], signal.SIGKILL)
        assert await wait_end(process) == 1
        assert process.stderr is not None
        (sentence,) = (await process.stderr.read()).decode().splitlines()
        assert sentence.startswith("The provider was killed by signal 9")
    assert not any(lives(pid) for pid in said["pids"].values())
    assert left_in(place) == []


async def test_nothing_outlives_a_killed_up(place: Path) -> None:
    async with up("--kafka-port", "0", env=put_in(place)) as (process, said):
        process.kill()
        await wait_end(process)
        await until(lambda: not any(lives(pid) for pid in said["pids"].values()), "the children's end")


async def test_up_uses_your_kafka(bootstrap_servers: str) -> None:
    async with up("--bootstrap-servers", bootstrap_servers) as (process, said):
        assert said["bootstrap_servers"] == bootstrap_servers
        assert set(said["pids"]) == {"provider", "service"}
        process.terminate()
        assert await wait_end(process) == 0


@pytest.mark.long
async def test_up_with_replicas_is_one_address(llmctl: Run, bootstrap_servers: str) -> None:
    words = ("--replicas", "3", "--queue-backend", "kafka", "--bootstrap-servers", bootstrap_servers)
    async with up(*words) as (process, said):
        assert set(said["pids"]) == {"provider", "service-1", "service-2", "service-3"}
        assert len({said["url"], *said["replica_urls"]}) == 4
        body = json.dumps({"user_prompt": "p", "essay_a": "a", "essay_b": "b"}) + "\n"
        handed = await llmctl(
            *("submit", "--wait", "--file", "-", "--callback-topic", said["topics"][0]),
            *("--url", said["url"], "--bootstrap-servers", bootstrap_servers),
            stdin=(body * 20).encode(),
        )
        answers = [json.loads(line) for line in handed.out.splitlines()]
        assert [answer["status"] for answer in answers] == ["success"] * 20

        drained = await llmctl("drain", "--url", said["replica_urls"][0], "--timeout", "300s")
        assert drained.code == 0
        rest = await llmctl(
            *("submit", "--wait", "--file", "-", "--callback-topic", said["topics"][0]),
            *("--url", said["replica_urls"][1], "--bootstrap-servers", bootstrap_servers),
            stdin=(body * 12).encode(),
        )
        assert rest.code == 0
        process.terminate()
        assert await wait_end(process) == 0


async def test_replicas_with_files_of_their_own(llmctl: Run, place: Path) -> None:
    words = ("--kafka-port", "0", "--replicas", "2", "--data-dir", str(place / "data"))
    async with up(*words, env=put_in(place)) as (process, said):
        await llmctl("drain", "--url", said["replica_urls"][0], "--timeout", "300s")
        async with open_client() as client:

            async def is_passed_over() -> bool:
                answers = [(await client.get(said["url"] + "/readyz")).status_code for _ in range(4)]
                return answers == [200] * 4

            await until(is_passed_over, "passing it over")
        process.terminate()
        assert await wait_end(process) == 0
    assert sorted(each.name for each in (place / "data").glob("queue*.db")) == ["queue-1.db", "queue-2.db"]


async def test_a_taken_port_is_one_sentence(
    llmctl: Run, embedded_broker: Any, bootstrap_servers: str, place: Path
) -> None:
    taken = bootstrap_servers.rpartition(":")[2]
    ended = await llmctl("up", *ANY_PORTS, "--kafka-port", taken, env=put_in(place))
    assert (ended.code, ended.out, len(ended.err.splitlines())) == (1, "", 1)
    assert ended.err.startswith("The broker ended with code 1: ")
    assert taken in ended.err
    assert left_in(place) == []


async def test_serve_is_the_service_itself(llmctl: Run, place: Path) -> None:
    ended = await llmctl("serve", env={"LLM_PROVIDER_SERVICE_PORT": "no port"})
    assert ended.code == 2
    assert "LLM_PROVIDER_SERVICE_PORT" in ended.err


async def test_simulators_run_alone_and_obey(llmctl: Run, place: Path) -> None:
    env = put_in(place)
    async with (
        start("simulate", "provider", "--port", "0", env=env) as provider,
        start("simulate", "broker", "--port", "0", "--topic", "mine:2", env=env) as broker,
    ):
        assert "openai" in (await read_ready(provider))["base_urls"]
        servers = (await read_ready(broker))["bootstrap_servers"]
        env["LLMCTL_BOOTSTRAP_SERVERS"] = servers
        slowed = await llmctl("simulate", "broker", "slow", "20ms", env=env)
        assert json.loads(slowed.out)["delay_milliseconds"] == 20
        assert json.loads((await llmctl("simulate", "broker", "down", env=env)).out)["state"] == "down"
        assert (await llmctl("topics", "list", env=env)).code == 3
        assert json.loads((await llmctl("simulate", "broker", "up", env=env)).out)["state"] == "up"
        assert json.loads((await llmctl("simulate", "broker", "cut", env=env)).out)["state"] == "up"
        losing = await llmctl("simulate", "broker", "lose-acks", "300s", env=env)
        assert 0 < json.loads(losing.out)["loses_answers_seconds"] <= 300
        ended = await llmctl("simulate", "broker", "lose-acks", "0s", env=env)
        assert json.loads(ended.out)["loses_answers_seconds"] == 0
        gone = await llmctl("simulate", "broker", "topic-error", "mine", "3", "--output", "table", env=env)
        assert "topic mine shown with UNKNOWN_TOPIC_OR_PARTITION" in gone.out
        wrong = await llmctl("simulate", "broker", "topic-error", "mine", "no-such-error", env=env)
        assert (wrong.code, "no error that a broker answers with" in wrong.err) == (2, True)
        back = await llmctl("simulate", "broker", "topic-error", "mine", "none", env=env)
        assert json.loads(back.out)["topic_errors"] == {}
        described = await llmctl("topics", "describe", "mine", env=env)
        assert json.loads(described.out)["topics"][0]["partitions"] == 2
        for process in (provider, broker):
            process.terminate()
            assert await wait_end(process) == 0
    gone = await llmctl("simulate", "broker", "up", env=env)
    assert gone.code == 3
    assert "No embedded broker runs at" in gone.err
