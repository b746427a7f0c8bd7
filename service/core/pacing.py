"""How fast and how many at once a provider is asked: pure state, told the time by its owner.

All times are seconds of one monotonic clock.
"""

from dataclasses import dataclass
from enum import StrEnum

MINUTE_SECONDS = 60.0
HALVE_AT_MOST_EVERY_SECONDS = 1.0
"""Calls that were under way together meet the same overload: it counts once."""
START_AFTER_OUTAGE = 4
"""Calls at once after a circuit has closed; it doubles with every round trip that succeeds."""


class RateBudget:
    """So many units a minute, refilled steadily; what is reserved too much is given back.

    A reservation may be larger than a second's refill: then the level goes below zero, and whoever comes
    next waits until that is paid off. So a long prompt is delayed and never impossible.
    """

    def __init__(self, per_minute: float, now: float) -> None:
        self._per_second = per_minute / MINUTE_SECONDS
        self._capacity = max(1.0, self._per_second)
        self._level = self._capacity
        self._at = now

    def may_take(self, now: float) -> bool:
        """Whether a reservation is possible at this moment."""
        return self._refill(now) >= min(1.0, self._capacity)

    def take(self, units: float, now: float) -> None:
        """Reserves units."""
        self._refill(now)
        self._level -= units

    def settle(self, reserved: float, used: float, now: float) -> None:
        """Corrects a reservation by what was really used."""
        self._level = min(self._capacity, self._refill(now) + reserved - used)

    def seconds_until_open(self, now: float) -> float:
        """How long until `may_take`."""
        lacking = min(1.0, self._capacity) - self._refill(now)
        return max(0.0, lacking / self._per_second)

    def _refill(self, now: float) -> float:
        self._level = min(self._capacity, self._level + max(0.0, now - self._at) * self._per_second)
        self._at = max(self._at, now)
        return self._level


class Rates:
    """Requests and tokens a minute, reserved together; None is no limit."""

    def __init__(
        self, requests_per_minute: float | None, tokens_per_minute: float | None, now: float
    ) -> None:
        self._requests = None if requests_per_minute is None else RateBudget(requests_per_minute, now)
        self._tokens = None if tokens_per_minute is None else RateBudget(tokens_per_minute, now)

    def may_take(self, now: float) -> bool:
        """Whether a call may be reserved for at this moment."""
        return all(budget.may_take(now) for budget in (self._requests, self._tokens) if budget is not None)

    def take(self, tokens: float, now: float) -> None:
        """Reserves one call and its tokens."""
        if self._requests is not None:
            self._requests.take(1, now)
        if self._tokens is not None:
            self._tokens.take(tokens, now)

    def settle(self, reserved: float, used: float, now: float) -> None:
        """Corrects a call's tokens by what was really used."""
        if self._tokens is not None:
            self._tokens.settle(reserved, used, now)

    def give_back(self, tokens: float, now: float) -> None:
        """The call was not made."""
        if self._requests is not None:
            self._requests.settle(1, 0, now)
        self.settle(tokens, 0, now)

    def seconds_until_open(self, now: float) -> float:
        """How long until `may_take`."""
        waits = [budget.seconds_until_open(now) for budget in (self._requests, self._tokens) if budget]
        return max(waits, default=0.0)


class AdaptiveLimit:
    """How many calls may be under way: one more with each round that succeeds, half after an overload.

    Additive increase, multiplicative decrease (Chiu and Jain, "Analysis of the Increase and Decrease
    Algorithms", 1989), after a restart with TCP's slow start (RFC 5681, 3.1).
    """

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self._limit = float(maximum)
        self._threshold = float(maximum)
        self._halved_at = float("-inf")

    @property
    def current(self) -> int:
        """The limit as it stands, at least 1."""
        return int(self._limit)

    def succeed(self) -> None:
        """A call came back well."""
        step = 1.0 if self._limit < self._threshold else 1.0 / self._limit
        self._limit = min(float(self.maximum), self._limit + step)

    def overload(self, under_way: int, now: float) -> None:
        """The provider said that it is asked too much, with so many calls under way."""
        if now - self._halved_at < HALVE_AT_MOST_EVERY_SECONDS:
            return
        self._halved_at = now
        # What was not in use cannot have been too much: half of what was.
        self._limit = max(1.0, min(self._limit, float(max(1, under_way))) / 2)
        self._threshold = self._limit

    def restart(self) -> None:
        """After an outage: carefully at first, so that what has waited does not bring it down again."""
        self._threshold = self._limit
        self._limit = min(self._limit, float(START_AFTER_OUTAGE))


class Circuit(StrEnum):
    """Whether a provider is asked."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


WINDOW = 20
MIN_FAILURES = 6
"""More than one request is attempted by default: one that always fails is no outage by itself."""
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 5.0


@dataclass(slots=True)
class CircuitBreaker:
    """Stops asking a provider that fails, and looks with one call at a time whether it is back.

    The pattern is Nygard's ("Release It!", 2007). Opens when at least six of the last twenty calls, and half
    of them, failed; pauses for a second, then twice as long after each probe that fails, up to five.
    """

    circuit: Circuit = Circuit.CLOSED
    opens_at: float = 0.0
    """While open: when the next probe may be made."""
    _failures: int = 0
    """How many of the outcomes in the window were failures."""
    _window: int = 0
    """Bits of the last outcomes, a 1 for a failure."""
    _seen: int = 0
    _pause_seconds: float = FIRST_PAUSE_SECONDS

    def may_call(self, now: float) -> bool:
        """Whether a call may be made: any while closed, the one probe when the pause is over."""
        return self.circuit is Circuit.CLOSED or (self.circuit is Circuit.OPEN and now >= self.opens_at)

    def begin(self, now: float) -> bool:
        """A call is made; returns whether it is the probe."""
        if self.circuit is Circuit.OPEN and now >= self.opens_at:
            self.circuit = Circuit.HALF_OPEN
            return True
        return False

    def succeed(self, *, probe: bool) -> bool:
        """A call was answered; returns whether that closed the circuit."""
        if self.circuit is Circuit.CLOSED:
            self._note(failed=False)
            return False
        if not probe:
            return False  # it began before the circuit opened: old news
        self.close()
        return True

    def fail(self, now: float, jitter: float, *, probe: bool) -> bool:
        """A call failed; `jitter` is in [0, 1). Returns whether that opened the circuit."""
        if self.circuit is Circuit.CLOSED:
            self._note(failed=True)
            if self._failures < MIN_FAILURES or 2 * self._failures < self._seen:
                return False
            self._pause_seconds = FIRST_PAUSE_SECONDS
        elif probe:
            self._pause_seconds = min(LONGEST_PAUSE_SECONDS, 2 * self._pause_seconds)
        else:
            return False
        self.circuit = Circuit.OPEN
        self.opens_at = now + self._pause_seconds * (0.8 + 0.2 * jitter)
        return True

    def abandon_probe(self) -> None:
        """The probe was cut off without an outcome: another may be made."""
        if self.circuit is Circuit.HALF_OPEN:
            self.circuit = Circuit.OPEN

    def close(self) -> None:
        """Calls are made again, and what was is forgotten."""
        self.circuit = Circuit.CLOSED
        self._window = self._failures = self._seen = 0
        self._pause_seconds = FIRST_PAUSE_SECONDS

    def _note(self, *, failed: bool) -> None:
        dropped = self._window >> (WINDOW - 1) & 1
        self._window = (self._window << 1 | failed) & ((1 << WINDOW) - 1)
        self._failures += failed - dropped
        self._seen = min(WINDOW, self._seen + 1)
