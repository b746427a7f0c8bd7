"""Events are the differences between two readings, each in one sentence."""

from dataclasses import replace
from typing import Any

import pytest

from llmctl.tui.model.events import Event, Level, compare
from llmctl.tui.model.reading import DrainReading, ProviderReading, Reading

CALM = Reading(
    at=100.0,
    source="stream",
    version="1.0",
    service_time=100.0,
    phase="ready",
    accepting=True,
    broker="up",
    totals={"accepted": 10.0},
    providers=(ProviderReading("openai"), ProviderReading("google")),
)


def say(before: Reading | None, now: Reading) -> list[tuple[Level, str]]:
    return [(event.level, event.text) for event in compare(before, now)]


def test_the_first_reading_introduces_the_service_and_its_trouble() -> None:
    assert list(compare(None, CALM)) == [Event(100.0, Level.INFO, "service 1.0 is ready")]
    assert say(None, replace(CALM, version="")) == [(Level.INFO, "service of an unknown version is ready")]
    troubled = replace(CALM, providers=(ProviderReading("openai", circuit="open"), ProviderReading("google")))
    assert say(None, troubled)[1:] == [(Level.BAD, "openai: circuit open")]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (103.0, ["the service's clock is 3 s ahead of this one"]),
        (90.0, ["the service's clock is 10 s behind this one"]),
        (101.9, []),
        (None, []),
    ],
)
def test_clocks_that_are_apart_are_named(told: float | None, said: list[str]) -> None:
    assert [text for _, text in say(None, replace(CALM, service_time=told))[1:]] == said


def test_nothing_happened_between_equal_readings() -> None:
    busier = replace(CALM, at=101.0, queue_depth=50, in_flight=9, totals={"accepted": 30.0})
    assert say(CALM, busier) == []


@pytest.mark.parametrize(
    ("before", "now", "level", "text"),
    [
        (
            {},
            {"totals": {"accepted": 3.0}},
            Level.WARNING,
            "the service started anew: its counters begin at zero",
        ),
        ({}, {"version": "1.1"}, Level.INFO, "service version 1.0 became 1.1"),
        ({}, {"phase": "draining", "accepting": False}, Level.WARNING, "phase ready became draining"),
        ({}, {"accepting": False}, Level.WARNING, "the service accepts no more requests"),
        ({}, {"broker": "down"}, Level.BAD, "Kafka is away: callbacks wait in the outbox"),
        ({}, {"drain": DrainReading("timed_out")}, Level.INFO, "drain: timed out"),
        ({}, {"parked": 2}, Level.BAD, "undelivered callbacks: 0 became 2"),
        ({"phase": "starting"}, {}, Level.GOOD, "phase starting became ready"),
        ({"accepting": False}, {}, Level.GOOD, "the service accepts requests again"),
        ({"broker": "down"}, {}, Level.GOOD, "Kafka is there again"),
        ({"parked": 2}, {}, Level.GOOD, "undelivered callbacks: 2 became 0"),
    ],
)
def test_each_change_is_told_once(
    before: dict[str, Any], now: dict[str, Any], level: Level, text: str
) -> None:
    assert say(replace(CALM, **before), replace(CALM, **now)) == [(level, text)]


@pytest.mark.parametrize(
    ("before", "now", "level", "text"),
    [
        ({}, {"circuit": "open", "last_error": "E"}, Level.BAD, "openai: circuit open after E"),
        (
            {"circuit": "open"},
            {"circuit": "half_open"},
            Level.WARNING,
            "openai: circuit half open, one call tries",
        ),
        ({"circuit": "half_open"}, {}, Level.GOOD, "openai: circuit closed, calls go through"),
        ({}, {"held": True, "hold_reason": "budget"}, Level.WARNING, "openai is held: budget"),
        ({}, {"held": True}, Level.WARNING, "openai is held"),
        ({"held": True}, {}, Level.GOOD, "openai is asked again"),
    ],
)
def test_a_provider_is_told_apart_from_the_others(
    before: dict[str, Any], now: dict[str, Any], level: Level, text: str
) -> None:
    google = ProviderReading("google", circuit="open")
    earlier = replace(CALM, providers=(ProviderReading("openai", **before), google))
    later = replace(CALM, providers=(google, ProviderReading("openai", **now)))
    assert say(earlier, later) == [(level, text)]


def test_a_new_provider_is_introduced() -> None:
    more = replace(CALM, providers=(*CALM.providers, ProviderReading("anthropic", circuit="open")))
    assert say(CALM, more) == [(Level.INFO, "anthropic is configured")]
