"""Figures as people read them, the same in every report: `58.1ms`, `1.24s`, `99.93%`, `12,000`, `256MiB`."""

import math
from collections.abc import Sequence

from simulator.quantities import format_duration

NOTHING = "–"  # noqa: RUF001 - an en dash is what is meant
"""Stands where there is no figure."""

_MINUTE = 60.0
_KIBI = 1024.0


def format_seconds(seconds: float | None) -> str:
    """A time to three digits, from `12µs` on; minutes and hours as in every table of ours."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    size = abs(seconds)
    if size >= _MINUTE - 0.005:
        text = format_duration(size)
    elif size >= 0.9995:
        text = f"{_round_to_three_digits(size)}s"
    elif size >= 0.0009995:
        text = f"{_round_to_three_digits(size * 1e3)}ms"
    else:
        text = f"{round(size * 1e6)}µs" if size else "0"
    return f"-{text}" if seconds < 0 else text


def format_moment(seconds: float) -> str:
    """A round time for a tick or a moment of a run: `30s`, `1m`, `1m30s`, `2h`, `-5s`."""
    if abs(seconds) < _MINUTE:
        return "0s" if seconds == 0 else format_seconds(seconds)
    text = format_seconds(seconds)
    return text.removesuffix("00s") if "m" in text and "h" not in text else text.removesuffix("00m")


def format_count(count: float | None) -> str:
    """Whole numbers with a comma at the thousands; a broken one keeps three digits."""
    if count is None or not math.isfinite(count):
        return NOTHING
    if count == round(count) or abs(count) >= 1000:
        return f"{round(count):,}"
    return _round_to_three_digits(count)


def format_rate(per_second: float | None) -> str:
    """Events a second."""
    return NOTHING if per_second is None else f"{format_count(per_second)}/s"


def format_share(share: float | None) -> str:
    """A share of 1 in percent; what is not quite all or nothing is never rounded to it."""
    if share is None or not math.isfinite(share):
        return NOTHING
    percent = share * 100
    if 0 < percent < 0.005:
        return "<0.01%"
    if 99.995 <= percent < 100:
        return ">99.99%"
    return f"{percent:.2f}".rstrip("0").rstrip(".") + "%"


def format_bytes(size: float | None) -> str:
    """Memory to three digits in powers of 1024."""
    if size is None or not math.isfinite(size):
        return NOTHING
    for unit in ("B", "KiB", "MiB"):
        if abs(size) < 999.5:
            return f"{_round_to_three_digits(size)}{unit}"
        size /= _KIBI
    return f"{_round_to_three_digits(size)}GiB"


def format_value(value: float | None, unit: str) -> str:
    """A threshold's value by its unit: `s`, `/s`, `%` for shares, or nothing for counts."""
    match unit:
        case "s":
            return format_seconds(value)
        case "/s":
            return format_rate(value)
        case "%":
            return format_share(value)
        case _:
            return " ".join(filter(None, (format_count(value), unit)))


def format_percent(change: float | None) -> str:
    """A relative change with its sign, such as `+12.5%`; more than tenfold is said as a factor."""
    if change is None:
        return NOTHING
    if math.isinf(change):
        return "from nothing"
    if change >= 9.995:
        return f"×{_round_to_three_digits(change + 1)}"  # noqa: RUF001 - a multiplication sign
    text = f"{change * 100:+.1f}%"
    return "0.0%" if text in {"+0.0%", "-0.0%"} else text


def list_words(words: Sequence[str], *, most: int = 5) -> str:
    """Some of the words, with commas, and how many more there are."""
    shown = ", ".join(words[:most])
    return shown if len(words) <= most else f"{shown} and {len(words) - most:,} more"


def count_things(count: int, one: str, many: str | None = None) -> str:
    """`1 request`, `2 requests`; the plural is `one` with an s unless it is said."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _round_to_three_digits(number: float) -> str:
    """Plain digits: `0.123`, `1.24`, `12.4`, `124`, without zeros that say nothing."""
    if number == 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(number))))
    text = f"{number:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
