"""A snapshot is read part by part: a missing part is empty, an odd one is refused."""

from typing import Any

import pytest

from llmctl.tui.model.reading import DrainReading, LatencyReading, ProviderReading, Reading, read_figures

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
NO_SNAPSHOT = r"^what came is no snapshot of the service \(\w+\)$"


def test_every_part_is_read() -> None:
    """Times are in seconds since 1970."""
    openai = ("openai", "open", True, MOMENT + 60, "budget", 4, 2, 8, 500, 1000.5, 30, 6)
    assert read_figures(50.0, "stream", WHOLE) == Reading(
        at=50.0,
        source="stream",
        version="1.2.3",
        service_time=MOMENT,
        phase="draining",
        accepting=True,
        broker="down",
        queue_backend="sqlite",
        queue_depth=7,
        queue_capacity=100,
        oldest_age_seconds=1.5,
        in_flight=5,
        outbox_depth=3,
        parked=2,
        totals={"accepted": 20, "succeeded": 4},
        rates={"accepted": 2},
        latency={"accept": LatencyReading(0.1, 0.2, None, 0.4, {"0.5": 1, "+Inf": 2})},
        providers=(ProviderReading(*openai, "LLM_PROVIDER_TIMEOUT", MOMENT - 5),),
        drain=DrainReading("draining", MOMENT, 30, 9),
    )
    assert read_figures(50.0, "stream", WHOLE).outstanding == 7 + 5 + 3


def test_the_phase_alone_is_a_snapshot() -> None:
    reading = read_figures(50.0, "metrics", {"phase": "ready"})
    assert (reading.broker, reading.queue_capacity, reading.outstanding) == ("unknown", None, 0)
    assert (reading.service_time, reading.providers, reading.latency) == (None, (), {})
    assert reading.drain.state == "none"


def test_any_part_may_be_missing_or_null() -> None:
    for name in WHOLE.keys() - {"phase"}:
        rest = {key: value for key, value in WHOLE.items() if key != name}
        assert read_figures(50.0, "stream", rest).phase == "draining", name
    for name in ("queue", "outbox", "totals", "rates", "latency", "drain"):
        assert read_figures(50.0, "stream", {**WHOLE, name: None}).phase == "draining", name


def test_a_hold_is_known_by_its_end() -> None:
    told = [{"name": "google", "held_until": "2026-01-02T03:04:05Z"}, {"name": "openai"}]
    held, free = read_figures(50.0, "stream", {"phase": "ready", "providers": told}).providers
    assert (held.held, free.held) == (True, False)


@pytest.mark.parametrize(
    "part",
    [
        *({"queue": [1]}, {"queue": {"depth": "many"}}, {"queue": {"depth": None}}),
        *({"queue": {"depth": float("inf")}}, {"in_flight": {}}, {"time": "yesterday"}, {"drain": "now"}),
        *({"totals": {"accepted": "x"}}, {"totals": 7}, {"latency": {"accept": 1.0}}),
        *({"latency": {"accept": {"p50": []}}}, {"latency": {"accept": {"buckets": [1, 2]}}}),
        {"latency": {"accept": {"buckets": {"0.5": None}}}},
        {"latency": {"accept": {"buckets": {"fast": 1}}}},
        *({"providers": 3}, {"providers": ["openai"]}, {"providers": [{}]}),
        {"providers": [{"name": "openai", "last_error": "timeout"}]},
    ],
    ids=repr,
)
def test_an_odd_part_is_refused(part: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=NO_SNAPSHOT):
        read_figures(50.0, "stream", {"phase": "ready", **part})


@pytest.mark.parametrize("odd", [{}, {"detail": "Not Found"}, [], "ready", 7, None], ids=repr)
def test_odd_documents_are_refused(odd: Any) -> None:
    with pytest.raises(ValueError, match=NO_SNAPSHOT):
        read_figures(50.0, "stream", odd)
