"""Whether a run measured the service, or the load generator itself.

The rules are those of inference-perf ("median delay < 10 ms or your run is not valid") and of k6, which
counts what it did not send: late and missing sends are a lighter load than was asked for, and flatter the
service.
"""

from __future__ import annotations

from dataclasses import dataclass

from simulator.load.run_document import Validity

LATENESS_P50_SECONDS = 0.010
"""The median send may be as late as this."""
LATENESS_P99_SECONDS = 0.050
"""And the 99th percentile as late as this, or as `LATENESS_SHARE`, whichever is more."""
LATENESS_SHARE = 0.10
"""Of the median time from acceptance to callback."""
ACHIEVED_SHARE = 0.98
"""So much of the load that was asked for must be sent in time."""
SATURATED_CPU_SHARE = 0.95
"""A generator process that takes so much of a core has nothing left for being on time."""


@dataclass(frozen=True)
class GeneratorFigures:
    """What the generator did in the active phase; seconds and rates per second, None where not measured."""

    offered_per_second: float
    """Intended sends."""
    achieved_per_second: float
    """Sends that were made while the phase went on."""
    rejected_per_second: float = 0.0
    lateness_p50: float | None = None
    lateness_p99: float | None = None
    e2e_p50: float | None = None
    skipped: int = 0
    """Sends that a guard, such as the most outstanding requests, held back."""
    busiest_cpu_share: float | None = None
    """Of one core, by the busiest of its processes."""


def judge_validity(figures: GeneratorFigures) -> Validity:
    """The verdict, with a sentence for each rule that was broken: by which figure, and what helps."""
    if figures.lateness_p50 is None or figures.lateness_p99 is None:
        return Validity(valid=False, reasons=(_NOTHING_SENT,))
    found = (
        _judge_median(figures.lateness_p50),
        _judge_tail(figures.lateness_p99, figures.e2e_p50),
        _judge_rate(figures),
        _judge_guard(figures.skipped),
        _judge_cpu(figures.busiest_cpu_share),
    )
    reasons = tuple(reason for reason in found if reason is not None)
    return Validity(valid=not reasons, reasons=reasons)


_NOTHING_SENT = (
    "Nothing was sent in the active phase, so nothing was measured; let the run be longer or its rate higher."
)
_REMEDY = "use more --workers, a lower rate or a quieter machine"


def _judge_median(lateness_p50: float) -> str | None:
    if lateness_p50 <= LATENESS_P50_SECONDS:
        return None
    return (
        f"Half of all sends were {_write_milliseconds(lateness_p50)} late or later, more than "
        f"{_write_milliseconds(LATENESS_P50_SECONDS)} (lateness p50); {_REMEDY}."
    )


def _judge_tail(lateness_p99: float, e2e_p50: float | None) -> str | None:
    limit = max(LATENESS_P99_SECONDS, LATENESS_SHARE * (e2e_p50 or 0.0))
    if lateness_p99 <= limit:
        return None
    return (
        f"1 % of all sends were {_write_milliseconds(lateness_p99)} late or later, more than "
        f"{_write_milliseconds(limit)} (lateness p99); {_REMEDY}."
    )


def _judge_rate(figures: GeneratorFigures) -> str | None:
    """A service that rejects may slow the sending down; what it rejected counts as achieved."""
    reached = figures.achieved_per_second + figures.rejected_per_second
    if reached >= ACHIEVED_SHARE * figures.offered_per_second:
        return None
    share = figures.achieved_per_second / figures.offered_per_second
    return (
        f"Only {figures.achieved_per_second:.1f}/s were sent of {figures.offered_per_second:.1f}/s that were "
        f"asked for ({share:.1%}, less than {ACHIEVED_SHARE:.0%}); {_REMEDY}."
    )


def _judge_guard(skipped: int) -> str | None:
    if skipped == 0:
        return None
    sends = "1 send was" if skipped == 1 else f"{skipped} sends were"
    return f"{sends} skipped, because too many requests were open already; {_REMEDY}, or let more be open."


def _judge_cpu(share: float | None) -> str | None:
    if share is None or share < SATURATED_CPU_SHARE:
        return None
    return f"A generator process took {share:.0%} of a core, so its clock cannot be trusted; {_REMEDY}."


def _write_milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"
