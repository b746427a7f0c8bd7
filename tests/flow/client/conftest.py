"""What a program has: a stack of `llmctl up`, topics on it, callbacks put there by hand."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from simulator.broker.control import BrokerControl, TopicSpec
from simulator.broker.runtime import control_path
from tests.flow.client.callbacks import CallBack, open_writer
from tests.waiting import HANG_SECONDS, open_client


@dataclass(frozen=True)
class Up:
    """Where the parts of a running `llmctl up` are."""

    url: str
    bootstrap_servers: str
    control: BrokerControl

    async def create_topic(self, partitions: int = 3) -> str:
        """A new topic."""
        name = f"program-{uuid4().hex}"
        await self.control.create_topics([TopicSpec(name, partitions)])
        return name

    async def operate(self, path: str, **body: object) -> None:
        """An operator's order to the service."""
        async with open_client(self.url) as client:
            (await client.post(f"/admin/v1/{path}", json=body)).raise_for_status()


@pytest.fixture(scope="session")
def up() -> Iterator[Up]:
    """`llmctl up`, as a user starts it, for all tests of this folder."""
    with tempfile.TemporaryDirectory(prefix="llmctl-", dir="/tmp") as name:
        folders = {"TMPDIR": Path(name) / "tmp", "LLMCTL_RUNTIME_DIR": Path(name) / "run"}
        for folder in folders.values():
            folder.mkdir(mode=0o700)
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "llmctl", "up"),
                *("--port", "0", "--kafka-port", "0", "--provider-port", "0"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "LLMCTL_CONFIG": os.devnull, **{k: str(v) for k, v in folders.items()}},
        )
        try:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            servers = said["bootstrap_servers"]
            port = int(servers.rpartition(":")[2])
            yield Up(said["url"], servers, BrokerControl(control_path(folders["LLMCTL_RUNTIME_DIR"], port)))
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=HANG_SECONDS)


@pytest.fixture
async def topic(up: Up) -> str:
    """A topic of this test's own, with three partitions."""
    return await up.create_topic()


@pytest.fixture
async def call_back(up: Up) -> AsyncIterator[CallBack]:
    """Puts callbacks of requests on a topic of `llmctl up`, in this order."""
    async with open_writer(up.bootstrap_servers) as write:
        yield write


@pytest.fixture(autouse=True)
def config_file(clean_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty file of contexts instead of the developer's own."""
    path = tmp_path / "llmctl.toml"
    path.touch(mode=0o600)
    monkeypatch.setenv("LLMCTL_CONFIG", str(path))
    return path


@pytest.fixture
async def dead_port() -> int:
    """A port on which nobody listens."""
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = int(server.sockets[0].getsockname()[1])
    server.close()
    await server.wait_closed()
    return port
