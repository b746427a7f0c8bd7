"""Figures and states are short, of a steady width, with a glyph beside every colour."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.tui.model.alerts import AlertState
from llmctl.tui.model.events import Level
from llmctl.tui.model.reading import ProviderReading
from llmctl.tui.widgets.words import (
    ALERTS,
    BAD,
    GOOD,
    LEVELS,
    STATUSES,
    WARNING,
    say_circuit,
    say_clock,
    say_count,
    say_phase,
    say_rate,
    say_seconds,
    say_share,
    say_stamp,
    say_window,
)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "–"),  # noqa: RUF001
        (0.0, "0.0ms"),
        (0.0041, "4.1ms"),
        (0.01, "10ms"),
        (0.98, "980ms"),
        (0.9994, "999ms"),
        (0.9996, "1.00s"),
        (2.34, "2.34s"),
        (75.0, "75.0s"),
        (120.0, "2m"),
        (720.0, "12m"),
        (5400.0, "1.5h"),
        (12_600.0, "3.5h"),
        (-0.25, "-250ms"),
    ],
)
def test_a_time_is_said_in_its_unit(seconds: float | None, said: str) -> None:
    assert say_seconds(seconds) == said


@given(st.floats(0, 3_000_000))
def test_a_time_has_at_most_six_characters(seconds: float) -> None:
    """Up to a month, so that a column of times keeps its width."""
    assert len(say_seconds(seconds)) <= 6


@pytest.mark.parametrize(
    ("rate", "said"),
    [(None, "–"), (0.0, "0.0"), (99.94, "99.9"), (999.9, "999.9"), (999.96, "1,000"), (-12.34, "-12.3")],  # noqa: RUF001
)
def test_a_rate_is_said_with_one_place(rate: float | None, said: str) -> None:
    assert say_rate(rate) == said


@given(st.floats(-99_999, 999_999))
def test_a_rate_has_at_most_seven_characters(rate: float) -> None:
    assert len(say_rate(rate)) <= 7


def test_counts_and_shares() -> None:
    assert (say_count(1_234_567.0), say_count(0), say_count(None)) == ("1,234,567", "0", "–")  # noqa: RUF001
    assert (say_share(0.0123), say_share(1.0), say_share(None)) == ("1.2%", "100.0%", "–")  # noqa: RUF001


def test_moments_are_in_utc() -> None:
    assert say_clock(1767323045.9) == "03:04:05"
    assert say_clock(None) == "–"  # noqa: RUF001
    assert say_stamp(1767323045.5) == "03:04:05.500"
    assert say_stamp(1767323045.0) == "03:04:05.000"


@pytest.mark.parametrize(
    ("seconds", "said"), [(60, "1m"), (300, "5m"), (900, "15m"), (3600, "1h"), (7200, "2h")]
)
def test_a_window_is_said_in_minutes_or_hours(seconds: int, said: str) -> None:
    assert say_window(seconds) == said


@pytest.mark.parametrize(
    ("provider", "said"),
    [
        (ProviderReading("p"), ("● closed", GOOD)),
        (ProviderReading("p", circuit="half_open"), ("◐ half open", WARNING)),
        (ProviderReading("p", circuit="open"), ("✖ OPEN", BAD)),
        (ProviderReading("p", circuit="melted"), ("? melted", WARNING)),
        (ProviderReading("p", circuit="open", held=True), ("■ held", WARNING)),
    ],
)
def test_a_provider_that_is_held_is_not_asked_whatever_its_circuit(
    provider: ProviderReading, said: tuple[str, str]
) -> None:
    assert say_circuit(provider) == said


def test_a_phase_that_is_not_known_is_called_that() -> None:
    assert say_phase("ready") == ("● READY", GOOD)
    assert say_phase("dreaming") == ("? UNKNOWN", WARNING)


def test_everything_that_can_be_said_has_words_of_its_own() -> None:
    assert set(LEVELS) == set(Level)
    assert set(ALERTS) == set(AlertState)
    assert set(STATUSES) == {"success", "error", "invalid"}
    for words in (LEVELS, ALERTS, STATUSES):
        texts = [text for text, _ in words.values()]
        assert len(set(texts)) == len(texts)
