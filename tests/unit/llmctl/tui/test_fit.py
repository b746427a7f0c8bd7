"""A text fills exactly the given cells, even if its characters are two cells wide."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from llmctl.render.safe import safe_line
from llmctl.tui.widgets.rows import Column, fit, fit_columns


@pytest.mark.parametrize(
    ("text", "width", "right", "shown"),
    [
        ("abc", 5, False, "abc  "),
        ("abc", 5, True, "  abc"),
        ("abc", 3, False, "abc"),
        ("abcdef", 4, False, "abc…"),
        ("abcdef", 4, True, "abc…"),
        ("abcdef", 1, False, "…"),
        ("abcdef", 0, False, ""),
        ("", 3, False, "   "),
        ("日本語", 6, False, "日本語"),
        ("日本語", 5, False, "日本…"),
        ("日本語", 4, False, "日 …"),
        ("日本語", 7, True, " 日本語"),
    ],
)
def test_a_text_is_padded_or_shortened(text: str, width: int, right: bool, shown: str) -> None:
    assert fit(text, width, right=right) == shown


@given(st.text(max_size=40), st.integers(0, 30), st.booleans())
def test_it_is_exactly_as_wide_as_it_should_be(text: str, width: int, right: bool) -> None:
    assert cell_len(fit(safe_line(text), width, right=right)) == width


def make_column(width: int, rank: int = 0, grows: int = 0) -> Column[str]:
    return Column("title", width, lambda row: row, rank=rank, grows=grows)


def test_columns_of_a_higher_rank_go_first() -> None:
    columns = [make_column(10), make_column(10, 2), make_column(10, 1), make_column(10, 2)]
    assert [place for place, _ in fit_columns(columns, 43)] == [0, 1, 2, 3]
    assert [place for place, _ in fit_columns(columns, 42)] == [0, 1, 2]
    assert [place for place, _ in fit_columns(columns, 31)] == [0, 2]
    assert [place for place, _ in fit_columns(columns, 5)] == [0]


def test_what_is_left_over_goes_to_who_can_grow() -> None:
    columns = [make_column(10, grows=4), make_column(10), make_column(10, grows=100)]
    assert list(fit_columns(columns, 32)) == [(0, 10), (1, 10), (2, 10)]
    assert list(fit_columns(columns, 35)) == [(0, 13), (1, 10), (2, 10)]
    assert list(fit_columns(columns, 42)) == [(0, 14), (1, 10), (2, 16)]
