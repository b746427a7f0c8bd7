"""The monitor's screen without a terminal: a recording is played to it, and what it shows is read as text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from textual.pilot import Pilot

from llmctl.tui.app import Monitor
from llmctl.tui.feeds.recording import Recording
from llmctl.tui.feeds.replay import Replay, ReplayClock
from llmctl.tui.session import Session
from tests.waiting import until

RECORDINGS = Path(__file__).parents[2] / "fixtures" / "monitor"
SIZES = {"small": (80, 24), "middle": (120, 36), "large": (200, 60)}

Shown = Pilot[None]
Play = Callable[..., AbstractAsyncContextManager[Shown]]


def read_screen(app: Any) -> str:
    """Returns the text of the screen, line by line."""
    # Textual exports pictures only; the compositor has the text.
    return "\n".join(strip.text.rstrip() for strip in app.screen._compositor.render_strips())


@pytest.fixture
def recording() -> Iterator[Recording]:
    """A load run of 40 seconds with an outage of the provider, recorded from a real service."""
    found = Recording(RECORDINGS / "outage.llmrec")
    yield found
    found.close()


@pytest.fixture
def play(recording: Recording) -> Play:
    """Shows the recording so many seconds after its beginning, with its clock held."""

    @asynccontextmanager
    async def play(at: float = 30.0, size: str = "middle", **options: Any) -> AsyncIterator[Shown]:
        clock = ReplayClock(recording.begin, recording.end, 1.0)
        clock.hold(True)
        clock.move_to(recording.begin + at)
        session = Session("recorded", clock, replay=Replay(recording, clock), **options)
        app = Monitor(session)
        async with app.run_test(size=SIZES[size]) as pilot:
            await settle(pilot)
            yield pilot

    return play


async def settle(pilot: Pilot[Any]) -> None:
    """Waits until the screen shows what the store holds."""
    await pilot.pause()
    pilot.app.tick()
    await pilot.pause()


async def until_shown(pilot: Pilot[Any], condition: Callable[[], object], what: str) -> None:
    """Waits until a condition holds; a failure shows the screen."""
    try:
        await until(condition, what)
    except pytest.fail.Exception as failure:
        pytest.fail(f"{failure}; the screen:\n{read_screen(pilot.app)}")


@pytest.fixture
def serve() -> Callable[[Starlette], AbstractAsyncContextManager[str]]:
    """Serves an application over HTTP; returns its URL."""

    @asynccontextmanager
    async def serve(application: Starlette) -> AsyncIterator[str]:
        config = uvicorn.Config(application, port=0, log_level="critical", lifespan="off", ws="none")
        server = uvicorn.Server(config)
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup()
        serving = asyncio.create_task(server.main_loop())
        try:
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving
            await server.shutdown()

    return serve
