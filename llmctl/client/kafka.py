"""The connection to Kafka that every command shares: bounded, and clear about why it failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from difflib import get_close_matches
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from llmctl.exits import Failed, Unreachable

CONNECT_LIMIT_SECONDS = 5.0
REQUEST_LIMIT_SECONDS = 15.0
CLOSE_LIMIT_SECONDS = 3.0


async def connect(starting: Awaitable[Any], bootstrap_servers: str) -> None:
    """Waits until a client has found the cluster; Unreachable where none answers in time."""
    try:
        async with asyncio.timeout(CONNECT_LIMIT_SECONDS):
            await starting
    except (KafkaError, OSError, TimeoutError) as problem:
        raise refuse_broker(bootstrap_servers) from problem


async def close(stopping: Awaitable[Any]) -> None:
    """Lets a client go; one whose broker is away would wait for it, so not for long."""
    try:
        async with asyncio.timeout(CLOSE_LIMIT_SECONDS):
            await stopping
    except (KafkaError, OSError, TimeoutError):
        return  # the process ends next, and with it the connection


async def ask(answering: Awaitable[Any], bootstrap_servers: str) -> Any:  # aiokafka is not typed
    """What the broker answers; Unreachable where it does not, Failed where it refuses."""
    try:
        async with asyncio.timeout(REQUEST_LIMIT_SECONDS):
            return await answering
    except (TimeoutError, OSError) as problem:
        raise refuse_broker(bootstrap_servers) from problem
    except KafkaError as problem:
        if problem.retriable:
            raise refuse_broker(bootstrap_servers) from problem
        raise Failed(f"Kafka at {bootstrap_servers} refused: {problem}.") from problem


@asynccontextmanager
async def open_admin(bootstrap_servers: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected admin client; Unreachable where no broker answers."""
    admin = AIOKafkaAdminClient(
        bootstrap_servers=bootstrap_servers, request_timeout_ms=int(CONNECT_LIMIT_SECONDS * 1000)
    )
    try:
        await connect(admin.start(), bootstrap_servers)
        yield admin
    finally:
        await close(admin.close())


def refuse_broker(bootstrap_servers: str) -> Unreachable:
    """The error that says that nobody answers there, and what to do about it."""
    return Unreachable(
        f"No Kafka broker answers at {bootstrap_servers}; "
        "start one with `llmctl up`, or name another with --bootstrap-servers."
    )


def name_near(name: str, existing: list[str]) -> str:
    """The end of a sentence about a name that does not exist: which ones are near it."""
    near = get_close_matches(name, existing, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"create it with `llmctl topics bootstrap {name}`."
