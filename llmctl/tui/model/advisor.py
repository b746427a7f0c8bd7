"""Advice: when something is wrong, its cause in one sentence and what to turn; nothing when all is well."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from llmctl.tui.model.events import Level
from llmctl.tui.model.reading import ProviderReading, Reading
from service.contracts.error_codes import LLMErrorCode

NEARLY_FULL = 0.8
GROWING_PER_SECOND = 0.5
SLOW_PUBLISH_SECONDS = 0.5
_KNOBS = {
    LLMErrorCode.PROVIDER_RATE_LIMIT: "lower {NAME}_RPM or {NAME}_MAX_CONCURRENCY to what the vendor grants",
    LLMErrorCode.CONFIGURATION_ERROR: "check {NAME}_API_KEY and the account behind it",
    LLMErrorCode.PROVIDER_TIMEOUT: "check the vendor's status, or raise PROVIDER_TIMEOUT_SECONDS",
}
_OTHER_KNOB = "check the vendor's status page"


@dataclass(frozen=True, slots=True)
class Advice:
    """What is wrong, and what would help."""

    level: Level
    cause: str
    knob: str

    def __str__(self) -> str:
        return f"{self.cause} → {self.knob}"


def advise(reading: Reading, growth_per_second: float | None) -> Iterator[Advice]:
    """What an operator should know now; `growth_per_second` is the queue's, None where it is not known."""
    if reading.broker == "down":
        yield Advice(
            Level.BAD,
            f"Kafka is away, {reading.outbox_depth} callbacks wait",
            "bring the broker back or check KAFKA_BOOTSTRAP_SERVERS; nothing is lost meanwhile",
        )
    yield from _advise_providers(reading)
    if reading.parked:
        yield Advice(
            Level.BAD,
            f"{reading.parked} callbacks were refused by Kafka for good",
            "`llmctl undelivered list` says why",
        )
    yield from _advise_queue(reading, growth_per_second)
    if reading.phase == "draining":
        yield Advice(
            Level.WARNING,
            f"the service drains, {reading.drain.remaining} calls are under way",
            "`llmctl drain --resume` takes it back",
        )
    publish = reading.latency.get("publish")
    slow = 0.0 if publish is None else publish.p99 or 0.0
    if slow > SLOW_PUBLISH_SECONDS and reading.broker == "up":
        yield Advice(
            Level.WARNING,
            f"Kafka takes {slow:.1f} s for a callback (p99)",
            "look at the broker's load and its in-sync replicas",
        )


def _advise_providers(reading: Reading) -> Iterator[Advice]:
    for provider in reading.providers:
        name = provider.name
        if provider.circuit == "open":
            knob = _find_knob(provider.last_error).format(NAME=name.upper())
            cause = f" after {provider.last_error}" if provider.last_error else ""
            yield Advice(Level.BAD, f"{name}: circuit open{cause}, its requests wait", knob)
        elif provider.held:
            reason = f" ({provider.hold_reason})" if provider.hold_reason else ""
            yield Advice(
                Level.WARNING,
                f"{name} is held{_say_until(provider)}{reason}, its requests wait",
                f"`llmctl providers release {name}`",
            )


def _find_knob(code: str) -> str:
    return next((knob for known, knob in _KNOBS.items() if known.value == code), _OTHER_KNOB)


def _say_until(provider: ProviderReading) -> str:
    if provider.held_until is None:
        return ""
    return time.strftime(" until %H:%M:%S UTC", time.gmtime(provider.held_until))


def _advise_queue(reading: Reading, growth: float | None) -> Iterator[Advice]:
    capacity = reading.queue_capacity
    full = capacity is not None and reading.queue_depth >= capacity * NEARLY_FULL
    growing = growth is not None and growth > GROWING_PER_SECOND
    if full and capacity:
        share = reading.queue_depth / capacity
        yield Advice(
            Level.BAD if share >= 1 else Level.WARNING,
            f"the queue is {share:.0%} full",
            "send slower, add capacity at the provider, or raise QUEUE_MAX_SIZE",
        )
    if not growing or growth is None:
        return
    limited = [each for each in reading.providers if _is_at_limit(each)]
    if limited:
        names = ", ".join(each.name for each in limited)
        knob = " or ".join(f"{each.name.upper()}_MAX_CONCURRENCY" for each in limited)
        yield Advice(
            Level.WARNING,
            f"the queue grows by {growth:.0f}/s and {names} takes no more calls at once",
            f"raise {knob}, as far as the vendor grants it",
        )
    elif capacity and not full:
        left = (capacity - reading.queue_depth) / growth
        yield Advice(
            Level.WARNING,
            f"the queue grows by {growth:.0f}/s and is full in {left / 60:.0f} min",
            "send slower, or raise CONCURRENCY or the providers' limits",
        )


def _is_at_limit(provider: ProviderReading) -> bool:
    limit = provider.concurrency_limit or provider.max_concurrency
    return bool(limit) and provider.in_flight >= (limit or 0)
