"""Durations and rates are read as documented, and durations written briefly."""

import pytest

from simulator.quantities import format_duration, parse_duration, parse_rate


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("300ms", 0.3), ("5s", 5.0), ("1.5s", 1.5), ("10m", 600.0), ("2h", 7200.0), ("0s", 0.0)],
)
def test_reads_every_unit(text: str, seconds: float) -> None:
    """Each documented unit gives its seconds."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "5", "s", "-5s", "5 s", "5d", "1e3s", "5sec", "\u0665s", "nan", "inf s"]
)
def test_refuses_what_is_no_duration(text: str) -> None:
    """Anything else is refused with the forms that are right."""
    with pytest.raises(ValueError, match="300ms, 5s, 10m or 2h"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.058, "58ms"),
        (0.9994, "999ms"),
        (0.9996, "1.0s"),
        (1.25, "1.2s"),
        (59.96, "1m00s"),
        (245, "4m05s"),
        (7800, "2h10m"),
    ],
)
def test_writes_briefly(seconds: float, text: str) -> None:
    """A table cell has room for the result."""
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "per_second"), [("200/s", 200.0), ("1000/m", 1000 / 60), ("0.5/h", 0.5 / 3600)]
)
def test_reads_a_rate(text: str, per_second: float) -> None:
    """Events a second, a minute or an hour."""
    assert parse_rate(text) == pytest.approx(per_second)


@pytest.mark.parametrize("text", ["", "200", "/s", "-1/s", "0/s", "200/d", "200 /s", "1e3/s"])
def test_refuses_what_is_no_rate(text: str) -> None:
    """The sentence says how one is written."""
    with pytest.raises(ValueError, match="200/s or 1000/m"):
        parse_rate(text)
