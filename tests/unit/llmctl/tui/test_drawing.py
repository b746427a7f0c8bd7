"""Figures are drawn to scale, with their gaps."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.tui.widgets.drawing import DOTTED, SOLID, Canvas, Cell, bar, find_scale, spark

GAP = math.nan


@pytest.mark.parametrize(
    ("values", "width", "drawn"),
    [
        ([0.0, 1.0, GAP, 4.0, 8.0], 5, "▁▂ ▅█"),
        ([1.0], 4, "   █"),  # the newest is at the right
        ([0.0, 0.0, 9.0, 0.0, 0.0, 0.0], 3, "▁█▁"),
        ([0.0, 0.0], 2, "▁▁"),
        ([], 3, "   "),
    ],
)
def test_a_sparkline_is_on_a_scale_from_zero(values: list[float], width: int, drawn: str) -> None:
    assert spark(values, width) == drawn


def test_a_sparkline_can_be_given_its_scale() -> None:
    assert spark([1.0, 8.0, 99.0, -5.0], 4, 16.0) == "▁▅█▁"


@given(st.lists(st.one_of(st.just(GAP), st.floats(-1e9, 1e9)), max_size=50), st.integers(0, 20))
def test_a_sparkline_is_as_wide_as_its_place(values: list[float], width: int) -> None:
    assert len(spark(values, width)) == width


def dots(*places: int) -> str:
    return chr(0x2800 + sum(places))


@pytest.mark.parametrize(
    ("columns", "rows", "values", "highest", "style", "drawn"),
    [
        (1, 1, [0.0, 3.0], 3.0, SOLID, [dots(0x40, 0x08, 0x10, 0x20, 0x80)]),
        (2, 2, [10.0, 10.0, 99.0, 10.0], 10.0, SOLID, [dots(0x01, 0x08) * 2, "  "]),
        (2, 2, [0.0, 0.0, -5.0, 0.0], 10.0, SOLID, ["  ", dots(0x40, 0x80) * 2]),
        (2, 1, [0.0, GAP, GAP, 3.0], 3.0, SOLID, [dots(0x40) + dots(0x08)]),
        (2, 1, [0.0] * 4, 1.0, DOTTED, [dots(0x40) * 2]),
        (1, 1, [0.0, 5.0], 0.0, SOLID, [dots(0x40, 0x80)]),
    ],
    ids=["joins its values", "stays below the top", "and above the ground", "gap", "dotted", "no scale"],
)
def test_a_line_is_drawn(
    columns: int, rows: int, values: list[float], highest: float, style: Any, drawn: list[str]
) -> None:
    canvas = Canvas(columns, rows)
    canvas.draw(values, highest, 0, style)
    assert ["".join(cell.character for cell in line) for line in canvas.lines()] == drawn


def test_a_cell_knows_whose_line_is_in_it() -> None:
    canvas = Canvas(2, 2)
    canvas.draw([10.0] * 4, 10.0, 0, SOLID)
    canvas.draw([GAP, GAP, 10.0, 10.0], 10.0, 1, SOLID)
    (left, right), below = canvas.lines()
    assert (left.series, right.series) == (0, 1)
    assert below == [Cell(" ", None), Cell(" ", None)]


@pytest.mark.parametrize(
    ("highest", "scale"),
    [
        *((highest, 1.0) for highest in (0.0, -3.0, math.nan, math.inf, 1.0)),
        *((1.1, 1.2), (0.07, 0.08), (950, 1000)),
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
