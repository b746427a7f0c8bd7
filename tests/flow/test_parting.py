"""How HTTP behaves while the service drains and stops: no answer is lost to a reset."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.engine.phase import Phase, PhaseGate
from service.settings import Settings
from service.web.connection import ConnectionLimits
from service.web.listener import bind
from service.web.server import Server
from service.wiring import build
from tests.flow.conftest import Body
from tests.waiting import HANG_SECONDS, until

PATH = "/api/v1/comparison"
FAR_BEYOND_THE_LIMIT_BYTES = 3 * 1024 * 1024


def read_to_end(connection: socket.socket) -> bytes:
    chunks = []
    while chunk := connection.recv(65536):
        chunks.append(chunk)
    return b"".join(chunks)


async def test_every_answer_ends_its_connection_while_draining(
    own_service: httpx.AsyncClient, body: Body
) -> None:
    kept = await own_service.get("/healthz")
    await own_service.post("/admin/v1/drain")
    answers = [
        await own_service.post(PATH, json=body),
        await own_service.get("/readyz"),
        await own_service.get("/healthz"),
        await own_service.get("/metrics"),
        await own_service.get("/admin/v1/drain"),
        await own_service.get("/no/such/route"),
        await own_service.post("/healthz"),
    ]
    await own_service.post("/admin/v1/resume")
    kept_again = await own_service.post(PATH, json=body)

    assert [answer.status_code for answer in answers] == [503, 503, 200, 200, 200, 404, 405]
    assert [answer.headers.get("connection") for answer in answers] == ["close"] * 7
    assert answers[0].headers["retry-after"] == "10"
    assert kept_again.status_code == 202
    assert [answer.headers.get("connection") for answer in (kept, kept_again)] == [None, None]


async def test_refusal_reaches_a_client_that_is_still_sending(own_service: httpx.AsyncClient) -> None:
    """An answer before the end of the body ends the connection without a reset that would delete it."""
    await own_service.post("/admin/v1/drain")
    url = own_service.base_url
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {FAR_BEYOND_THE_LIMIT_BYTES}\r\n\r\n"

    def send_and_read() -> bytes:
        with socket.create_connection((url.host, url.port), HANG_SECONDS) as connection:
            connection.sendall(head.encode())
            connection.sendall(b"x" * FAR_BEYOND_THE_LIMIT_BYTES)
            return read_to_end(connection)

    answer = await asyncio.to_thread(send_and_read)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["error_code"] == "LLM_CONTENT_TOO_LONG"


async def answer_alive(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"alive"})


@dataclass
class Stopping:
    """A server in this process, whose stop begins with `gate.advance(Phase.STOPPED)`."""

    server: Server
    gate: PhaseGate
    address: tuple[str, int]


@pytest.fixture
async def stopping(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stopping]:
    """A server that waits for open connections and for what they send until a test hangs."""
    for limit in ("QUIET_SECONDS", "LAST_REQUESTS_LIMIT_SECONDS", "CLOSE_LIMIT_SECONDS"):
        monkeypatch.setattr(f"service.web.server.{limit}", 2 * int(HANG_SECONDS))
    gate, listener = PhaseGate(), bind("127.0.0.1", 0)
    server = Server(answer_alive, gate, ConnectionLimits(receive_seconds=2 * HANG_SECONDS))
    serving = asyncio.create_task(server.serve_on(listener))
    await server.listening.wait()
    yield Stopping(server, gate, listener.socket.getsockname()[:2])
    server.stop()
    await asyncio.wait_for(serving, HANG_SECONDS)


async def test_connection_that_nobody_accepted_yet_is_answered_when_the_listener_closes(
    stopping: Stopping,
) -> None:
    """What the kernel took for us before the end is ours to answer; what comes after it is refused."""
    stopping.gate.advance(Phase.STOPPED)
    # The loop does not run from here to `finish`: the connections are in the kernel alone.
    connections = [socket.create_connection(stopping.address, HANG_SECONDS) for _ in range(5)]
    for connection in connections:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    finishing = asyncio.create_task(stopping.server.finish())
    answers = [await asyncio.to_thread(read_to_end, connection) for connection in connections]
    for connection in connections:
        connection.close()
    left = await asyncio.wait_for(finishing, HANG_SECONDS)
    with socket.socket() as late:
        refused = late.connect_ex(stopping.address)

    assert [answer.startswith(b"HTTP/1.1 200 ") for answer in answers] == [True] * 5
    assert all(b"\r\nconnection: close\r\n" in answer for answer in answers)
    assert left == 0
    assert refused != 0


async def test_open_connections_have_their_say_after_the_listener_is_closed(stopping: Stopping) -> None:
    async with asyncio.timeout(HANG_SECONDS):
        reader, writer = await asyncio.open_connection(*stopping.address)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        kept = await reader.readuntil(b"alive")
        stopping.gate.advance(Phase.STOPPED)
        finishing = asyncio.create_task(stopping.server.finish())
        await asyncio.sleep(0)  # its first step closes the listener
        with socket.socket() as late:
            refused = late.connect_ex(stopping.address)
        waits = not finishing.done()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        last = await reader.read()
        writer.close()
        left = await finishing

    assert b"connection: close" not in kept
    assert refused != 0
    assert waits
    assert last.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nconnection: close\r\n" in last
    assert left == 0


async def test_who_sends_on_after_the_answer_does_not_hold_up_a_stop(
    stopping: Stopping, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stop waits for other open connections; this one has its answer, and ends first."""
    monkeypatch.setattr("service.web.server.QUIET_SECONDS", 0.0)
    async with asyncio.timeout(HANG_SECONDS):
        reader, writer = await asyncio.open_connection(*stopping.address)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        answer = await reader.read()
        stopping.gate.advance(Phase.STOPPED)
        left = await stopping.server.finish()
        stopping.server.stop()
        await until(lambda: not stopping.server.server_state.connections, "its end")

    writer.close()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert left == 1


async def test_streams_are_woken_by_the_stop(tmp_path: Path) -> None:
    mock: dict[str, Any] = {"allow_mock_provider": True, "default_llm_provider": "mock"}
    service = build(Settings(_env_file=None, queue_path=tmp_path / "queue.db", **mock))
    waiting = asyncio.ensure_future(service.operations.wait_until_stopped(HANG_SECONDS * 10))
    await asyncio.sleep(0)
    service.gate.advance(Phase.STOPPED)
    async with asyncio.timeout(HANG_SECONDS):
        await waiting
