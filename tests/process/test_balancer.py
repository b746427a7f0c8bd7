"""One address before several replicas, over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from simulator.balancer import Balancer
from tests.waiting import open_client, until


class Replica:
    """Answers with its name, and says whether it is ready."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.ready = True
        self.url = ""
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listens."""
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Listens no more."""
        if self._server is not None:
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (
                    int(line[15:])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                ),
                0,
            )
            body = await reader.readexactly(length)
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
    """A balancer before replicas of these names."""
    replicas = {name: Replica(name) for name in names}
    for replica in replicas.values():
        await replica.start()
    async with Balancer("127.0.0.1", 0, [replica.url for replica in replicas.values()]) as balancer:
        yield balancer, replicas
    for replica in replicas.values():
        await replica.stop()


async def ask(balancer: Balancer, count: int) -> list[str]:
    """Which replica answered each of so many new connections."""
    names = []
    for _ in range(count):
        async with open_client() as client:
            names.append((await client.get(balancer.url)).text)
    return names


async def test_connections_go_round() -> None:
    """Each replica gets its share."""
    async with balanced("a", "b", "c") as (balancer, _):
        names = await ask(balancer, 9)

    assert {name: names.count(name) for name in "abc"} == {"a": 3, "b": 3, "c": 3}


async def test_who_is_not_ready_is_passed_over_and_comes_back() -> None:
    """A replica that drains gets no new connection, until it is ready again."""
    async with balanced("a", "b") as (balancer, replicas):
        replicas["a"].ready = False

        async def answer_alone() -> bool:
            return set(await ask(balancer, 4)) == {"b"}

        await until(answer_alone, what="passing a over")
        replicas["a"].ready = True

        async def answer_both() -> bool:
            return set(await ask(balancer, 4)) == {"a", "b"}

        await until(answer_both, what="a's return")


async def test_who_is_gone_is_passed_over_at_once() -> None:
    """Also before the balancer has looked: a connection that cannot be made goes to the next one."""
    async with balanced("a", "b") as (balancer, replicas):
        await replicas["a"].stop()

        assert set(await ask(balancer, 4)) == {"b"}


async def test_where_nobody_is_ready_it_says_so() -> None:
    """503 in the service's own form."""
    async with balanced("a") as (balancer, replicas):
        replicas["a"].ready = False

        async def is_refused() -> bool:
            async with open_client() as client:
                answer = await client.get(balancer.url)
            return answer.status_code == 503 and answer.json()["error"]["error_code"] == "LLM_INTERNAL_ERROR"

        await until(is_refused, what="a refusal")


async def test_large_bodies_arrive_whole() -> None:
    """What comes before a replica was found is kept, and nothing is lost on the way."""
    body = bytes(range(256)) * 20_000
    async with (
        balanced("a") as (balancer, _),
        open_client() as client,
    ):
        answer = await client.post(balancer.url, content=body)

    assert answer.content == b"a" + body
