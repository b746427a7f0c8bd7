"""Faults on a run's timeline, as people write them: `broker down 20s at 30s`, `service kill at 20s`.

| written | does |
|---|---|
| `broker down 20s at 30s` | the broker cuts its connections and takes none for so long |
| `broker slow 500ms 20s at 30s` | every answer of the broker comes so much later, for so long |
| `broker cut at 30s` | the broker cuts every connection once |
| `broker lose-acks 2s at 30s` | the broker carries out requests and swallows its answers |
| `provider outage 10s at 15s` | every call to the provider meets a reset connection |
| `provider overloaded 10s at 15s` | three of five calls are refused as overloaded |
| `service stall 2s at 20s` | the service's process stands still (SIGSTOP) and goes on |
| `service kill at 20s` | the service's process is killed (SIGKILL) and started again |

The moments count from the first intended send.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from simulator.quantities import parse_duration

_KINDS: dict[tuple[str, str], int] = {
    ("broker", "down"): 1,
    ("broker", "slow"): 2,
    ("broker", "cut"): 0,
    ("broker", "lose-acks"): 1,
    ("provider", "outage"): 1,
    ("provider", "overloaded"): 1,
    ("service", "stall"): 1,
    ("service", "kill"): 0,
}
"""How many durations stand after each; the last one is how long it takes."""


@dataclass(frozen=True)
class PlannedFault:
    """What goes wrong, when, and for how long."""

    part: str
    """`broker`, `provider` or `service`."""
    kind: str
    at_seconds: float
    seconds: float | None
    """None for what happens at once."""
    delay_seconds: float | None
    """By how much a slow broker's answers come later; None for every other kind."""
    text: str
    """As it was written."""

    @property
    def ends_seconds(self) -> float | None:
        """When it is over; None for what happens at once."""
        return None if self.seconds is None else self.at_seconds + self.seconds


def parse_fault(text: str) -> PlannedFault:
    """The fault that `text` says; ValueError with one sentence where it is none."""
    words = text.split()
    if len(words) < 4 or words[-2] != "at":
        raise ValueError(f"{text!r} is no fault; write for example 'broker down 20s at 30s'")
    part, kind = words[0], words[1]
    if (part, kind) not in _KINDS:
        known = [" ".join(each) for each in _KINDS]
        nearest = ", ".join(get_close_matches(f"{part} {kind}", known, n=3, cutoff=0.0))
        raise ValueError(f"there is no fault '{part} {kind}' in {text!r}; the nearest are {nearest}")
    wanted = _KINDS[part, kind]
    if len(words) - 4 != wanted:
        needs = {
            0: "takes no duration",
            1: "takes how long it lasts",
            2: "takes a delay and how long it lasts",
        }
        raise ValueError(f"'{part} {kind}' {needs[wanted]} before 'at'; {text!r} says something else")
    try:
        durations = [parse_duration(word) for word in words[2:-2]]
        at_seconds = parse_duration(words[-1])
    except ValueError as error:
        raise ValueError(f"in the fault {text!r}, {error}") from None
    if 0 in durations:
        raise ValueError(f"a duration of nothing in {text!r} would do nothing; make it longer")
    return PlannedFault(
        part=part,
        kind=kind,
        at_seconds=at_seconds,
        seconds=durations[-1] if durations else None,
        delay_seconds=durations[0] if wanted == 2 else None,
        text=" ".join(words),
    )


def check_overlaps(faults: Sequence[PlannedFault]) -> None:
    """ValueError where two faults of the same kind would be on at once: the end of one would end both."""
    ordered = sorted(faults, key=lambda fault: fault.at_seconds)
    ends: dict[tuple[str, str], PlannedFault] = {}
    for fault in ordered:
        before = ends.get((fault.part, fault.kind))
        if before is not None and (before.ends_seconds or before.at_seconds) >= fault.at_seconds:
            raise ValueError(
                f"{before.text!r} and {fault.text!r} overlap; let one end before the other begins"
            )
        ends[fault.part, fault.kind] = fault
