"""Waiting for events: nothing in the tests is decided by how long something takes."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

HANG_SECONDS = 300.0
"""After this a test hangs: at least ten times what any wait usually takes, so no result depends on it."""
LOOK_AGAIN_SECONDS = 0.01


async def until(condition: Callable[[], Any], what: str = "condition") -> None:
    """Waits until a condition holds; `condition` may be a coroutine function."""
    deadline = time.monotonic() + HANG_SECONDS
    while True:
        result = condition()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return
        if time.monotonic() >= deadline:
            pytest.fail(f"{what}: not within {HANG_SECONDS:g} s")
        await asyncio.sleep(LOOK_AGAIN_SECONDS)


def open_client(url: str = "", **options: Any) -> httpx.AsyncClient:
    """Opens an HTTP client that uses no proxy and gives up when a test hangs."""
    return httpx.AsyncClient(base_url=url, trust_env=False, **{"timeout": HANG_SECONDS, **options})
