"""Allowances in requests and tokens a minute, kept as the vendors keep them: refilled steadily.

The algorithm is the token bucket with continuous refill that Anthropic documents
(https://docs.claude.com/en/api/rate-limits). Times are the scenario's, in seconds.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from enum import StrEnum, auto

from simulator.provider.api import RateState, Wire

MINUTE_SECONDS = 60.0
MAX_ALLOWANCES = 10_000
"""So many keys and models are kept apart; the longest unused one is forgotten, which fills it up again."""


class RetryAfterStyle(StrEnum):
    """How a refusal says when to come back."""

    VENDOR = auto()
    """As this vendor does."""
    SECONDS = auto()
    DATE = auto()
    MS = auto()
    ABSENT = auto()


@dataclass(frozen=True)
class Limits:
    """What a key may ask of a model; None is no limit."""

    rpm: float | None = None
    tpm: float | None = None
    burst_requests: float = 1.0
    """So many at once after a pause; at least 1."""
    burst_tokens: float = 1.0
    retry_after: RetryAfterStyle = RetryAfterStyle.VENDOR


class Bucket:
    """A level that rises steadily up to its capacity, and from which units are taken.

    More units than fit at all may be taken from a full bucket: the level goes below zero, and whoever comes
    next waits until that is paid off. So over any stretch of time no more is taken than the rate gives, plus
    once the capacity or the largest single amount.
    """

    def __init__(self, capacity: float, now: float) -> None:
        self._level = capacity
        self._at = now

    def wait_for(self, units: float, per_second: float, capacity: float, now: float) -> float:
        """How long until so many units may be taken, 0 where that is now."""
        self._refill(per_second, capacity, now)
        lacking = min(units, capacity) - self._level
        # The refill of exactly the time that was said may fall short by a rounding error.
        return lacking / per_second if lacking > 1e-9 * max(1.0, capacity) else 0.0

    def take(self, units: float) -> None:
        """Takes them; `wait_for` must have said 0 at this very moment."""
        self._level -= units

    def remaining(self) -> int:
        """Whole units that are left as of the last look."""
        return max(0, math.floor(self._level + 1e-9))

    def seconds_until_full(self, per_second: float, capacity: float) -> float:
        """As of the last look."""
        return max(0.0, (capacity - self._level) / per_second)

    def _refill(self, per_second: float, capacity: float, now: float) -> None:
        self._level = min(capacity, self._level + max(0.0, now - self._at) * per_second)
        self._at = max(self._at, now)


@dataclass(frozen=True)
class Verdict:
    """Whether a call is within its allowance."""

    wait_seconds: float
    """0 where it is; else how long until this very call would be."""
    state: RateState


class Allowances:
    """The buckets of every key and model."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[Hashable, tuple[Bucket, Bucket]] = OrderedDict()

    def ask(
        self, owner: Hashable, tokens: int, limits: Limits, now: float, *, scale: float, wall: float
    ) -> Verdict:
        """Takes one request and so many tokens, or nothing at all where either is used up.

        `now` is the scenario's time, `wall` the epoch's; what callers are told is in real seconds, `scale`
        times the scenario's.
        """
        requests, in_tokens = self._find(owner, limits, now)
        wait = 0.0
        if limits.rpm is not None:
            wait = requests.wait_for(1, limits.rpm / MINUTE_SECONDS, limits.burst_requests, now)
        if limits.tpm is not None:
            wait = max(
                wait, in_tokens.wait_for(tokens, limits.tpm / MINUTE_SECONDS, limits.burst_tokens, now)
            )
        if wait == 0:
            requests.take(1 if limits.rpm is not None else 0)
            in_tokens.take(tokens if limits.tpm is not None else 0)
        return Verdict(wait, _describe(requests, in_tokens, limits, scale, wall))

    def _find(self, owner: Hashable, limits: Limits, now: float) -> tuple[Bucket, Bucket]:
        found = self._buckets.get(owner)
        if found is None:
            found = Bucket(limits.burst_requests, now), Bucket(limits.burst_tokens, now)
            self._buckets[owner] = found
            if len(self._buckets) > MAX_ALLOWANCES:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(owner)
        return found


def _describe(requests: Bucket, tokens: Bucket, limits: Limits, scale: float, wall: float) -> RateState:
    by_request = limits.rpm / MINUTE_SECONDS if limits.rpm is not None else None
    by_token = limits.tpm / MINUTE_SECONDS if limits.tpm is not None else None
    return RateState(
        now=wall,
        requests_limit=None if limits.rpm is None else round(limits.rpm),
        requests_remaining=requests.remaining() if by_request else 0,
        requests_reset_seconds=scale * requests.seconds_until_full(by_request, limits.burst_requests)
        if by_request
        else 0.0,
        tokens_limit=None if limits.tpm is None else round(limits.tpm),
        tokens_remaining=tokens.remaining() if by_token else 0,
        tokens_reset_seconds=scale * tokens.seconds_until_full(by_token, limits.burst_tokens)
        if by_token
        else 0.0,
    )


@dataclass(frozen=True)
class Advice:
    """When to come back, as a refusal says it."""

    seconds: float | None
    """From now on, None where nothing is said."""
    header: tuple[str, str] | None
    by_vendor: bool = False
    """The vendor's own words stand."""


def advise(style: RetryAfterStyle, seconds: float, wall: float) -> Advice:
    """Rounds the wait up to what the style can say; `wall` is the epoch's time."""
    match style:
        case RetryAfterStyle.ABSENT:
            return Advice(None, None)
        case RetryAfterStyle.VENDOR | RetryAfterStyle.MS:
            whole = max(1, math.ceil(seconds * 1000))
            if style is RetryAfterStyle.VENDOR:
                return Advice(whole / 1000, None, by_vendor=True)
            return Advice(whole / 1000, ("retry-after-ms", str(whole)))
        case RetryAfterStyle.DATE:
            until = max(math.ceil(wall + seconds), math.floor(wall) + 1)
            stamp = format_datetime(datetime.fromtimestamp(until, UTC), usegmt=True)
            return Advice(until - wall, ("retry-after", stamp))
        case RetryAfterStyle.SECONDS:
            whole = max(1, math.ceil(seconds))
            return Advice(float(whole), ("retry-after", str(whole)))


def write_advice(wire: Wire, advice: Advice) -> Wire:
    """The refusal with this advice in its headers, and no other."""
    if advice.by_vendor:
        return wire
    headers = {name: value for name, value in wire.headers.items() if not name.startswith("retry-after")}
    if advice.header is not None:
        headers[advice.header[0]] = advice.header[1]
    return Wire(wire.status, headers, wire.body)
