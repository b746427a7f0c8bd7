"""A made-up service as a source, to try the monitor with nothing running; the same for the same seed.

It draws a day in minutes: arrivals swell and ebb, one provider has an outage every three minutes, and
callbacks follow what was accepted.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from llmctl.tui.model.clock import Clock
from llmctl.tui.model.frames import Callbacks, Figures, Frame, Sink, TopicFigures
from llmctl.tui.model.reading import LATENCIES
from llmctl.tui.model.rows import AttemptRow, CallbackRow

STEP_SECONDS = 0.5
VERSION = "mock"
TOPIC = "huleedu.llm_provider.comparison_result.v1"
CAPACITY = 10_000
_MODELS: Mapping[str, str] = {
    "openai": "gpt-4o-mini",
    "anthropic": "claude-haiku-4-5-20251001",
    "google": "gemini-2.0-flash",
}
_MEDIANS: Mapping[str, float] = {
    "accept": 0.004,
    "queue_wait": 0.05,
    "provider": 0.9,
    "publish": 0.006,
    "end_to_end": 1.1,
}
_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_OUTAGE_EVERY_SECONDS, _OUTAGE_SECONDS = 180, 40


class MockFeed:
    """Puts a made-up service's figures and callbacks into a sink, twice a second."""

    def __init__(self, clock: Clock, seed: int = 1) -> None:
        self._clock = clock
        self._model = MockService(seed)

    async def run(self, sink: Sink) -> None:
        """Runs until cancelled."""
        begin = self._clock.now()
        while True:
            now = self._clock.now()
            for frame in self._model.step(now, now - begin):
                sink.take(frame)
            await asyncio.sleep(STEP_SECONDS)


class MockService:
    """What the made-up service would say; pure but for the state that it keeps."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - play, not a secret
        self._totals = Counter[str]()
        self._buckets = {name: [0] * (len(_BOUNDS) + 1) for name in LATENCIES}
        self._calls = Counter[str]()
        self._errors = Counter[str]()
        self._depth = 0.0

    def step(self, now: float, passed: float) -> tuple[Frame, ...]:
        """The frames of half a second that ends `now`, `passed` seconds after the beginning."""
        outage = passed % _OUTAGE_EVERY_SECONDS > _OUTAGE_EVERY_SECONDS - _OUTAGE_SECONDS
        offered = 60 + 40 * math.sin(passed / 60 * math.tau)
        accepted = self._round(offered * STEP_SECONDS)
        possible = self._round((55 if outage else 95) * STEP_SECONDS)
        done = min(possible, accepted + int(self._depth))
        self._depth = max(0.0, self._depth + accepted - done)
        failed = sum(self._random.random() < 0.02 for _ in range(done))
        self._totals.update(accepted=accepted, succeeded=done - failed, failed=failed, published=done)
        self._count_latencies(done)
        rows = tuple(self._make_row(now, number < failed, outage) for number in range(done))
        figures = Figures(now, "mock", self._describe(now, offered, done / STEP_SECONDS, outage))
        return figures, Callbacks(now, rows), TopicFigures(now, self._describe_topics())

    def _round(self, expected: float) -> int:
        return max(0, round(self._random.gauss(expected, math.sqrt(expected))))

    def _count_latencies(self, count: int) -> None:
        for name, counts in self._buckets.items():
            for _ in range(count):
                value = self._draw(_MEDIANS[name])
                place = next((at for at, bound in enumerate(_BOUNDS) if value <= bound), len(_BOUNDS))
                counts[place] += 1

    def _draw(self, median: float) -> float:
        return self._random.lognormvariate(math.log(median), 0.5)

    def _make_row(self, now: float, failed: bool, outage: bool) -> CallbackRow:
        choices: Sequence[str] = [name for name in _MODELS if not (outage and name == "google")]
        provider = self._random.choice(choices)
        self._calls[provider] += 1
        self._errors[provider] += failed
        seconds = self._draw(_MEDIANS["provider"])
        waited = self._draw(_MEDIANS["queue_wait"]) + self._depth / 90
        accepted = now - seconds - waited
        outcome = "LLM_PROVIDER_TIMEOUT" if failed else "success"
        return CallbackRow(
            at=now,
            topic=TOPIC,
            partition=self._random.randrange(6),
            offset=self._totals["published"],
            written_at=now - 0.004,
            status="error" if failed else "success",
            event_id=str(self._make_id()),
            request_id=str(self._make_id()),
            correlation_id=str(self._make_id()),
            provider=provider,
            model=_MODELS[provider],
            winner="" if failed else self._random.choice(("essay_a", "essay_b")),
            error="LLM_PROVIDER_TIMEOUT" if failed else "",
            message="The provider gave no answer in time." if failed else "",
            confidence=None if failed else round(self._random.uniform(0.5, 1), 2),
            cost=0.0002,
            tokens=self._random.randint(600, 1400),
            accepted_at=accepted,
            completed_at=now - 0.005,
            provider_seconds=seconds,
            attempts=(AttemptRow(accepted + waited, seconds, provider, outcome),),
            metadata={"pair_id": f"p-{self._random.randrange(1000):03}"},
        )

    def _make_id(self) -> UUID:
        return UUID(int=self._random.getrandbits(128), version=4)

    def _describe(self, now: float, offered: float, done: float, outage: bool) -> dict[str, Any]:
        totals = {name: self._totals[name] for name in ("accepted", "succeeded", "failed", "published")}
        in_flight = self._round(done)
        return {
            "version": VERSION,
            "time": datetime.fromtimestamp(now, UTC).isoformat(),
            "phase": "ready",
            "accepting": True,
            "broker": "up",
            "queue": {
                "backend": "none",
                "depth": int(self._depth),
                "capacity": CAPACITY,
                "oldest_age_seconds": round(self._depth / 90, 2),
            },
            "in_flight": in_flight,
            "outbox": {"depth": self._random.randrange(4), "parked": 0},
            "totals": {**totals, "rejected": 0, "publish_failures": 0},
            "rates": {
                "accepted": round(offered, 1),
                "published": round(done, 1),
                "failed": 0.0,
                "rejected": 0.0,
            },
            "latency": {name: {"buckets": self._accumulate(name)} for name in LATENCIES},
            "providers": [self._describe_provider(name, in_flight, outage) for name in _MODELS],
            "drain": {"state": "none", "started_at": None, "timeout_seconds": None, "remaining": in_flight},
        }

    def _describe_provider(self, name: str, in_flight: int, outage: bool) -> dict[str, Any]:
        away = outage and name == "google"
        return {
            "name": name,
            "circuit": "open" if away else "closed",
            "held": False,
            "in_flight": 0 if away else in_flight // (2 if outage else 3),
            "max_concurrency": 100,
            "concurrency_limit": 1 if away else 100,
            "calls": self._calls[name],
            "errors": self._errors[name],
            "last_error": {"error_code": "LLM_PROVIDER_UNAVAILABLE", "time": None} if away else None,
        }

    def _accumulate(self, name: str) -> dict[str, int]:
        total, buckets = 0, {}
        for bound, count in zip((*_BOUNDS, math.inf), self._buckets[name], strict=True):
            total += count
            buckets["+Inf" if bound == math.inf else f"{bound:g}"] = total
        return buckets

    def _describe_topics(self) -> dict[str, Any]:
        published = self._totals["published"]
        group = {
            "group": "rankings",
            "state": "Stable",
            "topic": TOPIC,
            "lag": int(self._depth),
            "members": 2,
        }
        return {
            "topics": [{"topic": TOPIC, "partitions": 6, "records": published, "end_total": published}],
            "groups": [group],
            "groups_problem": None,
        }
