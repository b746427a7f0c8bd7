"""Deploys: a stop in which no client meets a reset, a socket that outlives the process, restarts."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from service.web.listener import HandedOverSocketUnusable, take_over
from tests.conftest import ROOT, Child, Launcher
from tests.process.conftest import (
    configure_service,
    find_openai,
    start_provider,
    stopped,
    submit,
    until_logged,
    until_work_is,
)
from tests.process.load import PATH, Load, SharedLedger, TopicWatch
from tests.waiting import HANG_SECONDS, open_client, until

MANY_RESTARTS = 20
RESTARTS = pytest.mark.parametrize("restarts", [2, pytest.param(MANY_RESTARTS, marks=pytest.mark.long)])
OFFERED_PER_SECOND = 50
HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=sys.argv[2], LISTEN_FDNAMES="http")
os.execv(sys.executable, [sys.executable, "-m", "service", *sys.argv[3:]])
"""
"""What systemd does between fork and exec: the socket as descriptor 3, and for whom it is."""


class Deployment:
    """One instance: its settings, and how processes start with them."""

    def __init__(self, launcher: Launcher, folder: Path, settings: Mapping[str, str]) -> None:
        self._launcher = launcher
        self._folder = folder
        self._settings = settings
        self._logs = 0

    def start(self) -> Child:
        """Starts it on an address of its own."""
        return self._launcher.start("service", env=self._settings)

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
def provider(launcher: Launcher) -> Child:
    return start_provider(launcher, latency_ms=50)


@pytest.fixture
def deploy(launcher: Launcher, provider: Child, bootstrap_servers: str, tmp_path: Path) -> Deploy:
    """Makes instances, each with a queue file of its own."""

    def make(name: str = "one", **settings: str) -> Deployment:
        folder = tmp_path / name
        folder.mkdir()
        environment = configure_service(bootstrap_servers, folder, find_openai(provider), **settings)
        return Deployment(launcher, folder, environment)

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


def compose(topic: str) -> bytes:
    """A valid comparison as HTTP/1.1 that leaves the connection to the service to keep."""
    comparison = {"user_prompt": "Which?", "essay_a": "one", "essay_b": "two", "callback_topic": topic}
    body = json.dumps(comparison).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def connect(child: Child) -> socket.socket:
    url = httpx.URL(child.ready["url"])
    return socket.create_connection((url.host, url.port or 0), HANG_SECONDS)


def read_to_end(connection: socket.socket) -> bytes:
    """Everything until the other side ends; a reset is an error here."""
    chunks = []
    while chunk := connection.recv(65536):
        chunks.append(chunk)
    return b"".join(chunks)


def events_of(child: Child) -> list[str]:
    return [line["event"] for line in child.read_log()]


def without_others(events: Sequence[str], first: str = "stopping") -> list[str]:
    """Drops the events before `first`, and those about topics of other tests on the shared broker."""
    told = [event for event in events if "broker" not in event and "Topic " not in event]
    return told[told.index(first) :]


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with open_client() as client:
        yield client


async def test_sigterm_closes_the_door_first_and_tells_its_story_in_order(
    deploy: Deploy, provider: Child, topic: str
) -> None:
    """While started calls finish, readiness and acceptance answer 503 and end their connections."""
    service = deploy(CONCURRENCY="1").start()
    with stopped(provider):  # the call that is started cannot end
        await submit(service.ready["url"], topic, 6)
        await until_work_is(service.ready["url"], queued=5, in_flight=1, outbox=0)
        with connect(service) as asking, connect(service) as submitting:
            service.process.send_signal(signal.SIGTERM)
            await until_logged(service, "Starting graceful")
            asking.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
            submitting.sendall(compose(topic))
            readiness, refused = [
                await asyncio.to_thread(read_to_end, connection) for connection in (asking, submitting)
            ]
        assert service.process.poll() is None
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


async def test_stop_ends_streams_at_once_and_idle_connections_soon(
    deploy: Deploy, client: httpx.AsyncClient
) -> None:
    """The process waits neither for a stream nor for an idle connection."""
    service = deploy().start()
    with connect(service) as idle:
        async with client.stream("GET", f"{service.ready['url']}/admin/v1/stream") as stream:
            chunks = stream.aiter_text()
            first = await anext(chunks)
            service.process.send_signal(signal.SIGTERM)
            async for _ in chunks:
                pass  # to its end: a break is an error
        last = await asyncio.to_thread(read_to_end, idle)
        code = await asyncio.to_thread(service.process.wait, HANG_SECONDS)

    log = {line["event"]: line for line in service.read_log()}
    assert (code, last) == (0, b"")
    assert first.startswith("event: snapshot")
    assert log["connections closed"]["closed_by_us"] >= 1


async def test_second_sigint_leaves_at_once_and_the_next_start_finishes(
    deploy: Deploy, provider: Child, topic: str, bootstrap_servers: str
) -> None:
    """Ctrl-C twice: exit 130 without waiting, and every accepted request is still called back once."""
    deployment = deploy()
    service = deployment.start()
    ledger = SharedLedger()
    with TopicWatch(bootstrap_servers, [topic], ledger) as watch:
        with stopped(provider):  # no call that is started can end
            async with Load([service.ready["url"]], [topic], ledger, per_second=100) as load:
                await load.offer_just(40)
                await load.resolve()
            service.process.send_signal(signal.SIGINT)
            await until_logged(service, "Starting graceful")
            code = await asyncio.to_thread(service.stop, signal.SIGINT)
            left = ledger.outstanding
        deployment.start()
        await watch.until_called_back()

    assert code == 130
    assert left == load.accepted >= 40
    assert events_of(service)[-1].startswith("second SIGINT")
    assert "stopped" not in events_of(service)
    assert ledger.report().sound


async def test_connections_wait_in_the_kernel_while_the_process_is_replaced(
    deploy: Deploy, start_on: StartOn, held: socket.socket, topic: str
) -> None:
    """With a socket handed over, the second process answers clients that connect between the two."""
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


def listen(host: str = "127.0.0.1") -> socket.socket:
    return socket.create_server((host, 0))


def bind_without_listening(kind: int = socket.SOCK_STREAM) -> socket.socket:
    unused = socket.socket(type=kind)
    unused.bind(("127.0.0.1", 0))
    return unused


def listen_on_unix_socket() -> socket.socket:
    unused = socket.socket(socket.AF_UNIX)
    unused.bind(b"\0" + uuid4().bytes)
    unused.listen()
    return unused


@pytest.mark.parametrize(
    ("make", "count", "said"),
    [
        (listen, "one", "LISTEN_FDS is no number"),
        (tempfile.TemporaryFile, "1", "is no socket"),
        (bind_without_listening, "1", "not a listening TCP socket"),
        (lambda: bind_without_listening(socket.SOCK_DGRAM), "1", "not a listening TCP socket"),
        (listen_on_unix_socket, "1", "not a listening TCP socket"),
    ],
    ids=["no-number", "file", "not-listening", "datagram", "unix"],
)
def test_only_one_listening_tcp_socket_is_taken_over(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any], count: str, said: str
) -> None:
    with make() as given:
        monkeypatch.setattr("service.web.listener.FIRST_HANDED_OVER", given.fileno())
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", count)
        with pytest.raises(HandedOverSocketUnusable, match=said):
            take_over()


@pytest.mark.parametrize(
    ("host", "count", "said"),
    [("127.0.0.1", "2", "LISTEN_FDS is 2"), ("0.0.0.0", "1", "is not a loopback address")],
)
def test_wrong_hand_over_stops_the_start_with_one_sentence(
    deploy: Deploy, host: str, count: str, said: str
) -> None:
    """Exit 2: the socket is unusable, or must not be used without tokens."""
    with listen(host) as given:
        process, log = deploy().spawn(given.fileno(), count)
        try:
            code = process.wait(HANG_SECONDS)
        finally:
            end(process)

    assert code == 2
    assert len(log.read_text().strip().splitlines()) == 1
    assert said in log.read_text()


def test_socket_for_another_process_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """LISTEN_PID names the process that LISTEN_FDS is for."""
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert take_over() is None


def assert_nobody_noticed(load: Load, ledger: SharedLedger, restarts: int) -> None:
    """Every request was accepted and has one callback.

    In the long run, clients also saw nothing but acceptance and 503. A short run does not check that: a
    client that stalls for longer than the service waits for its idle connections finds one closed.
    """
    report = ledger.report()
    assert report.sound, report
    assert (report.ok, report.accepted) == (load.accepted, load.accepted)
    assert load.accepted == load.offered
    if restarts >= MANY_RESTARTS:
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
    """One instance, restarted again and again under load: nothing is lost."""
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

    assert_nobody_noticed(load, ledger, restarts)


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
    """Two instances, drained and restarted in turn under load: nothing is lost."""
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

    assert_nobody_noticed(load, ledger, restarts)
