"""What happened: the differences between one reading and the next, as sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from llmctl.tui.model.reading import ProviderReading, Reading

CLOCKS_APART_SECONDS = 2.0


class Level(StrEnum):
    """How much an event matters."""

    GOOD = "good"
    INFO = "info"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; `at` in seconds since 1970."""

    at: float
    level: Level
    text: str


def compare(before: Reading | None, now: Reading) -> Iterator[Event]:
    """What changed between two readings of the service, the first one compared with nothing."""
    at = now.at
    if before is None:
        yield Event(at, Level.INFO, f"service {now.version or 'of an unknown version'} is {now.phase}")
        yield from _check_clock(now)
        yield from (_name_trouble(at, each) for each in now.providers if each.circuit != "closed")
        return
    if _restarted(before, now):
        yield Event(at, Level.WARNING, "the service started anew: its counters begin at zero")
    # `/metrics` tells less than a snapshot: what it leaves out has not changed.
    whole = "metrics" not in (before.source, now.source)
    if whole and now.version != before.version:
        yield Event(at, Level.INFO, f"service version {before.version} became {now.version}")
    if now.phase != before.phase:
        level = Level.GOOD if now.phase == "ready" else Level.WARNING
        yield Event(at, level, f"phase {before.phase} became {now.phase}")
    elif now.accepting != before.accepting:
        said = "accepts requests again" if now.accepting else "accepts no more requests"
        yield Event(at, Level.GOOD if now.accepting else Level.WARNING, f"the service {said}")
    if whole and now.broker != before.broker:
        back = now.broker == "up"
        said = "Kafka is there again" if back else "Kafka is away: callbacks wait in the outbox"
        yield Event(at, Level.GOOD if back else Level.BAD, said)
    if whole and now.drain.state != before.drain.state:
        yield Event(at, Level.INFO, f"drain: {now.drain.state.replace('_', ' ')}")
    if whole and now.parked != before.parked:
        level = Level.BAD if now.parked > before.parked else Level.GOOD
        yield Event(at, level, f"undelivered callbacks: {before.parked} became {now.parked}")
    yield from _compare_providers(at, before, now)


def _restarted(before: Reading, now: Reading) -> bool:
    return any(now.totals.get(name, 0.0) < value for name, value in before.totals.items())


def _check_clock(now: Reading) -> Iterator[Event]:
    if now.service_time is None:
        return
    apart = now.service_time - now.at
    if abs(apart) > CLOCKS_APART_SECONDS:
        way = "ahead of" if apart > 0 else "behind"
        yield Event(now.at, Level.WARNING, f"the service's clock is {abs(apart):.0f} s {way} this one")


def _compare_providers(at: float, before: Reading, now: Reading) -> Iterator[Event]:
    known = {each.name: each for each in before.providers}
    for provider in now.providers:
        earlier = known.get(provider.name)
        if earlier is None:
            yield Event(at, Level.INFO, f"{provider.name} is configured")
            continue
        if provider.circuit != earlier.circuit:
            yield _name_trouble(at, provider)
        if provider.held != earlier.held:
            reason = f": {provider.hold_reason}" if provider.hold_reason else ""
            said = f"is held{reason}" if provider.held else "is asked again"
            level = Level.WARNING if provider.held else Level.GOOD
            yield Event(at, level, f"{provider.name} {said}")


def _name_trouble(at: float, provider: ProviderReading) -> Event:
    match provider.circuit:
        case "closed":
            return Event(at, Level.GOOD, f"{provider.name}: circuit closed, calls go through")
        case "half_open":
            return Event(at, Level.WARNING, f"{provider.name}: circuit half open, one call tries")
        case _:
            cause = f" after {provider.last_error}" if provider.last_error else ""
            return Event(at, Level.BAD, f"{provider.name}: circuit {provider.circuit}{cause}")
