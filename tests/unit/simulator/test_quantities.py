"""Durations and rates are read as documented, and durations written briefly."""

import pytest

from simulator.quantities import format_duration, parse_duration, parse_rate


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("300ms", 0.3), ("5s", 5.0), ("1.5s", 1.5), ("10m", 600.0), ("2h", 7200.0), ("0s", 0.0)],
)
def test_a_duration_is_read_in_every_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "5", "s", "-5s", "5 s", "5d", "1e3s", "5sec", "\u0665s", "nan", "inf s"]
)
def test_what_is_not_a_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="300ms, 5s, 10m or 2h"):
        parse_duration(text)


def test_durations_are_written_briefly() -> None:
    brief = {0: "0ms", 0.058: "58ms", 0.9994: "999ms", 0.9996: "1.0s", 1.25: "1.2s", 59.96: "1m00s"}
    assert {seconds: format_duration(seconds) for seconds in brief} == brief
    assert (format_duration(245), format_duration(7800)) == ("4m05s", "2h10m")


def test_a_rate_is_read_in_every_unit() -> None:
    for text, per_second in (("200/s", 200.0), ("1000/m", 1000 / 60), ("0.5/h", 0.5 / 3600)):
        assert parse_rate(text) == pytest.approx(per_second)
    for text in ("", "200", "/s", "-1/s", "0/s", "200/d", "200 /s", "1e3/s"):
        with pytest.raises(ValueError, match="200/s or 1000/m"):
            parse_rate(text)
