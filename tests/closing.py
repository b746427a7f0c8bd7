"""What a test has closed is gone when its loop ends; imported by folders whose tests open sockets."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.waiting import until


@pytest.fixture(autouse=True)
async def transports_end() -> AsyncIterator[None]:
    """Gives connections the time to end: clients of Kafka close them and do not wait for that.

    One that the loop leaves behind is told when it is collected, in the middle of some later test.
    """
    yield
    loop: Any = asyncio.get_running_loop()
    await until(lambda: not find_open(loop), what="the end of the connections of this test")


def find_open(loop: Any) -> list[Any]:
    """The transports of a loop that still have a socket; those that nobody refers to may be among them."""
    return [each for each in list(loop._transports.values()) if each._sock is not None]
