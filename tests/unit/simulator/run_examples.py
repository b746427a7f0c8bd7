"""Examples of `run.json` for the tests of reports and comparisons, made request by request from a seed.

`python -m tests.unit.simulator.run_examples` writes the one that stands in `fixtures/runs/` anew.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from simulator.load.histogram import Histogram
from simulator.load.reports.verdicts import MEANINGS
from simulator.load.run_document import (
    LATENCIES,
    Distribution,
    FaultMark,
    Host,
    LedgerFigures,
    RunDocument,
    ServiceFigures,
    Slice,
    Span,
    ThresholdResult,
    Validity,
)

FIXTURE = Path(__file__).parents[3] / "fixtures" / "runs" / "broker-outage" / "run.json"
STARTED = datetime(2026, 1, 31, 12, tzinfo=UTC)
BROKER_DOWN = "broker down"
STALL = "service kill"


@dataclass(frozen=True)
class Recipe:
    """What an example is made of."""

    seconds: int = 600
    per_second: int = 40
    seed: int = 7
    slower: float = 1.0  # a factor on everything that the service and its provider need
    lost: int = 0
    failing: float = 0.002  # the share that ends in an error
    outage: tuple[float, float] | None = None  # from when to when the broker is away
    stall: tuple[float, float] | None = None  # from when to when nothing is accepted


@dataclass
class Course:
    """All requests of an example, with their stamps."""

    requests: list[dict[str, float]] = field(default_factory=list)
    failed: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)


def make_run(recipe: Recipe | None = None, **changes: Any) -> RunDocument:
    """The document of a run; `changes` replace fields of it."""
    return _make(recipe or Recipe()).model_copy(update=changes)


def make_good_run() -> RunDocument:
    """Ten minutes in which all went well."""
    return make_run()


def make_bad_run() -> RunDocument:
    """Ten minutes with faults, callbacks that were lost, and thresholds that were not met."""
    document = make_run(Recipe(lost=4, failing=0.01, outage=(120.0, 150.0), stall=(400.0, 402.0)))
    more = {"rejected": 132, "duplicate": 1, "late": 3, "ambiguous": 2, "early": 17}
    totals = {**document.ledger.totals, **more, "ok": document.ledger.totals["ok"] - 4}
    ledger = document.ledger.model_copy(
        update={
            "totals": totals,
            "sound": False,
            "rejections": {"503 LLM_QUEUE_FULL": 120, "503 LLM_SERVICE_DRAINING": 12},
            "examples": {**document.ledger.examples, "duplicate": (name_request(77),)},
        }
    )
    unkept = FaultMark(
        fault="provider outage 10s at 500s", begins=500.0, ends=510.0, problem="It did not answer."
    )
    return document.model_copy(
        update={"ledger": ledger, "exit_code": 5, "faults": (*document.faults, unkept), "goodput": 0.9312}
    )


def make_empty_run() -> RunDocument:
    """A run in which nothing was accepted."""
    nothing = dict.fromkeys(make_good_run().ledger.totals, 0)
    return make_run(
        ledger=LedgerFigures(totals=nothing, sound=True, examples={}, rejections={}),
        latency={},
        slices=(),
        phases=(Span(name="preflight", begins=-2.0, ends=0.0),),
        thresholds=(ThresholdResult(threshold="e2e:p99 < 2s", met=False, value=None, unit="s"),),
        **dict.fromkeys(("offered_per_second", "achieved_per_second", "goodput", "error_rate"), 0.0),
        service=ServiceFigures(),
        interrupted=True,
        exit_code=130,
    )


def name_request(number: int) -> str:
    return f"0198f2c4-5c1e-7a00-8000-{number:012x}"


@cache
def _make(recipe: Recipe) -> RunDocument:
    rng = Random(recipe.seed)
    course = _run(recipe, rng)
    latency = _time(course)
    slices = _slice(recipe, course, rng)
    unwell = {"failed": course.failed - course.lost, "missing": course.lost}
    counts = {name: len(numbers) for name, numbers in unwell.items()}
    accepted = len(course.requests)
    totals = {
        **dict.fromkeys(MEANINGS, 0),
        "accepted": accepted,
        "ok": accepted - sum(counts.values()),
        **counts,
    }
    examples = {
        name: tuple(name_request(number) for number in sorted(numbers)[:5])
        for name, numbers in unwell.items()
        if numbers
    }
    end = max(each["received"] for each in course.requests)
    thresholds = (
        _keep("publish:p99 < 100ms", latency["publish"].p99, 0.1, "s"),
        _keep("e2e:p99 < 4s", latency["e2e"].p99, 4.0, "s"),
        _keep("ledger.missing == 0", float(len(course.lost)), 0.5, ""),
        _keep("error_rate < 1%", totals["failed"] / totals["accepted"], 0.01, "%"),
    )
    cpu = sum(each.service_cpu_percent or 0.0 for each in slices) / 100
    exit_code = 5 if course.lost else 0 if all(each.met for each in thresholds) else 4
    return RunDocument(
        run_id=f"load-{recipe.seed:04d}",
        version="0.1.0",
        started_at=STARTED,
        seed=recipe.seed,
        configuration=_configure(recipe),
        host=Host(python="3.11.7", platform="Linux-6.1-x86_64", cores=2, memory_bytes=8 * 2**30),
        phases=(
            Span(name="warm-up", begins=-5.0, ends=0.0),
            Span(name="active", begins=0.0, ends=float(recipe.seconds)),
            Span(name="settle", begins=float(recipe.seconds), ends=_tidy(end)),
            Span(name="quiet", begins=_tidy(end), ends=_tidy(end) + 5.0),
        ),
        offered_per_second=float(recipe.per_second),
        achieved_per_second=float(recipe.per_second),
        ledger=LedgerFigures(totals=totals, sound=not course.lost, examples=examples, rejections={}),
        latency=latency,
        goodput=_tidy(sum(each["good"] for each in course.requests) / len(course.requests)),
        error_rate=_tidy((totals["failed"] + totals["missing"]) / totals["accepted"]),
        slices=slices,
        faults=_mark_faults(recipe),
        service=ServiceFigures(
            peak_queue_depth=max(each.queue_depth or 0 for each in slices),
            peak_outbox_depth=max(each.outbox_depth or 0 for each in slices),
            drain_seconds=_tidy(end - recipe.seconds),
            cpu_seconds=_tidy(cpu),
            cpu_seconds_per_request=_tidy(cpu / totals["accepted"]),
            peak_memory_bytes=max(each.service_memory_bytes or 0 for each in slices),
        ),
        thresholds=thresholds,
        validity=Validity(valid=True, reasons=()),
        exit_code=exit_code,
    )


def _configure(recipe: Recipe) -> dict[str, Any]:
    return {
        "shape": f"poisson {recipe.per_second}/s {recipe.seconds}s",
        "scenario": "realistic",
        "thresholds": ["publish:p99 < 100ms", "e2e:p99 < 4s", "ledger.missing == 0", "error_rate < 1%"],
        "faults": [each.fault for each in _mark_faults(recipe)],
        "workers": 1,
        "target": None,
        "callback_topics": ["load.results"],
    }


def _run(recipe: Recipe, rng: Random) -> Course:
    """Each request's stamps; open loop, Poisson, the same number every time."""
    count = recipe.seconds * recipe.per_second
    course = Course(lost=set(rng.sample(range(count), recipe.lost)))
    for number, intended in enumerate(sorted(rng.random() * recipe.seconds for _ in range(count))):
        sent = _after(intended, recipe.stall) + _draw(rng, 0.0004, 0.0021)
        accepted = sent + recipe.slower * _draw(rng, 0.0022, 0.011)
        started = accepted + recipe.slower * _draw(rng, 0.0012, 0.008)
        answered = started + recipe.slower * min(_draw(rng, 0.85, 2.4), 10.0)
        away = recipe.outage is not None and recipe.outage[0] <= answered < recipe.outage[1]
        appended = _after(answered, recipe.outage) + _draw(
            rng, 0.5 if away else 0.0048, 1.4 if away else 0.031
        )
        received = appended + _draw(rng, 0.0031, 0.014)
        failed = rng.random() < recipe.failing
        if failed:
            course.failed.add(number)
        good = not failed and number not in course.lost and received - accepted < 4.0
        course.requests.append(
            {
                "number": number, "intended": intended, "sent": sent, "accepted": accepted,
                "started": started, "answered": answered, "appended": appended,
                "received": received, "good": good,
            }
        )  # fmt: skip
    return course


def _time(course: Course) -> dict[str, Distribution]:
    spans = {
        "lateness": ("intended", "sent"),
        "accept": ("sent", "accepted"),
        "accept_corrected": ("intended", "accepted"),
        "queue_wait": ("accepted", "started"),
        "provider": ("started", "answered"),
        "publish": ("answered", "appended"),
        "delivery": ("appended", "received"),
        "e2e": ("accepted", "received"),
        "e2e_corrected": ("intended", "received"),
    }
    assert tuple(spans) == LATENCIES
    found = {}
    for name, (begin, end) in spans.items():
        histogram = Histogram()
        for each in course.requests:
            if each["number"] not in course.lost:
                histogram.record(each[end] - each[begin])
        distribution = histogram.to_distribution()
        keys = ("mean", "p50", "p90", "p99", "p999", "max")
        figures = {key: _tidy(getattr(distribution, key)) for key in keys}
        found[name] = distribution.model_copy(update=figures)
    return found


def _slice(recipe: Recipe, course: Course, rng: Random) -> tuple[Slice, ...]:
    counts: dict[str, Counter[int]] = {
        stamp: Counter(math.floor(each[stamp]) for each in course.requests)
        for stamp in ("intended", "sent", "accepted", "started", "answered", "appended")
    }
    there = [each for each in course.requests if each["number"] not in course.lost]
    back = Counter(math.floor(each["received"]) for each in there)
    failed = Counter(math.floor(each["received"]) for each in there if each["number"] in course.failed)
    times: dict[int, list[dict[str, float]]] = {}
    for each in there:
        times.setdefault(math.floor(each["received"]), []).append(each)
    depth = Counter[str]()
    slices = []
    for at in range(-5, max(back) + 6):
        for name, (entered, left) in _DEPTHS.items():
            depth[name] += counts[entered][at] - counts[left][at]
        here = times.get(at, [])
        memory = 96 * 2**20 + 4096 * depth["outbox"] + 3000 * max(at, 0)
        stalled = recipe.stall is not None and recipe.stall[0] <= at < recipe.stall[1]
        busy = 0.0019 * recipe.slower * back[at] + 0.001 * counts["accepted"][at]
        slices.append(
            Slice(
                at=float(at),
                intended=counts["intended"][at],
                sent=counts["sent"][at],
                accepted=counts["accepted"][at],
                called_back=back[at],
                failed=failed[at],
                accept_p99=_find_percentile(here, "sent", "accepted", 0.99),
                e2e_p50=_find_percentile(here, "accepted", "received", 0.5),
                e2e_p99=_find_percentile(here, "accepted", "received", 0.99),
                e2e_corrected_p99=_find_percentile(here, "intended", "received", 0.99),
                queue_depth=None if stalled else depth["queue"],
                in_flight=None if stalled else depth["in_flight"],
                outbox_depth=None if stalled else depth["outbox"],
                service_cpu_percent=None if stalled else _tidy(4 + 100 * busy * (0.9 + 0.2 * rng.random())),
                service_memory_bytes=None if stalled else memory,
            )
        )
    return tuple(slices)


_DEPTHS = {
    "queue": ("accepted", "started"),
    "in_flight": ("started", "answered"),
    "outbox": ("answered", "appended"),
}


def _mark_faults(recipe: Recipe) -> tuple[FaultMark, ...]:
    marks = []
    if recipe.outage is not None:
        begins, ends = recipe.outage
        text = f"{BROKER_DOWN} {ends - begins:g}s at {begins:g}s"
        marks.append(FaultMark(fault=text, begins=begins, ends=ends))
    if recipe.stall is not None:
        marks.append(FaultMark(fault=f"{STALL} at {recipe.stall[0]:g}s", begins=recipe.stall[0], ends=None))
    return tuple(marks)


def _keep(threshold: str, value: float, limit: float, unit: str) -> ThresholdResult:
    return ThresholdResult(threshold=threshold, met=value < limit, value=_tidy(value), unit=unit)


def _after(moment: float, pause: tuple[float, float] | None) -> float:
    return pause[1] if pause is not None and pause[0] <= moment < pause[1] else moment


def _draw(rng: Random, p50: float, p99: float) -> float:
    """A lognormal time through both percentiles."""
    return p50 * math.exp(rng.gauss(0.0, math.log(p99 / p50) / 2.3263478740408408))


def _find_percentile(requests: list[dict[str, float]], begin: str, end: str, share: float) -> float | None:
    ordered = sorted(each[end] - each[begin] for each in requests)
    return _tidy(ordered[math.ceil(share * len(ordered)) - 1]) if ordered else None


def _tidy(number: float) -> float:
    return round(number, 6)


def make_fixture() -> RunDocument:
    """The run in `fixtures/runs/`: half a minute with an outage of the broker, in which nothing was lost."""
    return make_run(Recipe(seconds=30, per_second=8, seed=11, outage=(10.0, 15.0)))


if __name__ == "__main__":
    from simulator.load.reports.folder import format_run

    FIXTURE.parent.mkdir(parents=True, exist_ok=True)
    FIXTURE.write_text(format_run(make_fixture()), encoding="utf-8")
