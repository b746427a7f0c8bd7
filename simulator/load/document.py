"""Makes the document of a run out of what its referee has found: figures, verdicts, exit code."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

from simulator.load.figures import Figures
from simulator.load.ledger import Ledger, LedgerReport, Verdict
from simulator.load.plan import LoadPlan
from simulator.load.referee import Course
from simulator.load.run_document import (
    FaultMark,
    Host,
    LedgerFigures,
    RunDocument,
    ServiceFigures,
    Slice,
    ThresholdResult,
    Validity,
)
from simulator.load.thresholds import Aggregate, Series
from simulator.load.validity import judge_validity

MOST_EXAMPLES = 20
_COUNTS = ("intended", "sent", "accepted", "rejected", "called_back", "failed")


class RunExit(IntEnum):
    """How a run ends; where several hold, the first that is said here."""

    INTERRUPTED = 130
    UNSOUND = 5
    """A callback was lost, doubled or wrong."""
    INVALID = 6
    """The generator measured itself."""
    THRESHOLD = 4
    """A threshold was not met."""
    DONE = 0


@dataclass(frozen=True)
class RunMetrics:
    """The metrics of thresholds in a finished run: those of the figures, the ledger's, and the CPU's."""

    figures: Figures
    report: LedgerReport
    cpu_seconds_per_request: float | None

    @property
    def slice_seconds(self) -> float:
        """How long each value of a series speaks for."""
        return self.figures.slice_seconds

    def read(self, metric: str, aggregate: Aggregate | None) -> float | None:
        """What the metric came to, None where nothing was measured."""
        if metric == "cpu_per_request":
            return self.cpu_seconds_per_request
        if not metric.startswith("ledger."):
            return self.figures.read(metric, aggregate)
        count = self.report.totals[metric.removeprefix("ledger.")]
        return count / self.figures.active_seconds if aggregate is Aggregate.RATE else float(count)

    def series(self, metric: str, aggregate: Aggregate | None) -> Series:
        """The same, slice by slice."""
        return self.figures.series(metric, aggregate)


@dataclass(frozen=True)
class Findings:
    """What a referee leaves behind."""

    figures: Figures
    ledger: Ledger
    course: Course
    faults: Sequence[FaultMark]


def write_document(
    plan: LoadPlan, findings: Findings, configuration: Mapping[str, Any], version: str
) -> RunDocument:
    """The run as it is kept; `configuration` is what was asked for, without secrets."""
    figures, course = findings.figures, findings.course
    report = findings.ledger.report()
    service = _describe_service(findings)
    metrics = RunMetrics(figures, report, service.cpu_seconds_per_request)
    thresholds = tuple(threshold.evaluate(metrics) for threshold in plan.thresholds)
    validity = judge_validity(figures.generator_figures(course.busiest_cpu_share))
    return RunDocument(
        run_id=plan.run_id,
        version=version,
        started_at=datetime.fromtimestamp(course.begin_wall, UTC),
        seed=plan.seed,
        configuration=dict(configuration),
        host=_describe_host(),
        phases=course.spans,
        offered_per_second=figures.offered_per_second,
        achieved_per_second=figures.achieved_per_second,
        ledger=_describe_ledger(findings.ledger, report, course.unsent),
        latency=figures.latency(),
        goodput=figures.goodput or 0.0,
        error_rate=figures.error_rate or 0.0,
        slices=_write_slices(figures),
        slice_seconds=figures.slice_seconds,
        faults=tuple(sorted(findings.faults, key=lambda mark: mark.begins)),
        service=service,
        thresholds=thresholds,
        validity=validity,
        interrupted=course.interrupted,
        exit_code=_judge(report, validity, thresholds, interrupted=course.interrupted),
    )


def _judge(
    report: LedgerReport, validity: Validity, thresholds: Sequence[ThresholdResult], *, interrupted: bool
) -> RunExit:
    if interrupted:
        return RunExit.INTERRUPTED
    if not report.sound:
        return RunExit.UNSOUND
    if not validity.valid:
        return RunExit.INVALID
    if not all(threshold.met for threshold in thresholds):
        return RunExit.THRESHOLD
    return RunExit.DONE


def _write_slices(figures: Figures) -> tuple[Slice, ...]:
    """The slices with their counts per second."""
    width = figures.slice_seconds
    if width == 1:
        return figures.slices()
    return tuple(
        each.model_copy(update={name: round(getattr(each, name) / width) for name in _COUNTS})
        for each in figures.slices()
    )


def _describe_ledger(ledger: Ledger, report: LedgerReport, unsent: Mapping[str, int]) -> LedgerFigures:
    examples: dict[str, list[str]] = {}
    for queue_id, verdict in ledger.verdicts():
        named = examples.setdefault(verdict.value, [])
        if verdict is not Verdict.OK and len(named) < MOST_EXAMPLES:
            named.append(queue_id)
    examples["orphan"] = [
        queue_id for _, queue_id in zip(range(MOST_EXAMPLES), ledger.orphans(), strict=False)
    ]
    return LedgerFigures(
        totals={**report.totals, "ambiguous": report.ambiguous, "early": report.early, **unsent},
        sound=report.sound,
        examples={name: tuple(ids) for name, ids in examples.items() if ids},
        rejections=report.rejections,
    )


def _describe_service(findings: Findings) -> ServiceFigures:
    peaks, course = findings.figures.peaks, findings.course
    per_request = None
    accepted = findings.figures.total("accepted")  # the warm-up's requests are in neither figure
    if course.service_cpu_seconds is not None and accepted:
        per_request = course.service_cpu_seconds / accepted
    return ServiceFigures(
        peak_queue_depth=peaks.queue_depth,
        peak_outbox_depth=peaks.outbox_depth,
        drain_seconds=course.drain_seconds,
        cpu_seconds=course.service_cpu_seconds,
        cpu_seconds_per_request=per_request,
        peak_memory_bytes=peaks.memory_bytes,
    )


def _describe_host() -> Host:
    return Host(
        python=platform.python_version(),
        platform=platform.platform(),
        cores=os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    )
