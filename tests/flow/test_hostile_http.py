"""Clients that are slow, loud or many: each is told what is wrong and goes, and the others notice nothing."""

import asyncio
import json
import re
import resource
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.flow.conftest import MOCK, make_env
from tests.waiting import HANG_SECONDS, open_client, until

PATH = "/api/v1/comparison"
RECEIVE_SECONDS = 1.0
MAX_CONNECTIONS = 60
HEAD = b"POST /api/v1/comparison HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


def start_service(launcher: Any, broker: Any, folder: Path, receive_seconds: float) -> Any:
    settings = {"MAX_CONNECTIONS": str(MAX_CONNECTIONS), "RECEIVE_TIMEOUT_SECONDS": str(receive_seconds)}
    env = make_env(broker.ready["bootstrap_servers"], folder, **MOCK, **settings)
    return launcher.start("service", env=env)


@pytest.fixture(scope="module")
def hasty_service(
    session_launcher: Any, embedded_broker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """A service with a short limit on receiving."""
    return start_service(session_launcher, embedded_broker, tmp_path_factory.mktemp("hasty"), RECEIVE_SECONDS)


@pytest.fixture(scope="module")
def own_service(session_launcher: Any, embedded_broker: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A service that waits for the rest of a request until a test hangs."""
    return start_service(session_launcher, embedded_broker, tmp_path_factory.mktemp("own"), HANG_SECONDS)


@pytest.fixture
async def client(own_service: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(own_service.ready["url"]) as client:
        yield client


async def connect(service: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = service.ready["url"].removeprefix("http://").rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    async with asyncio.timeout(HANG_SECONDS):
        answer = await reader.read()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)["error"]


HALVES = (
    b"POST /api",
    HEAD,
    HEAD + b"content-length: 1000\r\n\r\n" + b'{"user_prompt": "',
    HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\n{",
)


async def test_half_a_request_is_cut_off(hasty_service: Any) -> None:
    async def send(half: bytes) -> None:
        reader, writer = await connect(hasty_service)
        began = time.monotonic()
        writer.write(half)
        status, error = await read_answer(reader)
        assert (status, error["error_code"]) == (408, "LLM_INVALID_REQUEST"), half
        assert error["operation"] == "receive_request"
        assert time.monotonic() - began > RECEIVE_SECONDS * 0.9
        writer.close()

    await asyncio.gather(*map(send, HALVES))


async def test_a_request_that_drips_is_cut_off(hasty_service: Any) -> None:
    reader, writer = await connect(hasty_service)
    answering = asyncio.create_task(read_answer(reader))
    writer.write(HEAD + b"content-length: 100000\r\n\r\n")
    while not answering.done():
        writer.write(b" ")
        await asyncio.wait([answering], timeout=0.1)

    status, _ = await answering
    assert status == 408
    writer.close()


async def test_endless_headers_are_cut_off(own_service: Any) -> None:
    reader, writer = await connect(own_service)
    writer.write(HEAD)
    for number in range(20):
        writer.write(b"x-%d: %b\r\n" % (number, b"a" * 8000))
    status, error = await read_answer(reader)
    assert (status, error["error_code"]) == (431, "LLM_INVALID_REQUEST")
    writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x00" * 99,
    ],
    ids=["TLS", "a word", "a version", "zeros"],
)
async def test_what_is_no_http_gets_the_one_error_body(own_service: Any, sent: bytes) -> None:
    reader, writer = await connect(own_service)
    writer.write(sent)
    status, error = await read_answer(reader)
    assert (status, error["error_code"]) == (400, "LLM_INVALID_REQUEST")
    writer.close()


async def test_too_many_connections_are_refused_and_leave_no_trace(
    own_service: Any, client: httpx.AsyncClient
) -> None:
    assert (await client.get("/healthz")).status_code == 200
    crowd = [await connect(own_service) for _ in range(MAX_CONNECTIONS - 1)]

    reader, late = await connect(own_service)
    status, error = await read_answer(reader)

    assert (status, error["error_code"]) == (503, "LLM_INTERNAL_ERROR")
    assert (await client.get("/healthz")).status_code == 200
    for _, writer in [*crowd, (reader, late)]:
        writer.close()

    async def has_room() -> bool:
        reader, writer = await connect(own_service)
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return answer.startswith(b"HTTP/1.1 200")

    await until(has_room, what="room")


async def send_on(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


async def test_an_answer_before_the_end_of_the_body_ends_the_connection(hasty_service: Any) -> None:
    reader, writer = await connect(hasty_service)
    writer.write(HEAD + b"content-length: 200000000\r\n\r\n" + b"x" * 2_000_000)
    status, error = await read_answer(reader)
    with pytest.raises(OSError):
        await asyncio.wait_for(send_on(writer), HANG_SECONDS)
    assert (status, error["error_code"]) == (413, "LLM_CONTENT_TOO_LONG")
    writer.close()


async def test_an_answer_that_needs_no_body_keeps_the_connection_where_it_has_come(own_service: Any) -> None:
    reader, writer = await connect(own_service)
    for _ in range(2):
        writer.write(b"POST /no/such/route HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HANG_SECONDS)
        assert head.startswith(b"HTTP/1.1 404 ")
        assert b"connection: close" not in head.lower()
        await reader.readexactly(int(re.search(rb"content-length: (\d+)", head.lower())[1]))
    writer.close()


async def test_huge_bodies_cost_no_memory(own_service: Any) -> None:
    """Ten bodies of 200 MB, with a length, chunked, or with a lying length: refused while they come."""
    pid = own_service.process.pid
    before = read_memory_bytes(pid)

    async def push(number: int) -> int:
        reader, writer = await connect(own_service)
        head = b"content-length: 200000000\r\n\r\n" if number % 2 else b"transfer-encoding: chunked\r\n\r\n"
        writer.write(HEAD + head)
        piece = b"x" * 65536 if number % 2 else b"10000\r\n" + b"x" * 65536 + b"\r\n"
        try:
            for _ in range(3000):
                writer.write(piece)
                await writer.drain()
        except OSError:
            pass  # cut off, as it is to be
        try:
            answer = await reader.read()
        except OSError:
            answer = b""
        writer.close()
        return int(answer.split()[1]) if answer else 413

    async with asyncio.timeout(HANG_SECONDS):
        statuses = await asyncio.gather(*(push(number) for number in range(10)))

    grown = read_memory_bytes(pid) - before
    assert set(statuses) <= {413}
    assert grown < 60_000_000


def read_memory_bytes(pid: int) -> int:
    """Returns the resident memory of a process (proc(5), `statm`)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
