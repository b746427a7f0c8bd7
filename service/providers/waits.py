"""How long a provider asks us to wait, read from the headers of its refusal."""

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

MAX_WAIT_SECONDS: Final = 24 * 3600.0

_DURATION: Final = re.compile(
    r"^(?=.)(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?"
    r"(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?$"
)
_SECONDS_OF_UNIT: Final = (86400.0, 3600.0, 60.0, 1.0, 0.001)
_LIMITED: Final = ("requests", "tokens")


def read_wait_seconds(headers: httpx.Headers, *, now: datetime) -> float | None:
    """The wait that a refusal asks for, from 0 to 24 h; None where it says nothing that can be understood.

    `retry-after-ms` is the most exact and goes first, then `Retry-After` (seconds or a date, RFC 9110
    10.2.3), then `x-ratelimit-reset-*`: of the limits that are used up the one that takes longest.
    """
    milliseconds = _read_number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _bound(milliseconds / 1000)
    wait = _read_retry_after(headers.get("retry-after"), now)
    if wait is not None:
        return _bound(wait)
    resets = list(_read_resets(headers))
    return _bound(max(resets)) if resets else None


def _bound(seconds: float) -> float:
    return min(max(seconds, 0.0), MAX_WAIT_SECONDS)


def _read_number(text: str | None) -> float | None:
    try:
        number = float(text) if text else math.nan
    except ValueError:
        return None
    return None if math.isnan(number) else number


def _read_retry_after(text: str | None, now: datetime) -> float | None:
    seconds = _read_number(text)
    if seconds is not None or text is None:
        return seconds
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    # HTTP dates are in GMT; one without a zone comes out naive.
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return (aware - now).total_seconds()


def _read_resets(headers: httpx.Headers) -> Iterable[float]:
    remaining = {kind: _read_number(headers.get(f"x-ratelimit-remaining-{kind}")) for kind in _LIMITED}
    used_up = [kind for kind in _LIMITED if remaining[kind] == 0]
    for kind in used_up or _LIMITED:
        match = _DURATION.match(headers.get(f"x-ratelimit-reset-{kind}", ""))
        if match is not None:
            parts = zip(match.groups(), _SECONDS_OF_UNIT, strict=True)
            yield sum(float(part) * unit for part, unit in parts if part is not None)
