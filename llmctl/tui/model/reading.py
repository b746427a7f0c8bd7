"""The service's snapshot as the monitor reads it: every part may be missing, and none is believed blindly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

LATENCIES = ("accept", "queue_wait", "provider", "publish", "end_to_end")
TOTALS = ("accepted", "rejected", "succeeded", "failed", "published", "publish_failures")
PERCENTILES = ("p50", "p90", "p99", "max")


@dataclass(frozen=True, slots=True)
class LatencyReading:
    """One latency, in seconds, over the last minute; None where nothing was seen or told."""

    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    max: float | None = None
    buckets: Mapping[str, float] = field(default_factory=dict)
    """Upper bound → count since the start, cumulative."""


@dataclass(frozen=True, slots=True)
class ProviderReading:
    """One provider."""

    name: str
    circuit: str = "closed"
    held: bool = False
    held_until: float | None = None
    hold_reason: str = ""
    in_flight: int = 0
    concurrency_limit: int | None = None
    max_concurrency: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    calls: int = 0
    errors: int = 0
    last_error: str = ""
    last_error_at: float | None = None


@dataclass(frozen=True, slots=True)
class DrainReading:
    """How a drain stands."""

    state: str = "none"
    started_at: float | None = None
    timeout_seconds: float | None = None
    remaining: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """One snapshot of the service. Times are seconds since 1970."""

    at: float
    source: str
    version: str = ""
    service_time: float | None = None
    phase: str = "unknown"
    accepting: bool = False
    broker: str = "unknown"
    queue_backend: str = ""
    queue_depth: int = 0
    queue_capacity: int | None = None
    oldest_age_seconds: float = 0.0
    in_flight: int = 0
    outbox_depth: int = 0
    parked: int = 0
    totals: Mapping[str, float] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    latency: Mapping[str, LatencyReading] = field(default_factory=dict)
    providers: tuple[ProviderReading, ...] = ()
    drain: DrainReading = field(default_factory=DrainReading)

    @property
    def outstanding(self) -> int:
        """Accepted and not yet called back, from where they are: never derived from totals."""
        return self.queue_depth + self.in_flight + self.outbox_depth


def read_figures(at: float, source: str, document: Mapping[str, Any]) -> Reading:
    """The reading of a snapshot; ValueError where it is none at all."""
    try:
        queue, outbox = _part(document, "queue"), _part(document, "outbox")
        capacity = queue.get("capacity")
        return Reading(
            at=at,
            source=source,
            version=str(document.get("version", "")),
            service_time=_moment(document.get("time")),
            phase=str(document["phase"]),
            accepting=bool(document.get("accepting", False)),
            broker=str(document.get("broker", "unknown")),
            queue_backend=str(queue.get("backend", "")),
            queue_depth=int(queue.get("depth", 0)),
            queue_capacity=None if capacity is None else int(capacity),
            oldest_age_seconds=float(queue.get("oldest_age_seconds", 0.0)),
            in_flight=int(document.get("in_flight", 0)),
            outbox_depth=int(outbox.get("depth", 0)),
            parked=int(outbox.get("parked", 0)),
            totals={name: float(value) for name, value in _part(document, "totals").items()},
            rates={name: float(value) for name, value in _part(document, "rates").items()},
            latency={name: _read_latency(each) for name, each in _part(document, "latency").items()},
            providers=tuple(_read_provider(each) for each in document.get("providers", ())),
            drain=_read_drain(_part(document, "drain")),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(f"what came is no snapshot of the service ({type(error).__name__})") from error


def _part(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = document.get(name)
    return {} if part is None else part


def _moment(told: Any) -> float | None:
    return None if told is None else datetime.fromisoformat(str(told)).timestamp()


def _number(told: Any) -> float | None:
    return None if told is None else float(told)


def _count(told: Any) -> int | None:
    return None if told is None else int(told)


def _read_latency(document: Mapping[str, Any]) -> LatencyReading:
    spread = {name: _number(document.get(name)) for name in PERCENTILES}
    told = (document.get("buckets") or {}).items()
    # Bounds are read too, so that none comes through that is no number.
    return LatencyReading(
        **spread, buckets={bound: float(count) for bound, count in told if float(bound) > 0}
    )


def _read_provider(document: Mapping[str, Any]) -> ProviderReading:
    error = document.get("last_error") or {}
    return ProviderReading(
        name=str(document["name"]),
        circuit=str(document.get("circuit", "closed")),
        held=bool(document.get("held", document.get("held_until") is not None)),
        held_until=_moment(document.get("held_until")),
        hold_reason=str(document.get("hold_reason") or ""),
        in_flight=int(document.get("in_flight", 0)),
        concurrency_limit=_count(document.get("concurrency_limit")),
        max_concurrency=_count(document.get("max_concurrency")),
        requests_per_minute=_number(document.get("requests_per_minute")),
        tokens_per_minute=_number(document.get("tokens_per_minute")),
        calls=int(document.get("calls", 0)),
        errors=int(document.get("errors", 0)),
        last_error=str(error.get("error_code", "")),
        last_error_at=_moment(error.get("time")),
    )


def _read_drain(document: Mapping[str, Any]) -> DrainReading:
    return DrainReading(
        state=str(document.get("state", "none")),
        started_at=_moment(document.get("started_at")),
        timeout_seconds=_number(document.get("timeout_seconds")),
        remaining=int(document.get("remaining") or 0),
    )
