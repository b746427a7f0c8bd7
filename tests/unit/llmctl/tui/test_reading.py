"""A snapshot is read part by part: what is missing is empty, what is odd is refused in one sentence."""

from typing import Any

import pytest

from llmctl.tui.model.reading import LatencyReading, ProviderReading, read_figures

WHOLE: dict[str, Any] = {
    "version": "1.2.3",
    "time": "2026-01-02T03:04:05Z",
    "phase": "draining",
    "accepting": True,
    "broker": "down",
    "queue": {"backend": "sqlite", "depth": 7, "capacity": 100, "oldest_age_seconds": 1.5},
    "in_flight": 5,
    "outbox": {"depth": 3, "parked": 2},
    "totals": {"accepted": 20, "succeeded": 4},
    "rates": {"accepted": 2},
    "latency": {
        "accept": {"p50": 0.1, "p90": 0.2, "p99": None, "max": 0.4, "buckets": {"0.5": 1, "+Inf": 2}}
    },
    "providers": [
        {
            "name": "openai",
            "circuit": "open",
            "held": True,
            "held_until": "2026-01-02T03:05:05Z",
            "hold_reason": "budget",
            "in_flight": 4,
            "concurrency_limit": 2,
            "max_concurrency": 8,
            "requests_per_minute": 500,
            "tokens_per_minute": 1000.5,
            "calls": 30,
            "errors": 6,
            "last_error": {"error_code": "LLM_PROVIDER_TIMEOUT", "time": "2026-01-02T03:04:00Z"},
        }
    ],
    "drain": {
        "state": "draining",
        "started_at": "2026-01-02T03:04:05Z",
        "timeout_seconds": 30,
        "remaining": 9,
    },
}
MOMENT = 1767323045.0


def test_every_part_is_read() -> None:
    """A whole snapshot becomes a whole reading, with times in seconds since 1970."""
    reading = read_figures(50.0, "stream", WHOLE)
    assert (reading.at, reading.source, reading.version, reading.service_time) == (
        50.0,
        "stream",
        "1.2.3",
        MOMENT,
    )
    assert (reading.phase, reading.accepting, reading.broker) == ("draining", True, "down")
    assert (reading.queue_backend, reading.queue_depth, reading.queue_capacity) == ("sqlite", 7, 100)
    assert (reading.oldest_age_seconds, reading.in_flight, reading.outbox_depth, reading.parked) == (
        1.5,
        5,
        3,
        2,
    )
    assert (reading.totals, reading.rates) == ({"accepted": 20, "succeeded": 4}, {"accepted": 2})
    assert reading.latency == {"accept": LatencyReading(0.1, 0.2, None, 0.4, {"0.5": 1, "+Inf": 2})}
    assert reading.providers == (
        ProviderReading(
            "openai",
            "open",
            True,
            MOMENT + 60,
            "budget",
            4,
            2,
            8,
            500,
            1000.5,
            30,
            6,
            "LLM_PROVIDER_TIMEOUT",
            MOMENT - 5,
        ),
    )
    drain = reading.drain
    assert (drain.state, drain.started_at, drain.timeout_seconds, drain.remaining) == (
        "draining",
        MOMENT,
        30,
        9,
    )


def test_outstanding_is_where_requests_are() -> None:
    assert read_figures(50.0, "stream", WHOLE).outstanding == 7 + 5 + 3


def test_the_phase_alone_is_a_snapshot() -> None:
    reading = read_figures(50.0, "metrics", {"phase": "ready"})
    assert (reading.broker, reading.queue_capacity, reading.outstanding) == ("unknown", None, 0)
    assert (reading.service_time, reading.providers, reading.latency) == (None, (), {})
    assert reading.drain.state == "none"


@pytest.mark.parametrize("name", [name for name in WHOLE if name != "phase"])
def test_any_part_may_be_missing(name: str) -> None:
    rest = {key: value for key, value in WHOLE.items() if key != name}
    assert read_figures(50.0, "stream", rest).phase == "draining"


@pytest.mark.parametrize("name", ["queue", "outbox", "totals", "rates", "latency", "drain"])
def test_a_part_may_be_null(name: str) -> None:
    assert read_figures(50.0, "stream", {**WHOLE, name: None}).phase == "draining"


def test_a_hold_is_known_by_its_end() -> None:
    told = {"name": "google", "held_until": "2026-01-02T03:04:05Z"}
    (provider,) = read_figures(50.0, "stream", {"phase": "ready", "providers": [told]}).providers
    assert provider.held
    (provider,) = read_figures(
        50.0, "stream", {"phase": "ready", "providers": [{"name": "google"}]}
    ).providers
    assert not provider.held


@pytest.mark.parametrize(
    "odd",
    [
        {"phase": "ready", "queue": [1]},
        {"phase": "ready", "queue": {"depth": "many"}},
        {"phase": "ready", "queue": {"depth": None}},
        {"phase": "ready", "queue": {"depth": float("inf")}},
        {"phase": "ready", "in_flight": {}},
        {"phase": "ready", "time": "yesterday"},
        {"phase": "ready", "totals": {"accepted": "x"}},
        {"phase": "ready", "totals": 7},
        {"phase": "ready", "latency": {"accept": 1.0}},
        {"phase": "ready", "latency": {"accept": {"p50": []}}},
        {"phase": "ready", "latency": {"accept": {"buckets": [1, 2]}}},
        {"phase": "ready", "latency": {"accept": {"buckets": {"0.5": None}}}},
        {"phase": "ready", "latency": {"accept": {"buckets": {"fast": 1}}}},
        {"phase": "ready", "providers": 3},
        {"phase": "ready", "providers": ["openai"]},
        {"phase": "ready", "providers": [{}]},
        {"phase": "ready", "providers": [{"name": "openai", "last_error": "timeout"}]},
        {"phase": "ready", "drain": "now"},
        {},
        {"detail": "Not Found"},
        [],
        "ready",
        7,
        None,
    ],
    ids=repr,
)
def test_odd_documents_are_refused(odd: Any) -> None:
    with pytest.raises(ValueError, match=r"^what came is no snapshot of the service \(\w+\)$"):
        read_figures(50.0, "stream", odd)
