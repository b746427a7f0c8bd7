"""With `--control`, keys drain, resume and release, each after a question; unconfirmed, nothing happens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from llmctl.tui.app import Monitor
from llmctl.tui.feeds.service import ServiceFeed
from llmctl.tui.model.clock import LiveClock
from llmctl.tui.screens.orders import Confirm, Drain
from llmctl.tui.session import Controls, Session
from tests.flow.conftest import MOCK, make_env
from tests.tui.conftest import SIZES, Shown, read_screen, until_shown
from tests.waiting import open_client


@pytest.fixture
def service_url(launcher: Any, bootstrap_servers: str, tmp_path: Path) -> str:
    child = launcher.start("service", env=make_env(bootstrap_servers, tmp_path, **MOCK))
    return str(child.ready["url"])


@asynccontextmanager
async def controlling(url: str) -> AsyncIterator[Shown]:
    clock = LiveClock()
    session = Session(url, clock, [ServiceFeed(url, None, clock)], controls=Controls(url, None))
    app = Monitor(session)
    async with app.run_test(size=SIZES["middle"]) as shown:
        await until_shown(shown, lambda: session.store.reading, "figures")
        yield shown
        assert app.is_running, app.failure


async def read_phase(url: str) -> str:
    async with open_client(url) as client:
        return str((await client.get("/admin/v1/snapshot")).json()["phase"])


async def test_drain_takes_a_word_shows_progress_and_can_be_taken_back(service_url: str) -> None:
    async with controlling(service_url) as shown:
        await shown.press("d")
        await until_shown(shown, lambda: isinstance(shown.app.screen, Drain), "the question")
        assert "refused with 503" in read_screen(shown.app)
        await shown.press("enter")
        assert await read_phase(service_url) == "ready"
        await shown.press(*"drain", "enter")
        await until_shown(shown, lambda: "DRAINING · drain done" in read_screen(shown.app), "the drain's end")
        assert await read_phase(service_url) == "draining"
        await shown.click("#resume")
        await until_shown(shown, lambda: shown.app.session.store.reading.phase == "ready", "the resume")
        assert await read_phase(service_url) == "ready"
        await shown.press("escape")
        assert not isinstance(shown.app.screen, Drain)


async def test_closing_the_view_leaves_the_drain_and_r_resumes(service_url: str) -> None:
    async with controlling(service_url) as shown:
        await shown.press("d")
        await until_shown(shown, lambda: isinstance(shown.app.screen, Drain), "the question")
        await shown.press(*"drain", "enter")
        await until_shown(shown, lambda: shown.app.session.store.reading.phase == "draining", "the drain")
        await shown.press("escape")
        assert await read_phase(service_url) == "draining"
        await shown.press("r")
        await until_shown(shown, lambda: isinstance(shown.app.screen, Confirm), "the question")
        await shown.click("#do")
        await until_shown(shown, lambda: shown.app.session.store.reading.phase == "ready", "the resume")


async def test_x_asks_a_held_provider_again(service_url: str) -> None:
    async with open_client(service_url) as client:
        (await client.post("/admin/v1/providers/mock/hold", json={})).raise_for_status()
    async with controlling(service_url) as shown:
        await shown.press("3")
        await until_shown(shown, lambda: "■ held" in read_screen(shown.app), "the held provider")
        await shown.press("x")
        await until_shown(shown, lambda: isinstance(shown.app.screen, Confirm), "the question")
        await shown.click("#cancel")
        assert shown.app.session.store.reading.providers[0].held
        await shown.press("x")
        await until_shown(shown, lambda: isinstance(shown.app.screen, Confirm), "the question")
        await shown.click("#do")
        await until_shown(shown, lambda: not shown.app.session.store.reading.providers[0].held, "the release")


async def test_order_that_is_refused_says_why(service_url: str) -> None:
    async with controlling(service_url) as shown:
        shown.app.session.controls = Controls("http://127.0.0.1:9", None)
        await shown.press("r")
        await until_shown(shown, lambda: isinstance(shown.app.screen, Confirm), "the question")
        await shown.click("#do")
        await until_shown(shown, lambda: "No service answers" in read_screen(shown.app), "the sentence")
