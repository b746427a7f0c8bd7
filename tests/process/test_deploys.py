"""Deploys: a stop in which no client meets a reset, a socket that outlives the process, restarts."""

import asyncio
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from service.web.server import QUIET_SECONDS
from tests.conftest import ROOT, Child, Launcher
from tests.process.load import PATH, Load, SharedLedger, TopicWatch
from tests.waiting import HANG_SECONDS, open_client, until

RESTARTS = pytest.mark.parametrize("restarts", [2, pytest.param(20, marks=pytest.mark.long)])
OFFERED_PER_SECOND = 50
HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=sys.argv[2], LISTEN_FDNAMES="http")
os.execv(sys.executable, [sys.executable, "-m", "service", *sys.argv[3:]])
"""
"""What systemd does between fork and exec: the socket as descriptor 3, and for whom it is."""


class Deployment:
    """One instance as it is deployed: its settings, and the process that runs with them at the moment."""

    def __init__(
        self, launcher: Launcher, folder: Path, provider: Child, settings: Mapping[str, str]
    ) -> None:
        self.provider = provider
        self._launcher = launcher
        self._folder = folder
        self._settings = settings
        self._logs = 0

    def start(self, **settings: str) -> Child:
        """Starts it on an address of its own."""
        return self._launcher.start("service", env={**self._settings, **settings})

    def spawn(self, descriptor: int, count: str, *arguments: str) -> tuple[subprocess.Popen[str], Path]:
        """Starts it with a descriptor handed over, and does not wait."""
        self._logs += 1
        log = self._folder / f"handed-over-{self._logs}.log"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-c", HAND_OVER, str(descriptor), count, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                cwd=self._folder,
                pass_fds=[descriptor],
                env={**os.environ, "PYTHONPATH": str(ROOT), **self._settings},
            )
        return process, log


Deploy = Callable[..., Deployment]


@pytest.fixture
def deploy(launcher: Launcher, bootstrap_servers: str, tmp_path: Path) -> Deploy:
    """Makes instances, each with a queue file of its own; their judge takes 150 ms."""
    provider = launcher.start("simulator.provider", "--port", "0", "--latency-p50-ms", "150")

    def make(name: str = "one", **settings: str) -> Deployment:
        folder = tmp_path / name
        folder.mkdir()
        return Deployment(
            launcher,
            folder,
            provider,
            {
                "LLM_PROVIDER_SERVICE_PORT": "0",
                "LLM_PROVIDER_SERVICE_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
                "LLM_PROVIDER_SERVICE_QUEUE_PATH": str(folder / "queue.db"),
                "LLM_PROVIDER_SERVICE_OPENAI_API_KEY": "fake-key",
                "LLM_PROVIDER_SERVICE_OPENAI_BASE_URL": provider.ready["base_urls"]["openai"],
                "LLM_PROVIDER_SERVICE_CONCURRENCY": "32",
                **settings,
            },
        )

    return make


StartOn = Callable[[Deployment, socket.socket], Child]


@pytest.fixture
def start_on() -> Iterator[StartOn]:
    """Starts an instance on a socket that the test holds, and waits until it is ready."""
    with ExitStack() as started:

        def start(deployment: Deployment, held: socket.socket) -> Child:
            process, log = deployment.spawn(held.fileno(), "1", "--exit-with-parent")
            started.callback(end, process)
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, log.read_text()[-2000:]
            return Child(process, json.loads(line), log)

        yield start


def end(process: subprocess.Popen[str]) -> None:
    """Ends a process that may have ended, and lets go of its pipes."""
    process.kill()
    process.wait(HANG_SECONDS)
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        stream.close()


@pytest.fixture
def held() -> Iterator[socket.socket]:
    """A listening socket that is held open for the service, as systemd does."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        yield listener


def make_body(topic: str) -> dict[str, str]:
    """A valid comparison."""
    return {"user_prompt": "Which?", "essay_a": "one", "essay_b": "two", "callback_topic": topic}


def compose(topic: str) -> bytes:
    """A valid comparison as HTTP/1.1 that leaves the connection to the service to keep."""
    body = json.dumps(make_body(topic)).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def connect(child: Child) -> socket.socket:
    """A TCP connection to a service."""
    url = httpx.URL(child.ready["url"])
    return socket.create_connection((url.host, url.port or 0), HANG_SECONDS)


def read_to_end(connection: socket.socket) -> bytes:
    """Everything until the other side ends; a reset is an error here."""
    chunks = []
    while chunk := connection.recv(65536):
        chunks.append(chunk)
    return b"".join(chunks)


def events_of(child: Child) -> list[str]:
    """What the log tells, in its order."""
    return [line["event"] for line in child.read_log()]


async def wait_for_event(child: Child, begins: str) -> dict[str, Any]:
    """The first line of the log whose event begins so."""
    found: list[dict[str, Any]] = []

    def is_told() -> bool:
        found[:] = [line for line in child.read_log() if line["event"].startswith(begins)]
        return bool(found)

    await until(is_told, what=begins)
    return found[0]


def without_others(events: Sequence[str], first: str = "stopping") -> list[str]:
    """From the first on; what other tests have made of their topics on the shared broker is left out."""
    told = [event for event in events if "broker" not in event and "Topic " not in event]
    return told[told.index(first) :]


async def submit(url: str, topic: str, count: int) -> None:
    """Submits requests at once."""
    async with open_client(url) as client:
        responses = await asyncio.gather(*(client.post(PATH, json=make_body(topic)) for _ in range(count)))
    assert {response.status_code for response in responses} == {202}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client that keeps its connections where it is let."""
    async with open_client() as client:
        yield client


async def test_sigterm_closes_the_door_first_and_tells_its_story_in_order(
    deploy: Deploy, topic: str, client: httpx.AsyncClient
) -> None:
    """While started calls finish, readiness and acceptance answer 503 and end their connections."""
    deployment = deploy(LLM_PROVIDER_SERVICE_CONCURRENCY="1")
    service = deployment.start()
    deployment.provider.process.send_signal(signal.SIGSTOP)  # the call that is started cannot end
    await submit(service.ready["url"], topic, 6)

    async def is_one_in_flight() -> bool:
        snapshot = (await client.get(f"{service.ready['url']}/admin/v1/snapshot")).json()
        return bool(snapshot["in_flight"] == 1)

    await until(is_one_in_flight, what="the first call")
    with connect(service) as asking, connect(service) as submitting:
        service.process.send_signal(signal.SIGTERM)
        await until(lambda: any(event.startswith("Starting graceful") for event in events_of(service)))
        asking.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        submitting.sendall(compose(topic))
        readiness, refused = [
            await asyncio.to_thread(read_to_end, connection) for connection in (asking, submitting)
        ]
    assert service.process.poll() is None
    deployment.provider.process.send_signal(signal.SIGCONT)
    assert await asyncio.to_thread(service.process.wait, HANG_SECONDS) == 0

    assert readiness.startswith(b"HTTP/1.1 503 ")
    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b"LLM_SERVICE_DRAINING" in refused
    for answer in (readiness, refused):
        assert re.search(rb"\r\nretry-after: \d+\r\n", answer)
        assert b"\r\nconnection: close\r\n" in answer
    told = [line for line in service.read_log() if line["event"] != "request answered"]
    assert without_others([line["event"] for line in told if not line["event"].startswith("Waiting")]) == [
        "stopping",
        "Starting graceful shutdown - draining in-flight requests",
        "Graceful shutdown completed",
        "drained",
        "listener closed, answering what open connections still bring",
        "connections closed",
        "stopped",
    ]
    assert {line["event"]: line for line in told}["drained"]["queued"] == 5


async def test_drain_of_an_operator_and_its_stop_can_be_told_apart_in_the_log(
    deploy: Deploy, client: httpx.AsyncClient
) -> None:
    """Who ordered what, and how it ended, in the order in which it happened."""
    service = deploy().start()
    url = service.ready["url"]
    await client.post(f"{url}/admin/v1/drain", json={"timeout_seconds": 3000})
    await until(lambda: "drain ended" in events_of(service), what="the end of the first drain")
    await client.post(f"{url}/admin/v1/resume")
    await client.post(f"{url}/admin/v1/drain", json={"timeout_seconds": 3000})
    await until(lambda: events_of(service).count("drain ended") == 2, what="the end of the second")
    code = await asyncio.to_thread(service.stop)

    drained = ["Starting graceful shutdown - draining in-flight requests", "Graceful shutdown completed"]
    assert code == 0
    assert without_others(events_of(service), "drain ordered by an operator") == [
        *("drain ordered by an operator", *drained, "drain ended"),
        "drain taken back by an operator, requests are accepted again",
        *("drain ordered by an operator", *drained, "drain ended"),
        *("stopping", *drained, "drained"),
        "listener closed, answering what open connections still bring",
        "connections closed",
        "stopped",
    ]


async def test_request_on_an_open_connection_is_answered_after_the_listener_is_closed(
    deploy: Deploy, topic: str
) -> None:
    """A connection made right before the stop whose request comes right after it gets its answer."""
    deployment = deploy()
    late_seconds = math.inf
    answer = b""
    while late_seconds > QUIET_SECONDS / 2:  # a machine that was busy just then has let the moment pass
        service = deployment.start()
        with connect(service) as connection:
            service.process.send_signal(signal.SIGTERM)
            closed = await wait_for_event(service, "listener closed")
            with suppress(OSError):
                connection.sendall(compose(topic))
            late_seconds = (datetime.now(UTC) - datetime.fromisoformat(closed["timestamp"])).total_seconds()
            with suppress(ConnectionResetError):
                answer = await asyncio.to_thread(read_to_end, connection)
            code = await asyncio.to_thread(service.process.wait, HANG_SECONDS)

    assert code == 0
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nconnection: close\r\n" in answer


async def test_stop_ends_streams_at_once_and_idle_connections_soon(
    deploy: Deploy, client: httpx.AsyncClient
) -> None:
    """Neither a stream nor a connection that nobody uses keeps the process: gone well within the limits."""
    service = deploy().start()
    with connect(service) as idle:
        async with client.stream("GET", f"{service.ready['url']}/admin/v1/stream") as stream:
            chunks = stream.aiter_text()
            first = await anext(chunks)
            service.process.send_signal(signal.SIGTERM)
            rest = "".join([chunk async for chunk in chunks])  # an end, not a break
        last = await asyncio.to_thread(read_to_end, idle)
        code = await asyncio.to_thread(service.process.wait, HANG_SECONDS)

    log = {line["event"]: line for line in service.read_log()}
    assert (code, last) == (0, b"")
    assert first.startswith("event: snapshot")
    assert rest.count("event: snapshot") <= 1
    assert log["connections closed"]["closed_by_us"] >= 1


async def test_second_sigint_leaves_at_once_and_the_next_start_finishes(
    deploy: Deploy, topic: str, bootstrap_servers: str
) -> None:
    """Ctrl-C twice: exit 130 without waiting, and every accepted request is still called back once."""
    deployment = deploy()
    service = deployment.start()
    ledger = SharedLedger()
    deployment.provider.process.send_signal(signal.SIGSTOP)  # nothing that is started can end
    with TopicWatch(bootstrap_servers, [topic], ledger) as watch:
        async with Load([service.ready["url"]], [topic], ledger, per_second=100) as load:
            await until(lambda: load.accepted >= 40, what="forty accepted requests")
            load.stop_offering()
            await load.resolve()
        service.process.send_signal(signal.SIGINT)
        await until(lambda: any(event.startswith("Starting graceful") for event in events_of(service)))
        code = await asyncio.to_thread(service.stop, signal.SIGINT)
        left = ledger.outstanding
        deployment.provider.process.send_signal(signal.SIGCONT)
        deployment.start()
        await watch.until_called_back()

    assert code == 130
    assert left >= 40
    assert events_of(service)[-1].startswith("second SIGINT")
    assert "stopped" not in events_of(service)
    assert ledger.report().sound


async def test_connections_wait_in_the_kernel_while_the_process_is_replaced(
    deploy: Deploy, start_on: StartOn, held: socket.socket, topic: str, client: httpx.AsyncClient
) -> None:
    """With a socket handed over, who connects between two processes is answered by the second."""
    deployment = deploy()
    first = start_on(deployment, held)
    assert first.ready["url"] == f"http://127.0.0.1:{held.getsockname()[1]}"
    await submit(first.ready["url"], topic, 1)
    code = await asyncio.to_thread(first.stop)
    with connect(first) as connection:
        connection.sendall(compose(topic))
        start_on(deployment, held)
        connection.settimeout(HANG_SECONDS)
        answer = await asyncio.to_thread(connection.recv, 65536)

    assert code == 0
    assert answer.startswith(b"HTTP/1.1 202 ")


def make_nothing_listening() -> socket.socket:
    """A TCP socket that is bound and does not listen."""
    unused = socket.socket()
    unused.bind(("127.0.0.1", 0))
    return unused


def make_datagram() -> socket.socket:
    """A UDP socket."""
    unused = socket.socket(type=socket.SOCK_DGRAM)
    unused.bind(("127.0.0.1", 0))
    return unused


def make_local() -> socket.socket:
    """A Unix socket that listens."""
    unused = socket.socket(socket.AF_UNIX)
    unused.bind(b"\0" + uuid4().bytes)
    unused.listen()
    return unused


@pytest.mark.parametrize(
    ("make", "count", "said"),
    [
        (lambda: socket.create_server(("127.0.0.1", 0)), "2", "LISTEN_FDS is 2"),
        (lambda: socket.create_server(("127.0.0.1", 0)), "one", "LISTEN_FDS is no number"),
        (tempfile.TemporaryFile, "1", "is no socket"),
        (make_nothing_listening, "1", "not a listening TCP socket"),
        (make_datagram, "1", "not a listening TCP socket"),
        (make_local, "1", "not a listening TCP socket"),
        (lambda: socket.create_server(("0.0.0.0", 0)), "1", "is not a loopback address"),
    ],
    ids=["two", "no-number", "file", "not-listening", "datagram", "unix", "exposed"],
)
def test_wrong_hand_over_stops_the_start_with_one_sentence(
    deploy: Deploy, make: Callable[[], Any], count: str, said: str
) -> None:
    """What cannot be listened on, or must not be without tokens, is said in one line: exit 2."""
    with make() as given:
        process, log = deploy().spawn(given.fileno(), count)
        try:
            code = process.wait(HANG_SECONDS)
        finally:
            end(process)

    assert code == 2
    assert len(log.read_text().strip().splitlines()) == 1
    assert said in log.read_text()


def test_socket_for_another_process_is_left_alone(deploy: Deploy) -> None:
    """LISTEN_FDS that is not meant for this process, as LISTEN_PID says, changes nothing."""
    service = deploy().start(LISTEN_PID="1", LISTEN_FDS="1")

    assert [line["handed_over"] for line in service.read_log() if line["event"] == "ready"] == [False]


def assert_nobody_noticed(load: Load, ledger: SharedLedger) -> None:
    """Every accepted request has one answer; the client saw acceptance and 503 with a time, nothing else."""
    report = ledger.report()
    assert report.sound, report
    assert (report.ok, report.accepted) == (load.accepted, load.accepted)
    assert load.accepted == load.offered
    assert set(load.ends()) <= {"acked", "503 LLM_SERVICE_DRAINING"}, load.ends()
    load.check()


@RESTARTS
async def test_restarts_on_a_held_socket_are_a_pause_to_clients(
    restarts: int,
    deploy: Deploy,
    start_on: StartOn,
    held: socket.socket,
    topic: str,
    bootstrap_servers: str,
) -> None:
    """One instance, restarted again and again under load: nothing is lost, and no connection fails."""
    deployment = deploy()
    service = await asyncio.to_thread(start_on, deployment, held)
    ledger = SharedLedger()
    with TopicWatch(bootstrap_servers, [topic], ledger) as watch:
        async with Load([service.ready["url"]], [topic], ledger, per_second=OFFERED_PER_SECOND) as load:
            for _ in range(restarts):
                accepted = load.accepted
                await until(lambda accepted=accepted: load.accepted >= accepted + 20)
                assert await asyncio.to_thread(service.stop) == 0
                service = await asyncio.to_thread(start_on, deployment, held)
            load.stop_offering()
            await load.resolve()
        await watch.until_called_back()

    assert_nobody_noticed(load, ledger)


class Balancer:
    """Sends a load to the instances whose /readyz is 200, as a load balancer does."""

    def __init__(self, load: Load, client: httpx.AsyncClient, urls: Sequence[str]) -> None:
        self._load = load
        self._client = client
        self.urls = list(urls)
        self.ready: list[str] = []

    async def look(self) -> None:
        """Asks every instance once."""
        self.ready = [url for url in self.urls if await self._is_ready(url)]
        if self.ready:
            self._load.point_at(*(self.ready[place % len(self.ready)] for place in range(len(self.urls))))

    async def _is_ready(self, url: str) -> bool:
        try:
            return (await self._client.get(f"{url}/readyz")).status_code == 200
        except httpx.TransportError:
            return False


@RESTARTS
async def test_rolling_restarts_behind_a_balancer_lose_nothing(
    restarts: int,
    deploy: Deploy,
    topic: str,
    bootstrap_servers: str,
    client: httpx.AsyncClient,
) -> None:
    """Two instances, drained and restarted in turn under load: nothing is lost, and no connection fails."""
    deployments = [deploy(name) for name in ("one", "two")]
    services = [await asyncio.to_thread(each.start) for each in deployments]
    ledger = SharedLedger()
    urls = [service.ready["url"] for service in services]
    with TopicWatch(bootstrap_servers, [topic], ledger) as watch:
        async with Load(urls, [topic], ledger, per_second=OFFERED_PER_SECOND) as load:
            balancer = Balancer(load, client, urls)

            async def is_ready(url: str) -> bool:
                await balancer.look()
                return url in balancer.ready

            async def is_gone(url: str) -> bool:
                return not await is_ready(url)

            for n in range(restarts):
                turn, accepted = n % 2, load.accepted
                old = balancer.urls[turn]
                await until(lambda accepted=accepted: load.accepted >= accepted + 20)
                ordered = await client.post(f"{old}/admin/v1/drain", json={"timeout_seconds": 300})
                assert ordered.status_code == 202
                await until(lambda old=old: is_gone(old), what="the instance out of the balancer")
                assert await asyncio.to_thread(services[turn].stop) == 0
                services[turn] = await asyncio.to_thread(deployments[turn].start)
                balancer.urls[turn] = new = services[turn].ready["url"]
                await until(lambda new=new: is_ready(new), "the new instance in the balancer")
            load.stop_offering()
            await load.resolve()
        await watch.until_called_back()

    assert_nobody_noticed(load, ledger)
