"""What all sources have in common: they run until cancelled, and try again when what they read is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from llmctl.exits import CliError
from llmctl.tui.model.clock import Clock
from llmctl.tui.model.frames import Sink, SourceState

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 5.0


Attempt = Callable[[Callable[[], None]], Awaitable[None]]


async def keep_trying(name: str, sink: Sink, clock: Clock, attempt: Attempt) -> None:
    """Runs `attempt` again and again; it calls what it is given whenever it has success.

    A `CliError` that ends an attempt is told to the sink once, and pauses grow from half a second to five.
    """
    pause_seconds = FIRST_PAUSE_SECONDS
    there = False

    def succeed() -> None:
        nonlocal pause_seconds, there
        pause_seconds = FIRST_PAUSE_SECONDS
        if not there:
            there = True
            sink.take(SourceState(clock.now(), name, None))

    while True:
        try:
            await attempt(succeed)
        except CliError as problem:
            there = False
            sink.take(SourceState(clock.now(), name, str(problem)))
        await asyncio.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 2, LONGEST_PAUSE_SECONDS)
