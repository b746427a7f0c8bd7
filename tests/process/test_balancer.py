"""One address before several replicas, over real sockets."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from simulator.balancer import Balancer
from tests.waiting import open_client, until


class Replica:
    """Answers with its name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.ready = True
        self.url = ""
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: *(\d+)", head.lower())
            body = await reader.readexactly(int(length[1]) if length else 0)
            status = b"503 No" if b"/readyz" in head and not self.ready else b"200 OK"
            content = self._name.encode() + body
            writer.write(
                b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(content)
            )
            writer.write(content)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def balanced(*names: str) -> AsyncIterator[tuple[Balancer, dict[str, Replica]]]:
    replicas = {name: Replica(name) for name in names}
    for replica in replicas.values():
        await replica.start()
    async with Balancer("127.0.0.1", 0, [replica.url for replica in replicas.values()]) as balancer:
        yield balancer, replicas
    for replica in replicas.values():
        await replica.stop()


async def ask(balancer: Balancer, count: int) -> list[str]:
    """Returns which replica answered each of so many new connections."""
    names = []
    for _ in range(count):
        async with open_client() as client:
            names.append((await client.get(balancer.url)).text)
    return names


async def test_connections_go_round() -> None:
    async with balanced("a", "b", "c") as (balancer, _):
        names = await ask(balancer, 9)

    assert {name: names.count(name) for name in "abc"} == {"a": 3, "b": 3, "c": 3}


async def test_replica_that_is_not_ready_gets_no_new_connection() -> None:
    async with balanced("a", "b") as (balancer, replicas):
        replicas["a"].ready = False

        async def answer_alone() -> bool:
            return set(await ask(balancer, 4)) == {"b"}

        await until(answer_alone, what="passing a over")
        replicas["a"].ready = True

        async def answer_both() -> bool:
            return set(await ask(balancer, 4)) == {"a", "b"}

        await until(answer_both, what="a's return")


async def test_replica_that_is_gone_gets_no_new_connection() -> None:
    """Also before a health check: a connection that fails goes to the next replica."""
    async with balanced("a", "b") as (balancer, replicas):
        await replicas["a"].stop()

        assert set(await ask(balancer, 4)) == {"b"}


async def test_503_if_no_replica_is_ready() -> None:
    async with balanced("a") as (balancer, replicas):
        replicas["a"].ready = False

        async def is_refused() -> bool:
            async with open_client() as client:
                answer = await client.get(balancer.url)
            return answer.status_code == 503 and answer.json()["error"]["error_code"] == "LLM_INTERNAL_ERROR"

        await until(is_refused, what="a refusal")


async def test_large_bodies_arrive_whole() -> None:
    """Bytes that arrive before a replica is found are kept."""
    body = bytes(range(256)) * 20_000
    async with (
        balanced("a") as (balancer, _),
        open_client() as client,
    ):
        answer = await client.post(balancer.url, content=body)

    assert answer.content == b"a" + body
