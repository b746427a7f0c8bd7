"""Reads waits and rate limits from a provider's headers. Nothing is believed beyond 24 hours or 2^31."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from service.core.outcome import RateWindow

MAX_WAIT_SECONDS: Final = 24 * 3600.0
MAX_LIMIT: Final = 2**31 - 1
"""The largest limit, or rest of one, that is believed; a larger one counts as missing."""

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,18}(?:\.[0-9]{1,18})?")
_PART: Final = r"([0-9]{1,18}(?:\.[0-9]{1,18})?)"
_DURATION: Final = re.compile(rf"(?=.)(?:{_PART}d)?(?:{_PART}h)?(?:{_PART}m)?(?:{_PART}s)?(?:{_PART}ms)?")
_SECONDS_OF_UNIT: Final = (86400.0, 3600.0, 60.0, 1.0, 0.001)


def read_wait_seconds(headers: httpx.Headers, window: RateWindow | None, *, now: datetime) -> float | None:
    """Returns the wait that a refusal asks for, from 0 to 24 h; None if it asks for none.

    `retry-after-ms` is the most exact and goes first, then `Retry-After` (seconds or a date, RFC 9110
    10.2.3), then the longest reset among the limits that are used up. Resets of other limits say nothing
    about this refusal.
    """
    milliseconds = _read_number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return bound(milliseconds / 1000)
    wait = _read_retry_after(headers.get("retry-after"), now)
    if wait is not None:
        return bound(wait)
    resets = [] if window is None else list(_read_resets(window))
    return max(resets) if resets else None


def bound(seconds: float) -> float:
    """A wait that somebody else asks for, in the limits of what is obeyed."""
    return min(max(seconds, 0.0), MAX_WAIT_SECONDS)


def read_duration_seconds(text: str | None) -> float | None:
    """Reads a duration such as `1h2m3.5s`, `20ms` or, from Azure, `20` (seconds), in the bounds of a wait."""
    seconds = _read_number(text)
    if seconds is not None:
        return bound(seconds)
    match = _DURATION.fullmatch(text or "")
    if match is None:
        return None
    parts = zip(match.groups(), _SECONDS_OF_UNIT, strict=True)
    return bound(sum(float(part) * unit for part, unit in parts if part is not None))


def read_moment_seconds(text: str | None, now: datetime) -> float | None:
    """How long until a moment such as `2026-11-24T12:00:00Z` (RFC 3339), in the bounds of a wait."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return bound((_in_utc(moment) - now).total_seconds())


def read_epoch_seconds(text: str | None, now: datetime) -> float | None:
    """How long until a moment in milliseconds since 1970, in the bounds of a wait."""
    milliseconds = _read_number(text)
    return None if milliseconds is None else bound(milliseconds / 1000 - now.timestamp())


def read_remaining(text: str | None) -> int | None:
    """Reads a limit or what is left of it; less than nothing is nothing."""
    number = _read_number(text)
    return None if number is None or number > MAX_LIMIT else max(0, int(number))


def make_window(
    requests: tuple[int | None, float | None],
    tokens: tuple[int | None, float | None],
    per_minute: tuple[int | None, int | None] = (None, None),
) -> RateWindow | None:
    """A window of what remains, when it is reset and what is granted; None where nothing is known."""
    if requests == tokens == per_minute == (None, None):
        return None
    # A limit of nothing is no rate to keep to: it is what `remaining` says already.
    granted = [limit or None for limit in per_minute]
    return RateWindow(requests[0], tokens[0], requests[1], tokens[1], granted[0], granted[1])


def _read_number(text: str | None) -> float | None:
    stripped = (text or "").strip()
    return float(stripped) if _NUMBER.fullmatch(stripped) else None


def _read_retry_after(text: str | None, now: datetime) -> float | None:
    seconds = _read_number(text)
    if seconds is not None or text is None:
        return seconds
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return (_in_utc(moment) - now).total_seconds()


def _in_utc(moment: datetime) -> datetime:
    # HTTP dates are in GMT; one without a zone comes out naive.
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _read_resets(window: RateWindow) -> Iterable[float]:
    limits = (
        (window.remaining_requests, window.requests_reset_seconds),
        (window.remaining_tokens, window.tokens_reset_seconds),
    )
    used_up = [limit for limit in limits if limit[0] == 0] or [limit for limit in limits if limit[0] is None]
    return [seconds for _, seconds in used_up if seconds is not None]
