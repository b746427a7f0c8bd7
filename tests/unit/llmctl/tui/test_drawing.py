"""Figures become characters: as high as they are, with their gaps, on round scales."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.tui.widgets.drawing import DOTTED, SOLID, Canvas, Cell, bar, find_scale, spark

GAP = math.nan


def draw(canvas: Canvas) -> list[str]:
    return ["".join(cell.character for cell in line) for line in canvas.lines()]


def test_a_sparkline_is_on_a_scale_from_zero() -> None:
    assert spark([0.0, 1.0, GAP, 4.0, 8.0], 5) == "▁▂ ▅█"


def test_a_sparkline_can_be_given_its_scale() -> None:
    assert spark([1.0, 8.0, 99.0, -5.0], 4, 16.0) == "▁▅█▁"


def test_the_newest_is_at_the_right() -> None:
    assert spark([1.0], 4) == "   █"
    assert spark([0.0, 0.0, 9.0, 0.0, 0.0, 0.0], 3) == "▁█▁"
    assert spark([0.0, 0.0], 2) == "▁▁"
    assert spark([], 3) == "   "


@given(st.lists(st.one_of(st.just(GAP), st.floats(-1e9, 1e9)), max_size=50), st.integers(0, 20))
def test_a_sparkline_is_as_wide_as_its_place(values: list[float], width: int) -> None:
    assert len(spark(values, width)) == width


def test_a_line_joins_its_values() -> None:
    canvas = Canvas(1, 1)
    canvas.draw([0.0, 3.0], 3.0, 0, SOLID)
    assert draw(canvas) == [chr(0x2800 + 0x40 + 0x08 + 0x10 + 0x20 + 0x80)]


def test_a_line_has_its_height() -> None:
    canvas = Canvas(2, 2)
    canvas.draw([10.0, 10.0, 99.0, 10.0], 10.0, 0, SOLID)
    assert draw(canvas) == [chr(0x2800 + 0x01 + 0x08) * 2, "  "]
    canvas = Canvas(2, 2)
    canvas.draw([0.0, 0.0, -5.0, 0.0], 10.0, 0, SOLID)
    assert draw(canvas) == ["  ", chr(0x2800 + 0x40 + 0x80) * 2]


def test_a_gap_breaks_the_line() -> None:
    canvas = Canvas(2, 1)
    canvas.draw([0.0, GAP, GAP, 3.0], 3.0, 0, SOLID)
    assert draw(canvas) == [chr(0x2800 + 0x40) + chr(0x2800 + 0x08)]


def test_a_dotted_line_leaves_every_other_dot_out() -> None:
    canvas = Canvas(2, 1)
    canvas.draw([0.0] * 4, 1.0, 0, DOTTED)
    assert draw(canvas) == [chr(0x2800 + 0x40) * 2]


def test_a_cell_knows_whose_line_is_in_it() -> None:
    canvas = Canvas(2, 2)
    canvas.draw([10.0] * 4, 10.0, 0, SOLID)
    canvas.draw([GAP, GAP, 10.0, 10.0], 10.0, 1, SOLID)
    (left, right), below = canvas.lines()
    assert (left.series, right.series) == (0, 1)
    assert below == [Cell(" ", None), Cell(" ", None)]


def test_a_scale_without_height_draws_along_the_ground() -> None:
    canvas = Canvas(1, 1)
    canvas.draw([0.0, 5.0], 0.0, 0, SOLID)
    assert draw(canvas) == [chr(0x2800 + 0x40 + 0x80)]


@pytest.mark.parametrize(
    ("highest", "scale"),
    [
        (0.0, 1.0),
        (-3.0, 1.0),
        (math.nan, 1.0),
        (math.inf, 1.0),
        (1.0, 1.0),
        (1.1, 1.2),
        (0.07, 0.08),
        (950, 1000),
    ],
)
def test_scales_end_with_round_numbers(highest: float, scale: float) -> None:
    assert find_scale(highest) == pytest.approx(scale)


@given(st.floats(1e-9, 1e15))
def test_a_scale_is_high_enough_and_no_higher_than_it_must(highest: float) -> None:
    scale = find_scale(highest)
    assert highest * (1 - 1e-8) <= scale <= highest * 1.5


@pytest.mark.parametrize(
    ("share", "drawn"), [(0.0, "░░░░"), (0.5, "██░░"), (1.0, "████"), (-1.0, "░░░░"), (7.0, "████")]
)
def test_a_bar_is_as_full_as_its_share(share: float, drawn: str) -> None:
    assert bar(share, 4) == drawn
