"""Runs a command's asynchronous part, and ends it in order when a signal comes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from llmctl.exits import Interrupted

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; SIGTERM cancels it as Ctrl-C does, so that everything it opened is closed."""
    with asyncio.Runner() as runner:
        try:
            return runner.run(_obey_sigterm(work))
        except asyncio.CancelledError:
            raise Interrupted("Interrupted; everything that was started has been stopped.") from None


async def _obey_sigterm(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


@asynccontextmanager
async def own_tasks() -> AsyncIterator[asyncio.TaskGroup]:
    """A TaskGroup that raises the first thing that went wrong itself, not a group with one sentence in it."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as problems:
        raise first_problem(problems) from None


def first_problem(problems: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first exception in the group that is no group itself."""
    first = problems.exceptions[0]
    return first_problem(first) if isinstance(first, BaseExceptionGroup) else first
