"""How well callers obey: what they were told, what they could know, and what they did all the same.

Pure; told the time, real seconds of one monotonic clock.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from simulator.provider.scenario import Expectations

CLOCK_GRAIN_SECONDS = 0.005
"""Timers run a little early."""
MAX_REMEMBERED = 100_000
MAX_EXAMPLES = 10


@dataclass
class Violations:
    """One kind of disobedience."""

    count: int = 0
    examples: list[str] = field(default_factory=list)
    """Request ids of the first ones."""

    def add(self, request_id: str) -> None:
        """Counts one."""
        self.count += 1
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(request_id)

    def as_document(self) -> dict[str, Any]:
        """For the report."""
        return {"count": self.count, "examples": list(self.examples)}


@dataclass
class _Outage:
    """An API's failures in a row while it is down."""

    failures: int = 0
    open_since: float | None = None
    """When a breaker had seen enough."""
    probes: int = 0


class Obedience:
    """Judges every call as it comes."""

    def __init__(self) -> None:
        self._in_flight: Counter[str] = Counter()
        self.clear()

    def clear(self) -> None:
        """Forgets everything but who is under way."""
        self._kinds = {
            name: Violations()
            for name in ("before_retry_after", "while_breaker_open", "above_concurrency", "paid_twice")
        }
        self._advice: dict[Hashable, deque[tuple[float, float]]] = {}
        self._outages: dict[str, _Outage] = {}
        self._peaks: Counter[str] = Counter(self._in_flight)
        self._delivered: OrderedDict[str, None] = OrderedDict()

    def arrive(
        self,
        api: str,
        owner: Hashable,
        request_id: str,
        now: float,
        *,
        expected: Expectations,
        outage: bool,
    ) -> None:
        """A call came; `owner` is whom a refusal's advice binds, `outage` whether the vendor is down."""
        self._in_flight[api] += 1
        self._peaks[api] = max(self._peaks[api], self._in_flight[api])
        cap = expected.max_concurrency
        if cap is not None and self._in_flight[api] > cap:
            self._kinds["above_concurrency"].add(request_id)
        if self._is_early(owner, now, expected.round_trip_seconds):
            self._kinds["before_retry_after"].add(request_id)
        if not outage:
            self._outages.pop(api, None)
        elif self._is_storming(api, now, expected):
            self._kinds["while_breaker_open"].add(request_id)

    def leave(self, api: str) -> None:
        """A call ended, or its caller left."""
        self._in_flight[api] -= 1

    def advise(self, owner: Hashable, seconds: float, now: float) -> None:
        """A refusal was written that says how long to wait."""
        if len(self._advice) >= MAX_REMEMBERED:
            self._advice.pop(next(iter(self._advice)))
        self._advice.setdefault(owner, deque(maxlen=1000)).append((now, now + seconds))

    def fail(self, api: str, now: float, *, expected: Expectations, outage: bool) -> None:
        """A call failed for reasons of the vendor's."""
        limit = expected.breaker_after_failures
        if outage and limit is not None:
            run = self._outages.setdefault(api, _Outage())
            run.failures += 1
            if run.failures == limit:
                run.open_since = now

    def deliver(self, request_id: str) -> None:
        """A usable answer was written whole to a caller that was there."""
        if request_id in self._delivered:
            self._kinds["paid_twice"].add(request_id)
            return
        self._delivered[request_id] = None
        if len(self._delivered) > MAX_REMEMBERED:
            self._delivered.popitem(last=False)

    def report(self) -> dict[str, Any]:
        """Every kind with its count and its first examples."""
        return {
            "violations": sum(kind.count for kind in self._kinds.values()),
            **{name: kind.as_document() for name, kind in self._kinds.items()},
            "peak_concurrency": dict(self._peaks),
        }

    def _is_early(self, owner: Hashable, now: float, round_trip_seconds: float) -> bool:
        advice = self._advice.get(owner)
        if not advice:
            return False
        while advice and advice[0][1] <= now:
            advice.popleft()
        return any(told + round_trip_seconds < now < until - CLOCK_GRAIN_SECONDS for told, until in advice)

    def _is_storming(self, api: str, now: float, expected: Expectations) -> bool:
        run = self._outages.get(api)
        if run is None or run.open_since is None or now <= run.open_since + expected.round_trip_seconds:
            return False
        run.probes += 1
        return run.probes > 1 + expected.probes_per_second * (now - run.open_since)
