"""A ring keeps one value a second: gaps stay gaps, and peaks survive."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.tui.model.series import NOTHING, Ring, find_highest, find_last, thin


def say(values: list[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values]


def test_an_empty_ring_is_all_gaps() -> None:
    assert say(Ring(5).read(100, 3)) == [None, None, None]


def test_seconds_without_a_value_are_gaps() -> None:
    ring = Ring(10)
    ring.put(100, 1.0)
    ring.put(103, 4.0)
    assert say(ring.read(104, 6)) == [None, 1.0, None, None, 4.0, None]


@pytest.mark.parametrize("values", [(1.0, 9.0, 2.0), (9.0, 1.0), (1.0, 9.0)])
def test_of_several_values_in_a_second_the_highest_stands(values: tuple[float, ...]) -> None:
    ring = Ring(10)
    for value in values:
        ring.put(100, value)
    assert ring.read(100, 1) == [9.0]


@pytest.mark.parametrize("jump", [5, 6, 13, 1_000_000_000])
def test_a_jump_longer_than_the_ring_leaves_nothing_old(jump: int) -> None:
    ring = Ring(5)
    for second in range(100, 105):
        ring.put(second, 1.0)
    ring.put(104 + jump, 2.0)
    assert say(ring.read(104 + jump, 5)) == [None, None, None, None, 2.0]


def test_a_reading_older_than_the_ring_is_dropped() -> None:
    ring = Ring(5)
    ring.put(100, 1.0)
    ring.put(95, 7.0)
    assert say(ring.read(100, 5)) == [None, None, None, None, 1.0]
    ring.put(96, 7.0)
    assert say(ring.read(100, 5)) == [7.0, None, None, None, 1.0]


def test_what_is_over_is_not_read_again() -> None:
    ring = Ring(3)
    for second in range(100, 103):
        ring.put(second, float(second))
    assert say(ring.read(105, 8)) == [None, None, 100.0, 101.0, 102.0, None, None, None]
    assert say(ring.read(99, 3)) == [None, None, None]


@given(
    st.lists(st.tuples(st.integers(0, 60), st.floats(0, 100)), min_size=1, max_size=60), st.integers(1, 20)
)
def test_a_ring_is_the_highest_of_each_second(readings: list[tuple[int, float]], size: int) -> None:
    ring, newest = Ring(size), -1
    table: dict[int, float] = {}
    for second, value in readings:
        ring.put(second, value)
        newest = max(newest, second)
        if second > newest - size:
            table[second] = max(value, table.get(second, value))
    wanted = [table.get(second) for second in range(newest - size + 1, newest + 1)]
    assert say(ring.read(newest, size)) == wanted


def test_fewer_values_than_points_are_padded_in_front() -> None:
    assert say(thin([1.0, 2.0], 4)) == [None, None, 1.0, 2.0]
    assert thin([1.0, 2.0], 2) == [1.0, 2.0]
    assert thin([1.0], 0) == []


def test_thinning_keeps_gaps_that_are_whole() -> None:
    assert say(thin([NOTHING, NOTHING, NOTHING, 3.0, 5.0, 1.0], 3)) == [None, 3.0, 5.0]


@given(st.lists(st.one_of(st.just(NOTHING), st.floats(0, 1e6)), min_size=1), st.integers(1, 30))
def test_thinning_keeps_the_peak(values: list[float], points: int) -> None:
    thinned = thin(values, points)
    assert len(thinned) == points
    assert find_highest(thinned) == find_highest(values)


def test_highest_and_last_leave_gaps_out() -> None:
    assert (find_highest([NOTHING, 2.0, 5.0, NOTHING]), find_last([2.0, 5.0, 3.0, NOTHING])) == (5.0, 3.0)
    assert (find_highest([NOTHING]), find_last([])) == (None, None)
