"""What each screen shows at three sizes, as text: whoever changes a picture looks at it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmctl.tui.model.alerts import parse_alert
from tests.tui.conftest import SIZES, Play, Shown, read_screen, settle

PICTURES = Path(__file__).with_name("pictures")
PANES = {
    pane: str(number)
    for number, pane in enumerate(
        ("overview", "callbacks", "providers", "queue", "topics", "events", "run"), start=1
    )
}
ALERTS = (parse_alert("queue.depth > 30 for 2s"), parse_alert("publish:p99 > 100ms"))


def check_picture(name: str, shown: Shown) -> None:
    file = PICTURES / f"{name}.txt"
    seen = read_screen(shown.app) + "\n"
    if os.environ.get("UPDATE_PICTURES"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(seen, encoding="utf-8")
    assert seen == file.read_text(encoding="utf-8"), f"{file.name} is not what is seen:\n{seen}"


@pytest.mark.parametrize("size", SIZES)
async def test_every_pane_at_every_size(play: Play, size: str) -> None:
    async with play(17.0, size, alerts=ALERTS) as shown:
        for pane, key in PANES.items():
            await shown.press(key)
            await settle(shown)
            check_picture(f"{pane}-{size}", shown)


async def test_timeline_of_one_request(play: Play) -> None:
    async with play(24.0, "middle") as shown:
        await shown.press("slash", *"e2e>5s", "enter")
        await settle(shown)
        await shown.press("enter")
        await settle(shown)
        check_picture("timeline-middle", shown)


async def test_help_names_the_keys_that_work(play: Play) -> None:
    async with play(24.0, "large") as shown:
        assert "PRODUCTION" not in read_screen(shown.app)
        await shown.press("question_mark")
        await settle(shown)
        seen = read_screen(shown.app)
    assert "go to a time of day" in seen
    assert "accept requests again" not in seen


@pytest.mark.parametrize("size", SIZES)
async def test_nothing_jumps_when_figures_change(play: Play, size: str) -> None:
    async with play(12.0, size) as shown:
        clock = shown.app.session.clock
        before = _find_frames(read_screen(shown.app))
        for moment in (17.0, 35.0):
            clock.move_to(clock.begin + moment)
            await settle(shown)
            assert _find_frames(read_screen(shown.app)) == before


def _find_frames(seen: str) -> list[tuple[int, int]]:
    lines = seen.splitlines()
    corners = [(y, x) for y, line in enumerate(lines) for x, sign in enumerate(line) if sign in "╭╮╰╯"]
    headings = [(y, 0) for y, line in enumerate(lines) if line.startswith(("provider ", "time ", "LIVE "))]
    return corners + headings


@pytest.mark.parametrize("size", SIZES)
async def test_production_stands_in_a_frame(play: Play, size: str) -> None:
    async with play(17.0, size, production=True) as shown:
        for key in PANES.values() if size == "middle" else "1":
            await shown.press(key)
            await settle(shown)
            first, *inner, last = read_screen(shown.app).splitlines()
            assert first.startswith("┏━ PRODUCTION ━")
            assert last.startswith("┗━")
            assert all(line.startswith("┃") and line.endswith("┃") for line in inner)
            assert "■ PRODUCTION" in inner[0]
            assert "q quit" in inner[-1]
