"""Alerts: a condition in the thresholds' grammar that is to ring, `e2e:p99 > 5s for 20s`.

An alert is pending from when its condition comes true, and fires when it stayed so for the time named.
It is over only when the condition was false for `CLEAR_SECONDS`, so that a value at the bound does not ring
again and again. A metric that cannot be read leaves its alert as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from llmctl.tui.model.events import Event, Level
from simulator.load.thresholds import Aggregate, Threshold, parse_threshold

CLEAR_SECONDS = 5.0
MEASURED = (
    "accept",
    "queue_wait",
    "provider",
    "publish",
    "e2e",
    "delivery",
    "queue.depth",
    "outbox.depth",
    "rate.accepted",
    "error_rate",
    "ledger.ok",
    "ledger.failed",
    "ledger.rejected",
    "ledger.duplicate",
    "ledger.corrupt",
)
"""The metrics that a monitor can read; the others need the referee of a run."""
_COUNTED_HERE = ("ledger.duplicate", "ledger.corrupt")
_PERCENTILES = (Aggregate.P50, Aggregate.P90, Aggregate.P99, Aggregate.MAX, Aggregate.RATE)


class AlertState(StrEnum):
    """Where an alert is."""

    OK = "ok"
    PENDING = "pending"
    FIRING = "firing"


def parse_alert(text: str) -> Threshold:
    """The condition of an alert; ValueError with one sentence where a monitor cannot watch it."""
    threshold = parse_threshold(text)
    if threshold.metric not in MEASURED:
        raise ValueError(
            f"{threshold.metric} in {text!r} is known to a load run's referee alone; a monitor can watch "
            f"{', '.join(MEASURED)}"
        )
    aggregate = threshold.aggregate
    if threshold.metric in _COUNTED_HERE and aggregate is Aggregate.RATE:
        raise ValueError(f"a monitor counts {threshold.metric} and tells no rate of it; leave out ':rate'")
    if threshold.metric == "delivery" and aggregate is not Aggregate.MAX:
        raise ValueError(f"a monitor tells only the slowest delivery; write delivery:max in {text!r}")
    timed = threshold.unit == "s" or aggregate is Aggregate.RATE
    if timed and aggregate not in _PERCENTILES:
        raise ValueError(
            f"the service tells no {aggregate} of {threshold.metric}; "
            "an alert can watch p50, p90, p99, max and rate"
        )
    return threshold


@dataclass(slots=True)
class Alert:
    """One alert and its state."""

    condition: Threshold
    state: AlertState = AlertState.OK
    since: float = 0.0
    """When the state began."""
    value: float | None = None
    """What was read last."""
    fired: int = 0
    """How often it fired."""
    _clear_since: float | None = None

    def update(self, value: float | None, at: float) -> Event | None:
        """Takes a reading in; the event where the alert fires or is over."""
        if value is None:
            return None
        self.value = value
        if self.condition.holds(value):
            self._clear_since = None
            if self.state is AlertState.OK:
                self.state, self.since = AlertState.PENDING, at
            if self.state is AlertState.PENDING and at - self.since >= (self.condition.for_seconds or 0.0):
                self.state, self.since = AlertState.FIRING, at
                self.fired += 1
                return Event(at, Level.BAD, f"ALERT {self.condition}")
            return None
        if self.state is AlertState.PENDING:
            self.state, self.since = AlertState.OK, at
        elif self.state is AlertState.FIRING:
            self._clear_since = at if self._clear_since is None else self._clear_since
            if at - self._clear_since >= CLEAR_SECONDS:
                self.state, self.since, self._clear_since = AlertState.OK, at, None
                return Event(at, Level.GOOD, f"over: {self.condition}")
        return None


def find_firing(alerts: Iterable[Alert]) -> tuple[Alert, ...]:
    """Those that fire, the newest first."""
    firing = [alert for alert in alerts if alert.state is AlertState.FIRING]
    return tuple(sorted(firing, key=lambda alert: -alert.since))
