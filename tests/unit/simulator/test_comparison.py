"""The comparison of two runs: differences are found, and chance is not taken for one."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.load.comparison import HEADINGS, Change, Comparison, Judgement, compare
from simulator.load.histogram import Histogram
from simulator.load.reports import noise
from simulator.load.run_document import FaultMark, LedgerFigures, RunDocument, Slice, Span, Validity
from tests.unit.simulator.run_examples import Recipe, make_empty_run, make_run

BASE = Recipe(seconds=120, per_second=20)
OTHER_SEED = replace(BASE, seed=8)


def pick_e2e(document: RunDocument) -> RunDocument:
    return document.model_copy(update={"latency": {"e2e": document.latency["e2e"]}})


SMALL = pick_e2e(make_run(BASE))
"""For what does not depend on how many latencies there are."""
NOTHING_ACCEPTED = LedgerFigures(totals={"accepted": 0}, sound=True, examples={}, rejections={})
CHANGED = {Judgement.BETTER, Judgement.WORSE}


def find(comparison: Comparison, metric: str) -> Change:
    return next(change for change in comparison.changes if change.metric == metric)


def reconfigure(document: RunDocument, **changes: Any) -> RunDocument:
    return document.model_copy(update={"configuration": {**document.configuration, **changes}})


def lengthen(document: RunDocument, name: str, seconds: float) -> RunDocument:
    """The same run with every value of one latency longer by so many seconds."""
    histogram = Histogram()
    for bound, count in document.latency[name].buckets:
        histogram.record(bound + seconds, count)
    return document.model_copy(update={"latency": {**document.latency, name: histogram.to_distribution()}})


def test_a_run_does_not_differ_from_itself() -> None:
    comparison = compare(make_run(BASE), make_run(BASE))
    assert comparison.comparable
    assert comparison.remarks == ()
    assert {change.judgement for change in comparison.changes} <= {Judgement.SAME, Judgement.UNKNOWN}
    assert all(change.relative == 0 for change in comparison.changes)
    assert compare(SMALL, SMALL) == compare(SMALL, SMALL)
    assert compare(SMALL, SMALL, seed=1).changes != compare(SMALL, SMALL).changes  # other intervals


def test_chance_is_not_taken_for_a_difference() -> None:
    judged = []
    for recipe in (BASE, replace(BASE, outage=(40.0, 50.0)), replace(BASE, stall=(60.0, 62.0))):
        for seed in (40, 50):
            comparison = compare(
                make_run(replace(recipe, seed=seed)), make_run(replace(recipe, seed=seed + 1))
            )
            judged += [change.judgement for change in comparison.changes if change.interval is not None]
    assert len(judged) > 150
    assert sum(each in CHANGED for each in judged) / len(judged) < 0.03


def test_a_slower_service_is_found_and_so_is_a_faster_one() -> None:
    slow, fast = make_run(replace(BASE, slower=1.33)), make_run(BASE)
    told = (
        "e2e p50", "e2e p90", "e2e p99", "e2e corrected p99", "provider p90", "accept p90",
        "cpu per request",
    )  # fmt: skip
    worse, better = compare(fast, slow), compare(slow, fast)
    assert {find(worse, metric).judgement for metric in told} == {Judgement.WORSE}
    assert {find(better, metric).judgement for metric in told} == {Judgement.BETTER}
    assert {find(worse, metric).judgement for metric in ("publish p90", "throughput")} == {Judgement.SAME}
    change = find(worse, "e2e p50")
    assert change.relative == pytest.approx(0.33, abs=0.02)
    assert change.interval is not None
    assert change.interval[0] > 0


def test_a_difference_between_two_buckets_of_the_histogram_is_none() -> None:
    """A difference below 2 % can be the histograms' own error, however many requests there are."""
    histogram, other = Histogram(), Histogram()
    histogram.record(0.1, 1_000_000)
    other.record(0.1016, 1_000_000)
    runs = [make_run(BASE, latency={"accept": each.to_distribution()}) for each in (histogram, other)]
    change = find(compare(*runs), "accept p50")
    assert change.interval is not None
    assert change.interval[0] > 0
    assert change.judgement is Judgement.SAME


@pytest.mark.parametrize(
    ("name", "seconds", "judgement"),
    [
        ("publish", 0.0009, Judgement.SAME),
        ("publish", 0.003, Judgement.WORSE),
        ("accept", 0.0009, Judgement.WORSE),
    ],
)
def test_a_millisecond_of_kafka_is_no_difference(name: str, seconds: float, judgement: Judgement) -> None:
    """Kafka stamps whole milliseconds; what the generator times by itself is finer."""
    comparison = compare(make_run(BASE), lengthen(make_run(BASE), name, seconds))
    assert find(comparison, f"{name} p50").judgement is judgement


def test_more_errors_and_less_goodput_are_worse() -> None:
    worse = make_run(replace(OTHER_SEED, failing=0.05))
    comparison = compare(make_run(BASE), worse)
    assert find(comparison, "error rate").judgement is Judgement.WORSE
    assert find(comparison, "goodput").judgement is Judgement.WORSE
    back = compare(worse, make_run(BASE))
    assert find(back, "error rate").judgement is Judgement.BETTER
    assert find(back, "goodput").judgement is Judgement.BETTER


def test_half_the_throughput_is_a_regression_of_50_percent() -> None:
    half = tuple(
        each.model_copy(update={"called_back": each.called_back // 2}) for each in make_run(BASE).slices
    )
    comparison = compare(SMALL, SMALL.model_copy(update={"slices": half}))
    assert find(comparison, "throughput").judgement is Judgement.WORSE
    assert find(comparison, "throughput").relative == pytest.approx(-0.5, abs=0.05)
    assert "throughput" in [change.metric for change in comparison.regressions(40)]
    assert "throughput" not in [change.metric for change in comparison.regressions(60)]


def test_regressions_are_what_got_worse_by_more_than_allowed() -> None:
    slower = pick_e2e(make_run(replace(BASE, slower=1.33)))
    comparison = compare(SMALL, slower)
    metrics = {change.metric for change in comparison.regressions(10)}
    assert {"e2e p50", "e2e p90"} <= metrics
    assert all((change.relative or 0) > 0.1 for change in comparison.regressions(10))
    changed = {change.metric for change in comparison.changes if change.judgement in CHANGED}
    assert {change.metric for change in comparison.regressions(0)} == changed
    assert comparison.regressions(60) == ()
    assert compare(slower, SMALL).regressions(0) == ()
    for percent in (-1.0, math.nan):
        with pytest.raises(ValueError, match=r"^a regression is allowed to be 0% or more; got "):
            comparison.regressions(percent)


def test_errors_where_there_were_none_exceed_any_percentage() -> None:
    none = make_run(replace(BASE, failing=0.0))
    comparison = compare(pick_e2e(none), pick_e2e(make_run(replace(OTHER_SEED, failing=0.05))))
    assert find(comparison, "error rate").relative == math.inf
    assert "error rate" in [change.metric for change in comparison.regressions(1000)]
    assert find(comparison, "error rate").row[3] == "from nothing"


def test_what_too_few_requests_say_is_not_judged() -> None:
    """2,400 requests cannot bound the 99.9th percentile, and thirty not the 99th."""
    comparison = compare(SMALL, pick_e2e(make_run(OTHER_SEED)))
    change = find(comparison, "e2e p99.9")
    assert (change.judgement, change.reason, change.interval) == (Judgement.UNKNOWN, "too few requests", None)
    assert change.before is not None
    few = pick_e2e(make_run(Recipe(seconds=30, per_second=1)))
    assert find(compare(few, few), "e2e p99").judgement is Judgement.UNKNOWN
    assert find(compare(few, few), "e2e p50").judgement is Judgement.SAME


def test_what_only_one_run_measured_is_not_judged() -> None:
    whole = make_run(BASE)
    without = {name: each for name, each in whole.latency.items() if name != "provider"}
    service = whole.service.model_copy(update={"cpu_seconds_per_request": None})
    comparison = compare(whole, make_run(BASE, latency=without, service=service))
    for metric in ("provider p50", "cpu per request"):
        change = find(comparison, metric)
        assert (change.judgement, change.after, change.relative) == (Judgement.UNKNOWN, None, None)
        assert change.reason
    assert {change.judgement for change in compare(whole, make_empty_run()).changes} >= {Judgement.UNKNOWN}
    bare = {name: each.model_copy(update={"buckets": ()}) for name, each in whole.latency.items()}
    change = find(compare(whole, make_run(BASE, latency=bare)), "e2e p50")
    assert change.reason == "a run holds no histogram of it"


def test_goodput_under_other_thresholds_is_not_judged() -> None:
    comparison = compare(make_run(BASE), reconfigure(make_run(BASE), thresholds=["e2e:p99 < 1s"]))
    assert find(comparison, "goodput").judgement is Judgement.UNKNOWN
    assert comparison.comparable
    assert any("thresholds" in remark for remark in comparison.remarks)


def change_run(**changes: Any) -> RunDocument:
    return SMALL.model_copy(update=changes)


def change_host(document: RunDocument, **changes: Any) -> RunDocument:
    return document.model_copy(update={"host": document.host.model_copy(update=changes)})


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (reconfigure(SMALL, shape="ramp 1/s→9/s 2m"), "They ran with another shape: poisson 20/s 120s and "),
        (reconfigure(SMALL, scenario="calm"), "They ran with another scenario: realistic and calm."),
        (reconfigure(SMALL, faults=["x"]), "They ran with another faults: none and ['x']."),
        (change_host(SMALL, cores=64), "They ran on different hosts: Linux-6.1-x86_64 with 2 cores and 8GiB"),
        (change_host(SMALL, platform="macOS"), "They ran on different hosts"),
        (change_host(SMALL, memory_bytes=2**30), "They ran on different hosts"),
        (change_run(validity=Validity(valid=False, reasons=("Late.",))), "Run B is not valid"),
        (change_run(interrupted=True), "Run B was interrupted."),
        (change_run(offered_per_second=30.0), "They were offered different rates: 20/s and 30/s."),
        (change_run(ledger=make_run(replace(BASE, lost=1)).ledger), "Run B has callbacks missing or wrong"),
        (change_run(ledger=NOTHING_ACCEPTED), "Nothing was accepted in run B."),
    ],
)
def test_runs_that_are_not_comparable_say_why(other: RunDocument, sentence: str) -> None:
    comparison = compare(SMALL, other)
    assert not comparison.comparable
    assert len(comparison.obstacles) == 1
    assert comparison.obstacles[0].startswith(sentence)
    assert not compare(other, SMALL).comparable


def test_what_else_differs_is_remarked_and_no_obstacle() -> None:
    other = reconfigure(change_run(seed=8, version="0.2.0"), workers=2)
    other = change_host(other, python="3.13.0", memory_bytes=8 * 2**30 - 4096)
    comparison = compare(SMALL, other)
    assert comparison.comparable
    assert comparison.remarks == (
        "Versions: 0.1.0 and 0.2.0.",
        "Python: 3.11.7 and 3.13.0.",
        "Seeds: 7 and 8, so the requests came at other moments.",
        "Another workers: 1 and 2.",
    )


def test_rows_read_by_themselves() -> None:
    slow, fast = make_run(replace(BASE, slower=1.33)), make_run(BASE)
    comparison = compare(fast, slow)
    assert (comparison.before, comparison.after) == ("load-0007", "load-0007")
    assert {len(row) for row in comparison.rows} == {len(HEADINGS)}
    rows = {row[0]: row for row in comparison.rows}
    assert rows["e2e p50"][-1] == "▼ worse"
    assert rows["publish p50"][-1] == "= no difference beyond noise"
    assert rows["e2e p99.9"][-1] == "? cannot be told: too few requests"
    assert rows["e2e p50"][1].endswith("ms")
    assert rows["e2e p50"][4].startswith("+")
    assert " points to +" in rows["error rate"][4]
    assert compare(slow, fast).rows[3][-1] == "▲ better"


def test_independent_slices_have_no_design_effect_and_clumped_ones_do() -> None:
    """If slices resemble the ones before them, a run is worth fewer requests."""
    rng = Random(3)
    independent = [rng.gauss(0, 1) for _ in range(2500)]
    assert noise.measure_design_effect(independent, 1.0) < 1.6
    clumped, value = [], 0.0
    for _ in range(2500):
        value = 0.8 * value + rng.gauss(0, math.sqrt(1 - 0.8**2))
        clumped.append(value)
    # An autoregression of 0.8 makes the variance of a mean (1 + 0.8) / (1 - 0.8) = 9 times as large.
    assert 6 < noise.measure_design_effect(clumped, 1.0) < 13


@given(st.lists(st.floats(min_value=-1e6, max_value=1e6), max_size=100), st.floats(min_value=0, max_value=10))
def test_no_run_is_worth_more_than_its_requests(slices: list[float], independent: float) -> None:
    effect = noise.measure_design_effect(slices, independent)
    assert effect >= 1
    assert noise.measure_design_effect([5.0] * len(slices), independent) == 1.0


def test_a_drawn_interval_holds_the_true_percentile() -> None:
    """Of 100 exponential samples nearly all 99 % intervals of the 90th percentile do."""
    held = 0
    for seed in range(100):
        rng = Random(seed)
        histogram = Histogram()
        for _ in range(500):
            histogram.record(rng.expovariate(1.0))
        drawn = sorted(noise.draw_percentile(histogram.to_distribution(), 0.9, 500, rng))
        held += drawn[10] <= -math.log(0.1) * (1 + 2**-7) and -math.log(0.1) <= drawn[-11]
    assert held >= 96


def test_a_drawn_interval_grows_as_requests_are_worth_less() -> None:
    """Four times fewer independent requests make it about twice as wide."""
    latency = make_run(BASE).latency["e2e"]
    widths = []
    for count in (latency.count, latency.count / 4):
        drawn = sorted(noise.draw_percentile(latency, 0.5, count, Random(1)))
        widths.append(drawn[-11] - drawn[10])
    assert 1.6 < widths[1] / widths[0] < 2.5


def test_a_drawn_ratio_lies_about_the_real_one() -> None:
    """Blocks of slices leave sum over sum where it was, and its spread is that of the slices."""
    rng = Random(4)
    parts = [(rng.gauss(20, 4), 1.0) for _ in range(400)]
    drawn = noise.draw_ratio(parts, Random(1))
    mean = fmean(part for part, _ in parts)
    assert fmean(drawn) == pytest.approx(mean, abs=0.05)
    spread = math.sqrt(fmean((each - mean) ** 2 for each in drawn))
    assert spread == pytest.approx(4 / math.sqrt(400), rel=0.35)
    assert set(noise.draw_ratio([(1.0, 0.0)], Random(1))) == {0.0}


@pytest.mark.parametrize(
    ("percentile", "count", "can"),
    [(0.5, 8, True), (0.5, 7, False), (0.99, 528, True), (0.99, 527, False), (0.999, 5296, True)],
)
def test_a_percentile_needs_a_value_beyond_it(percentile: float, count: int, *, can: bool) -> None:
    """With 99 % confidence on both sides: p^n at most 0.5 %."""
    assert noise.can_tell(percentile, count) is can
    assert (percentile**count <= 0.005) is can


def make_stalled(*, injected: bool) -> RunDocument:
    """Two minutes in which ten seconds answered forty times as slowly as the others."""
    slices = tuple(
        Slice(
            at=float(at), intended=20, accepted=20, called_back=20,
            e2e_p50=8.0 if 50 <= at < 60 else 0.2, e2e_p99=9.0 if 50 <= at < 60 else 0.4,
        )
        for at in range(120)
    )  # fmt: skip
    histogram = Histogram()
    for seconds, count in ((0.2, 1100), (0.3, 1050), (0.4, 50), (8.0, 150), (9.0, 50)):
        histogram.record(seconds, count)
    fault = FaultMark(fault="provider slow", begins=50.0, ends=60.0, problem=None if injected else "Refused.")
    return make_run(
        BASE,
        slices=slices,
        latency={"e2e": histogram.to_distribution()},
        phases=(Span(name="active", begins=0.0, ends=120.0),),
        faults=(fault,),
    )


def test_a_fault_that_was_injected_is_no_chance() -> None:
    """It happens in both runs; a stall that was not injected makes a run worth far fewer requests."""
    assert noise.find_percentile_effect(make_stalled(injected=True), "e2e", 0.99) == 1.0
    assert noise.find_percentile_effect(make_stalled(injected=False), "e2e", 0.99) > 20


def test_a_slow_second_weighs_as_much_as_it_has_requests() -> None:
    latency = make_stalled(injected=False).latency["e2e"]
    usual = [(0.3 if at % 2 else 0.2, 20) for at in range(119)]
    alone, crowded = (
        noise.measure_percentile_effect(latency, 0.5, [*usual[:60], (9.0, count), *usual[60:]])
        for count in (20, 400)
    )
    assert crowded > 5 * alone


def test_errors_that_come_in_clumps_are_worth_less() -> None:
    def fail(failed: list[int]) -> RunDocument:
        slices = tuple(Slice(at=float(at), intended=20, failed=count) for at, count in enumerate(failed))
        return make_run(BASE, slices=slices, phases=())

    spread = fail([1 if at % 10 == 0 else 0 for at in range(120)])
    clumped = fail([12 if at == 60 else 0 for at in range(120)])
    assert noise.find_error_effect(spread) < 1.5
    assert noise.find_error_effect(clumped) > 5
    assert noise.find_error_effect(fail([0] * 120)) == 1.0


def test_only_whole_seconds_of_the_active_phase_count() -> None:
    document = make_run(BASE, phases=(Span(name="active", begins=10.0, ends=20.5),))
    assert [each.at for each in noise.list_active(document)] == [float(at) for at in range(10, 20)]
    assert noise.list_active(make_run(BASE, phases=())) == list(make_run(BASE).slices)
