"""Two runs side by side: what got better, what got worse, and what is no more than chance.

A difference counts where its whole 99 % interval lies on one side of nothing (`reports.noise` says where that
comes from) and where it is larger than what the measurement itself can be off by.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any

from simulator.load.reports import noise
from simulator.load.reports.figures import (
    NOTHING,
    format_bytes,
    format_percent,
    format_rate,
    format_share,
    format_value,
)
from simulator.load.run_document import LATENCIES, Distribution, Host, RunDocument

HEADINGS = ("", "A", "B", "change", "99% of B less A", "")
"""Of the columns of `Comparison.rows`."""

LEAST_CHANGE = 0.02
"""A smaller relative change is none: two percentiles of our histograms alone can be off by 1.6 %."""
FOREIGN_CLOCK_SECONDS = 0.001
"""Stamps of the service and of Kafka are whole milliseconds; a difference of such times up to one is none."""

_FOREIGN_CLOCK = {"queue_wait", "provider", "publish", "delivery"}
_PERCENTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999))
_MUST_AGREE = ("shape", "rate", "duration", "scenario", "faults", "target")
_SAME_OFFER = 0.02
_SAME_MEMORY = 0.1


class Judgement(StrEnum):
    """What became of one figure from the first run to the second."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "no difference beyond noise"
    UNKNOWN = "cannot be told"


@dataclass(frozen=True)
class Change:
    """One figure of both runs."""

    metric: str
    unit: str
    """`s`, `/s`, or `%` for shares."""
    before: float | None
    after: float | None
    interval: tuple[float, float] | None
    """Between which bounds `after` less `before` lies; None where nothing can be said about it."""
    judgement: Judgement
    more_is_better: bool = False
    reason: str = ""
    """Why it cannot be told."""

    @property
    def relative(self) -> float | None:
        """The change as a share of `before`; infinite from nothing to something."""
        if self.before is None or self.after is None:
            return None
        if self.before == 0:
            return math.inf if self.after > 0 else 0.0
        return (self.after - self.before) / abs(self.before)

    @property
    def row(self) -> tuple[str, ...]:
        """As it is read in a table; `HEADINGS` says of what."""
        bounds = NOTHING
        if self.interval is not None:
            bounds = " to ".join(_write_signed(bound, self.unit) for bound in self.interval)
        words = f"{_GLYPHS[self.judgement]} {self.judgement.value}"
        return (
            self.metric,
            _write(self.before, self.unit),
            _write(self.after, self.unit),
            format_percent(self.relative),
            bounds,
            f"{words}: {self.reason}" if self.reason else words,
        )


@dataclass(frozen=True)
class Comparison:
    """What two runs say together."""

    before: str
    """The id of the first run, A."""
    after: str
    """The id of the second run, B."""
    obstacles: tuple[str, ...]
    """Why the two are not comparable, a sentence each; empty where they are."""
    remarks: tuple[str, ...]
    """What else differs between them."""
    changes: tuple[Change, ...]

    @property
    def comparable(self) -> bool:
        """Whether a difference can be laid to what was changed on purpose."""
        return not self.obstacles

    @property
    def rows(self) -> tuple[tuple[str, ...], ...]:
        """All changes as plain words, one row each."""
        return tuple(change.row for change in self.changes)

    def regressions(self, threshold_percent: float) -> tuple[Change, ...]:
        """What got worse beyond noise and by more than so many percent of what it was.

        ValueError for a percentage below 0. Whether the runs are comparable at all is another question.
        """
        if not threshold_percent >= 0:
            raise ValueError(f"a regression is allowed to be 0% or more; got {threshold_percent:g}%")
        return tuple(
            change
            for change in self.changes
            if change.judgement is Judgement.WORSE and abs(change.relative or 0.0) * 100 > threshold_percent
        )


def compare(before: RunDocument, after: RunDocument, *, seed: int = 0) -> Comparison:
    """Compares the second run with the first; the same seed gives the same intervals."""
    rng = Random(seed)  # noqa: S311 - to be repeated, not to be secret
    return Comparison(
        before=before.run_id,
        after=after.run_id,
        obstacles=tuple(_find_obstacles(before, after)),
        remarks=tuple(_find_remarks(before, after)),
        changes=(
            _compare_throughput(before, after, rng),
            _compare_goodput(before, after, rng),
            _compare_error_rate(before, after, rng),
            _compare_cpu(before, after, rng),
            *_compare_latencies(before, after, rng),
        ),
    )


def _find_obstacles(before: RunDocument, after: RunDocument) -> Iterator[str]:
    for name in _MUST_AGREE:
        old, new = before.configuration.get(name), after.configuration.get(name)
        if old != new:
            yield f"They ran with another {name}: {_show(old)} and {_show(new)}."
    if not _is_same_host(before.host, after.host):
        yield f"They ran on different hosts: {_describe_host(before.host)} and {_describe_host(after.host)}."
    if abs(after.offered_per_second - before.offered_per_second) > _SAME_OFFER * before.offered_per_second:
        offered = (format_rate(each.offered_per_second) for each in (before, after))
        yield f"They were offered different rates: {' and '.join(offered)}."
    for letter, document in (("A", before), ("B", after)):
        if not document.validity.valid:
            yield f"Run {letter} is not valid: its load generator was the bottleneck."
        if document.interrupted:
            yield f"Run {letter} was interrupted."
        if not document.ledger.sound:
            yield f"Run {letter} has callbacks missing or wrong, so its latencies leave requests out."
        if document.ledger.totals.get("accepted", 0) == 0:
            yield f"Nothing was accepted in run {letter}."


def _find_remarks(before: RunDocument, after: RunDocument) -> Iterator[str]:
    if before.version != after.version:
        yield f"Versions: {before.version} and {after.version}."
    if before.host.python != after.host.python:
        yield f"Python: {before.host.python} and {after.host.python}."
    if before.seed != after.seed:
        yield f"Seeds: {before.seed} and {after.seed}, so the requests came at other moments."
    for name in sorted({*before.configuration, *after.configuration} - {*_MUST_AGREE}):
        old, new = before.configuration.get(name), after.configuration.get(name)
        if old != new:
            yield f"Another {name.replace('_', ' ')}: {_show(old)} and {_show(new)}."


def _compare_throughput(before: RunDocument, after: RunDocument, rng: Random) -> Change:
    """Callbacks a second while the load was on."""
    parts = [[(float(each.called_back), 1.0) for each in noise.list_active(run)] for run in (before, after)]
    figures = [_divide(each) for each in parts]
    return _judge_ratios("throughput", "/s", figures, parts, rng, more_is_better=True)


def _compare_cpu(before: RunDocument, after: RunDocument, rng: Random) -> Change:
    """Seconds of the service's CPU for a request."""
    figures = [run.service.cpu_seconds_per_request for run in (before, after)]
    parts = [
        [
            (each.service_cpu_percent / 100, float(each.called_back))
            for each in noise.list_active(run)
            if each.service_cpu_percent is not None
        ]
        for run in (before, after)
    ]
    return _judge_ratios("cpu per request", "s", figures, parts, rng)


def _compare_goodput(before: RunDocument, after: RunDocument, rng: Random) -> Change:
    """A run that was late as a whole is worth fewer requests, so the greater of both effects counts."""
    runs = (before, after)
    if before.configuration.get("thresholds") != after.configuration.get("thresholds"):
        reason = "the thresholds differ, and with them what is good"
        return _give_up("goodput", "%", [run.goodput for run in runs], reason, more_is_better=True)
    draws = [
        noise.draw_share(
            run.goodput,
            _count_intended(run)
            / max(noise.find_error_effect(run), noise.find_percentile_effect(run, "e2e", 0.99)),
            rng,
        )
        for run in runs
    ]
    return _judge("goodput", "%", [run.goodput for run in runs], draws, more_is_better=True)


def _compare_error_rate(before: RunDocument, after: RunDocument, rng: Random) -> Change:
    runs = (before, after)
    draws = [
        noise.draw_share(run.error_rate, _count_intended(run) / noise.find_error_effect(run), rng)
        for run in runs
    ]
    return _judge("error rate", "%", [run.error_rate for run in runs], draws)


def _compare_latencies(before: RunDocument, after: RunDocument, rng: Random) -> Iterator[Change]:
    for name in LATENCIES:
        old, new = before.latency.get(name), after.latency.get(name)
        if old is None and new is None:
            continue
        for label, percentile in _PERCENTILES:
            metric = f"{name.replace('_', ' ')} {label}"
            figures = [None if each is None else _read_percentile(each, label) for each in (old, new)]
            counted = [
                (each, each.count / noise.find_percentile_effect(run, name, percentile))
                for run, each in ((before, old), (after, new))
                if each is not None
            ]
            if len(counted) < 2:
                yield _give_up(metric, "s", figures, "it was measured in one run only")
            elif not all(each.buckets for each, _ in counted):
                yield _give_up(metric, "s", figures, "a run holds no histogram of it")
            elif not all(noise.can_tell(percentile, count) for _, count in counted):
                yield _give_up(metric, "s", figures, "too few requests")
            else:
                draws = [noise.draw_percentile(each, percentile, count, rng) for each, count in counted]
                least = FOREIGN_CLOCK_SECONDS if name in _FOREIGN_CLOCK else 0.0
                yield _judge(metric, "s", figures, draws, least=least)


def _judge_ratios(
    metric: str,
    unit: str,
    figures: Sequence[float | None],
    parts: Sequence[Sequence[tuple[float, float]]],
    rng: Random,
    *,
    more_is_better: bool = False,
) -> Change:
    if None in figures or not all(parts):
        return _give_up(
            metric, unit, figures, "it was not measured in both runs", more_is_better=more_is_better
        )
    draws = [noise.draw_ratio(each, rng) for each in parts]
    return _judge(metric, unit, figures, draws, more_is_better=more_is_better)


def _judge(
    metric: str,
    unit: str,
    figures: Sequence[float | None],
    draws: Sequence[Sequence[float]],
    *,
    more_is_better: bool = False,
    least: float = 0.0,
) -> Change:
    """`least` is a difference that the clocks alone can make; shares are counted, so any of theirs is one."""
    before, after = figures
    assert before is not None
    assert after is not None
    interval = noise.find_interval(*draws)
    least = max(least, 0.0 if unit == "%" else LEAST_CHANGE * abs(before))
    judgement = Judgement.SAME
    if abs(after - before) > least and (interval[0] > 0 or interval[1] < 0):
        judgement = Judgement.BETTER if (interval[0] > 0) is more_is_better else Judgement.WORSE
    return Change(metric, unit, before, after, interval, judgement, more_is_better)


def _give_up(
    metric: str, unit: str, figures: Sequence[float | None], reason: str, *, more_is_better: bool = False
) -> Change:
    before, after = figures
    return Change(metric, unit, before, after, None, Judgement.UNKNOWN, more_is_better, reason)


def _count_intended(run: RunDocument) -> int:
    return sum(each.intended for each in noise.list_active(run))


def _divide(parts: Sequence[tuple[float, float]]) -> float | None:
    whole = sum(each for _, each in parts)
    return sum(each for each, _ in parts) / whole if whole else None


def _read_percentile(distribution: Distribution, label: str) -> float:
    return float(getattr(distribution, label.replace(".", "")))


def _write(value: float | None, unit: str) -> str:
    return NOTHING if value is None else format_value(value, unit)


def _write_signed(difference: float, unit: str) -> str:
    if unit == "%":
        sign = "-" if difference < 0 else "+"
        return f"{sign}{format_share(abs(difference)).removesuffix('%')} points"
    text = format_value(difference, unit)
    return text if text.startswith("-") else f"+{text}"


def _is_same_host(one: Host, other: Host) -> bool:
    """As far as a document tells; a restart can change the memory that a system reports a little."""
    memories = [host.memory_bytes or 0 for host in (one, other)]
    alike = max(memories) - min(memories) <= _SAME_MEMORY * max(memories)
    return alike and (one.platform, one.cores) == (other.platform, other.cores)


def _describe_host(host: Host) -> str:
    return f"{host.platform} with {host.cores} cores and {format_bytes(host.memory_bytes)}"


def _show(value: Any) -> str:
    return "none" if value in (None, [], "", {}) else str(value)


_GLYPHS = {Judgement.BETTER: "▲", Judgement.WORSE: "▼", Judgement.SAME: "=", Judgement.UNKNOWN: "?"}
