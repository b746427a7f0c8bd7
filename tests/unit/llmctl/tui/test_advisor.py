"""Each problem has its advice: the cause and the setting to change."""

from dataclasses import replace
from typing import Any

import pytest

from llmctl.tui.model.advisor import Advice, advise
from llmctl.tui.model.events import Level
from llmctl.tui.model.reading import DrainReading, LatencyReading, ProviderReading, Reading

CALM = Reading(
    at=100.0,
    source="stream",
    phase="ready",
    accepting=True,
    broker="up",
    queue_depth=10,
    queue_capacity=1000,
    latency={"publish": LatencyReading(p99=0.02)},
    providers=(ProviderReading("openai", in_flight=3, concurrency_limit=8, max_concurrency=8),),
)


def give_advice(growth: float | None = None, **changes: Any) -> list[Advice]:
    return list(advise(replace(CALM, **changes), growth))


@pytest.mark.parametrize("growth", [None, 0.0, 0.5, -20.0])
def test_nothing_is_said_when_all_is_well(growth: float | None) -> None:
    assert give_advice(growth) == []


def test_nothing_is_said_of_what_is_not_known() -> None:
    assert list(advise(Reading(at=1.0, source="metrics", phase="ready", queue_depth=5000), 50.0)) == []


def test_a_broker_that_is_away() -> None:
    (advice,) = give_advice(broker="down", outbox_depth=40)
    assert (advice.level, advice.cause) == (Level.BAD, "Kafka is away, 40 callbacks wait")
    assert "KAFKA_BOOTSTRAP_SERVERS" in advice.knob
    assert str(advice) == f"{advice.cause} → {advice.knob}"


def test_a_slow_broker() -> None:
    slow = {"publish": LatencyReading(p99=0.75)}
    (advice,) = give_advice(latency=slow)
    assert (advice.level, advice.cause) == (Level.WARNING, "Kafka takes 0.8 s for a callback (p99)")
    assert [each.cause for each in give_advice(latency=slow, broker="down")] == [
        "Kafka is away, 0 callbacks wait"
    ]
    assert give_advice(latency={"publish": LatencyReading(p99=0.5)}) == []


def test_parked_callbacks() -> None:
    (advice,) = give_advice(parked=2)
    assert (advice.level, advice.cause) == (Level.BAD, "2 callbacks were refused by Kafka for good")
    assert "llmctl undelivered list" in advice.knob


@pytest.mark.parametrize(
    ("error", "cause", "knob"),
    [
        ("LLM_PROVIDER_RATE_LIMIT", " after LLM_PROVIDER_RATE_LIMIT", "OPENAI_RPM or OPENAI_MAX_CONCURRENCY"),
        ("LLM_CONFIGURATION_ERROR", " after LLM_CONFIGURATION_ERROR", "OPENAI_API_KEY"),
        ("LLM_PROVIDER_TIMEOUT", " after LLM_PROVIDER_TIMEOUT", "PROVIDER_TIMEOUT_SECONDS"),
        ("WHATEVER", " after WHATEVER", "the vendor's status page"),
        ("", "", "the vendor's status page"),
    ],
)
def test_an_open_circuit(error: str, cause: str, knob: str) -> None:
    (advice,) = give_advice(providers=(ProviderReading("openai", circuit="open", last_error=error),))
    assert (advice.level, advice.cause) == (Level.BAD, f"openai: circuit open{cause}, its requests wait")
    assert knob in advice.knob


def test_a_held_provider() -> None:
    held = ProviderReading("openai", held=True, held_until=1767323045.0, hold_reason="budget")
    (advice,) = give_advice(providers=(held, ProviderReading("google")))
    assert advice.level is Level.WARNING
    assert advice.cause == "openai is held until 03:04:05 UTC (budget), its requests wait"
    assert advice.knob == "`llmctl providers release openai`"
    (advice,) = give_advice(providers=(ProviderReading("openai", held=True),))
    assert advice.cause == "openai is held, its requests wait"


@pytest.mark.parametrize(
    ("depth", "said"),
    [
        (799, []),
        (800, [(Level.WARNING, "the queue is 80% full")]),
        (1000, [(Level.BAD, "the queue is 100% full")]),
    ],
)
def test_a_queue_that_fills(depth: int, said: list[tuple[Level, str]]) -> None:
    advice = give_advice(queue_depth=depth)
    assert [(each.level, each.cause) for each in advice] == said


def test_a_growing_queue_behind_a_provider_at_its_limit() -> None:
    """Only providers at their limit are named; the current limit counts before the configured one."""
    limited = ProviderReading("openai", in_flight=2, concurrency_limit=2, max_concurrency=8)
    other = ProviderReading("google", in_flight=4, max_concurrency=4)
    idle = ProviderReading("anthropic", in_flight=3, max_concurrency=4)
    unknown = ProviderReading("openrouter", in_flight=30)
    (advice,) = give_advice(12.0, providers=(limited, other, idle, unknown))
    assert advice.cause == "the queue grows by 12/s and openai, google takes no more calls at once"
    assert advice.knob.startswith("raise OPENAI_MAX_CONCURRENCY or GOOGLE_MAX_CONCURRENCY")


def test_a_growing_queue_that_no_provider_holds_up() -> None:
    (advice,) = give_advice(3.0, queue_depth=100)
    assert advice.cause == "the queue grows by 3/s and is full in 5 min"
    assert [each.cause for each in give_advice(3.0, queue_depth=900)] == ["the queue is 90% full"]
    assert give_advice(3.0, queue_capacity=None) == []


def test_a_service_that_drains() -> None:
    (advice,) = give_advice(phase="draining", drain=DrainReading("draining", remaining=9))
    assert (advice.level, advice.cause) == (Level.WARNING, "the service drains, 9 calls are under way")
    assert "llmctl drain --resume" in advice.knob
