"""Text from outside is text: in no field of any screen does it steer, colour, crash or run anything."""

from __future__ import annotations

import re
from typing import Any

import pytest
from rich.segment import Segment

from llmctl.tui.app import Monitor
from llmctl.tui.model.clock import LiveClock
from llmctl.tui.model.frames import Callbacks, Figures, RunFigures, SourceState, TopicFigures
from llmctl.tui.model.rows import AttemptRow, CallbackRow
from llmctl.tui.session import Session
from tests.tui.conftest import SIZES, read_screen, settle

HOSTILE = (
    "[red]red[/red]",
    "[@click=app.quit]press me[/]",
    "[link=file:///etc/passwd]x[/link]",
    "\x1b[31mescape\x1b]0;title\x07\x1b]52;c;ZXZpbA==\x07",
    "\u202eright to left\u2066",
    "[/]\\[[",
    "line\nbreak\r\ttab",
    "\ud800half",
    "wide 漢字" * 40,
    "$variable %s {0} {x!r}",
    "",
    "-",
)
HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def make_frames(text: str, now: float) -> list[Any]:
    """Frames with that text wherever text can be."""
    provider = {"held": True, "last_error": {"error_code": text, "time": None}}
    provider |= dict.fromkeys(("name", "circuit", "hold_reason"), text)
    figures = {
        **dict.fromkeys(("version", "phase", "broker"), text),
        "queue": {"backend": text, "depth": 5, "capacity": 10},
        "providers": [provider],
        "drain": {"state": text},
    }
    texts = ("topic", "event_id", "request_id", "correlation_id", "provider", "model", "error", "message")
    row = CallbackRow(
        at=now,
        partition=0,
        offset=0,
        written_at=now,
        status="error",
        accepted_at=now - 1,
        completed_at=now,
        attempts=(AttemptRow(now - 1, 0.5, text, text),),
        metadata={text: text},
        **dict.fromkeys((*texts, "run_id", "trace_id", "justification"), text),
    )
    topics = {
        "topics": [{"topic": text, "partitions": 1, "records": 1, "end_total": 1}],
        "groups": [{"group": text, "state": text, "topic": text, "lag": 1, "members": 1}],
        "groups_problem": text,
    }
    run = {
        **dict.fromkeys(("run_id", "phase", "shape"), text),
        "counts": {text: 1},
        "thresholds": [{"text": text, "said": text, "met": False}],
        "faults": [{"text": text, "state": text, "at": 1.0}],
    }
    return [
        Figures(now, text, figures),
        Callbacks(now, (row,)),
        TopicFigures(now, topics),
        RunFigures(now, run),
        SourceState(now, "kafka", text or "away"),
    ]


@pytest.mark.parametrize(
    ("text", "size"),
    [*((text, "large") for text in HOSTILE), (HOSTILE[3], "small"), (HOSTILE[8], "small")],
    ids=range(len(HOSTILE) + 2),
)
async def test_hostile_text_in_every_field_of_every_screen(text: str, size: str) -> None:
    clock = LiveClock()
    session = Session(text, clock, alerts=())
    for frame in make_frames(text, clock.now()):
        session.store.take(frame)
    app = Monitor(session)
    async with app.run_test(size=SIZES[size]) as shown:
        for keys in ("1", "2", "3", "4", "5", "6", "7", ("2", "enter", "v")):
            await shown.press(*keys)
            await settle(shown)
            seen = read_screen(app)
            assert HARMFUL.search(seen) is None
            assert not find_steering(app)
            if text.startswith("[red]") and keys == "6":
                assert text in seen, "markup is shown as it was written"
        assert app.is_running
        assert app.failure is None


def find_steering(app: Any) -> list[Segment]:
    strips = app.screen._compositor.render_strips()
    parts = [segment for strip in strips for segment in strip if segment.style is not None]
    return [
        segment
        for segment in parts
        if segment.style.link or any(key.startswith("@") for key in segment.style.meta)
    ]


async def test_hostile_filter_is_refused_in_a_harmless_sentence() -> None:
    session = Session("x", LiveClock())
    app = Monitor(session)
    async with app.run_test(size=SIZES["middle"]) as shown:
        await shown.press("slash")
        app.query_one("#filter").value = "[@click=app.quit]x[/]"
        await shown.press("enter")
        await settle(shown)
        seen = read_screen(app)
        assert "is no" in seen or "cannot be read" in seen
        assert not find_steering(app)
        assert app.is_running
