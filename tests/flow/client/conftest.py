"""What a program has: a stack of `llmctl up`, topics on it, callbacks put there by hand."""

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

from llmctl.library import ComparisonClient, connect
from simulator.broker.control import BrokerControl, TopicSpec
from simulator.broker.runtime import control_path
from tests.flow.client.callbacks import CallBack, open_writer
from tests.waiting import HANG_SECONDS, open_client


@dataclass(frozen=True)
class Up:
    url: str
    bootstrap_servers: str
    control: BrokerControl

    async def create_topic(self, partitions: int = 3) -> str:
        name = f"program-{uuid4().hex}"
        await self.control.create_topics([TopicSpec(name, partitions)])
        return name

    async def operate(self, path: str, **body: object) -> None:
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
async def client(up: Up) -> AsyncIterator[ComparisonClient]:
    """A client of the library, connected to `llmctl up`."""
    async with connect(up.url, up.bootstrap_servers) as client:
        yield client


@pytest.fixture
async def call_back(up: Up) -> AsyncIterator[CallBack]:
    async with open_writer(up.bootstrap_servers) as write:
        yield write
