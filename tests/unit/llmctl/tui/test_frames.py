"""Frames survive a recording unchanged; damaged ones are refused."""

import json
from typing import Any

import pytest

from llmctl.tui.model.frames import (
    Bookmark,
    Callbacks,
    Figures,
    Frame,
    Packed,
    RunFigures,
    SourceState,
    TopicFigures,
    pack,
    unpack,
)
from llmctl.tui.model.rows import AttemptRow, CallbackRow

ROW = CallbackRow(
    at=5.0,
    topic="t",
    partition=1,
    offset=2,
    written_at=4.5,
    status="success",
    event_id="e",
    attempts=(AttemptRow(1.0, 0.5, "openai", "success"),),
    metadata={"k": "v"},
    justification="better",
)
FRAMES: tuple[Frame, ...] = (
    Figures(1.5, "stream", {"phase": "ready", "queue": {"depth": 3}}),
    Callbacks(2.5, (ROW, ROW)),
    Callbacks(2.5, ()),
    TopicFigures(3.5, {"topics": [{"topic": "t"}], "groups": [], "groups_problem": None}),
    RunFigures(4.5, {"run_id": "r", "counts": {"sent": 1}}),
    SourceState(5.5, "kafka", "it is away"),
    SourceState(5.5, "kafka", None),
    Bookmark(6.5, "here it began"),
)


def through_json(packed: Packed) -> Packed:
    return Packed(packed.at, packed.kind, json.loads(json.dumps(packed.body)))


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_a_frame_comes_back_as_it_was(frame: Frame) -> None:
    assert unpack(through_json(pack(frame, with_payloads=True))) == frame


def test_what_a_callback_says_is_left_out() -> None:
    text = json.dumps(pack(Callbacks(2.5, (ROW,)), with_payloads=False).body)
    assert "better" not in text
    assert '"k"' not in text
    assert "better" in json.dumps(pack(Callbacks(2.5, (ROW,)), with_payloads=True).body)


@pytest.mark.parametrize(
    ("kind", "bodies"),
    [
        ("figures", [{"source": "stream"}, {"source": "stream", "document": 3}]),
        ("callbacks", [{}, {"rows": 3}, {"rows": [3]}, {"rows": [{"at": 1.0}]}]),
        ("callbacks", [{"rows": [{"at": 1.0, "attempts": [3]}]}]),
        ("topics", [{"document": ["x"]}]),
        ("run", [{}]),
        ("source", [{"source": "kafka"}]),
        ("bookmark", [{}, [], None]),
    ],
)
def test_a_damaged_body_is_refused(kind: str, bodies: list[Any]) -> None:
    for body in bodies:
        with pytest.raises(ValueError, match=rf"^a {kind} frame is damaged: \w+$"):
            unpack(Packed(1.0, kind, body))


def test_an_unknown_kind_is_refused() -> None:
    """A recording of a later version may hold kinds that this one cannot show."""
    with pytest.raises(ValueError, match=r"^frames of the kind 'weather' are not known to this version$"):
        unpack(Packed(1.0, "weather", {}))
