"""Durations and rates as people write them: `300ms`, `5s`, `10m`, `2h`; `200/s`, `1000/m`."""

import re

_SECONDS_OF_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h)", re.ASCII)
_RATE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)/(s|m|h)", re.ASCII)


def parse_duration(text: str) -> float:
    """The seconds that `text` says; ValueError with a helpful sentence where it is no duration."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no duration; write for example 300ms, 5s, 10m or 2h")
    return float(found[1]) * _SECONDS_OF_UNIT[found[2]]


def format_duration(seconds: float) -> str:
    """The same, short enough for a table cell: `58ms`, `1.2s`, `4m05s`, `2h10m`."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    if milliseconds < 59_950:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def parse_rate(text: str) -> float:
    """The events a second that `text` says; ValueError with a helpful sentence where it is no rate."""
    found = _RATE.fullmatch(text.strip())
    per_second = float(found[1]) / _SECONDS_OF_UNIT[found[2]] if found else 0.0
    if per_second <= 0:
        raise ValueError(f"{text!r} is no rate; write for example 200/s or 1000/m")
    return per_second
