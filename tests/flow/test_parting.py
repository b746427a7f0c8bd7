"""How HTTP behaves while the service drains and stops: no answer is lost to a reset."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.engine.phase import Phase, PhaseGate
from service.settings import Settings
from service.web.listener import bind
from service.web.server import Server
from service.wiring import build
from tests.waiting import HANG_SECONDS

PATH = "/api/v1/comparison"
FAR_BEYOND_THE_LIMIT_BYTES = 3 * 1024 * 1024


def read_to_end(connection: socket.socket) -> bytes:
    chunks = []
    while chunk := connection.recv(65536):
        chunks.append(chunk)
    return b"".join(chunks)


async def test_every_answer_ends_its_connection_while_draining(
    own_service: httpx.AsyncClient, body: dict[str, Any]
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


@pytest.fixture
def patient_server(monkeypatch: pytest.MonkeyPatch) -> tuple[Server, PhaseGate]:
    """A server that waits for open connections until a test hangs."""
    for limit in ("QUIET_SECONDS", "LAST_REQUESTS_LIMIT_SECONDS", "CLOSE_LIMIT_SECONDS"):
        monkeypatch.setattr(f"service.web.server.{limit}", int(HANG_SECONDS))
    gate = PhaseGate()
    return Server(answer_alive, gate), gate


async def test_connection_that_nobody_accepted_yet_is_answered_when_the_listener_closes(
    patient_server: tuple[Server, PhaseGate],
) -> None:
    """What the kernel took for us before the end is ours to answer; what comes after it is refused."""
    server, gate = patient_server
    listener = bind("127.0.0.1", 0)
    address = listener.socket.getsockname()
    async with asyncio.timeout(HANG_SECONDS), asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.serve_on(listener))
        await server.listening.wait()
        gate.advance(Phase.STOPPED)
        # The loop does not run from here to `finish`: the connections are in the kernel alone.
        connections = [socket.create_connection(address, HANG_SECONDS) for _ in range(5)]
        for connection in connections:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        finishing = tasks.create_task(server.finish())
        answers = [await asyncio.to_thread(read_to_end, connection) for connection in connections]
        for connection in connections:
            connection.close()
        left = await finishing
        with socket.socket() as late:
            refused = late.connect_ex(address)
        server.stop()
        await serving

    assert [answer.startswith(b"HTTP/1.1 200 ") for answer in answers] == [True] * 5
    assert all(b"\r\nconnection: close\r\n" in answer for answer in answers)
    assert left == 0
    assert refused != 0


async def test_open_connections_have_their_say_after_the_listener_is_closed(
    patient_server: tuple[Server, PhaseGate],
) -> None:
    server, gate = patient_server
    listener = bind("127.0.0.1", 0)
    address = listener.socket.getsockname()
    async with asyncio.timeout(HANG_SECONDS), asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.serve_on(listener))
        await server.listening.wait()
        reader, writer = await asyncio.open_connection(*address[:2])
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        kept = await reader.readuntil(b"alive")
        gate.advance(Phase.STOPPED)
        finishing = tasks.create_task(server.finish())
        await asyncio.sleep(0)  # its first step closes the listener
        with socket.socket() as late:
            refused = late.connect_ex(address)
        waits = not finishing.done()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        last = await reader.read()
        writer.close()
        left = await finishing
        server.stop()
        await serving

    assert b"connection: close" not in kept
    assert refused != 0
    assert waits
    assert last.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nconnection: close\r\n" in last
    assert left == 0


async def test_streams_are_woken_by_the_stop(tmp_path: Path) -> None:
    service = build(
        Settings(
            _env_file=None,
            queue_path=tmp_path / "queue.db",
            allow_mock_provider=True,
            default_llm_provider="mock",
        )
    )
    waiting = asyncio.ensure_future(service.operations.wait_until_stopped(HANG_SECONDS * 10))
    await asyncio.sleep(0)
    service.gate.advance(Phase.STOPPED)

    async with asyncio.timeout(HANG_SECONDS):
        await waiting
