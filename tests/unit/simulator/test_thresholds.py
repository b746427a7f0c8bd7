"""Thresholds are read as they are written, kept or broken, and refused where they make no sense."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.load.ledger import Ledger
from simulator.load.run_document import LATENCIES
from simulator.load.thresholds import (
    LEDGER_COUNTS,
    METRICS,
    Aggregate,
    Operator,
    Series,
    Stretch,
    Threshold,
    find_stretches,
    parse_threshold,
)

TIMED = [name for name in LATENCIES if name != "lateness"]


@dataclass(frozen=True)
class Source:
    values: Mapping[tuple[str, str | None], float] = field(default_factory=dict)
    slices: Series = ()
    slice_seconds: float = 1.0

    def read(self, metric: str, aggregate: Aggregate | None) -> float | None:
        return self.values.get((metric, aggregate))

    def series(self, metric: str, aggregate: Aggregate | None) -> Series:
        return self.slices


def follow(
    text: str, values: Sequence[float | None], slice_seconds: float = 1.0
) -> tuple[bool, float | None]:
    """How a threshold with `for` judges one value a slice; None is a slice without one."""
    samples = [(place * slice_seconds, value) for place, value in enumerate(values) if value is not None]
    result = parse_threshold(text).evaluate(Source(slices=samples, slice_seconds=slice_seconds))
    return result.met, result.value


@pytest.mark.parametrize(
    ("text", "threshold"),
    [
        ("e2e:p99 < 2s", Threshold("e2e", Aggregate.P99, Operator.LESS, 2.0)),
        ("publish:p999<=100ms", Threshold("publish", Aggregate.P999, Operator.AT_MOST, 0.1)),
        ("  queue_wait : max  <  10m ", Threshold("queue_wait", Aggregate.MAX, Operator.LESS, 600.0)),
        ("delivery:mean < 1.5 s", Threshold("delivery", Aggregate.MEAN, Operator.LESS, 1.5)),
        ("e2e:rate > 200/s", Threshold("e2e", Aggregate.RATE, Operator.MORE, 200.0)),
        ("provider:rate >= 90/m", Threshold("provider", Aggregate.RATE, Operator.AT_LEAST, 1.5)),
        ("ledger.missing == 0", Threshold("ledger.missing", None, Operator.EQUAL, 0.0)),
        ("ledger.ok != 0", Threshold("ledger.ok", None, Operator.UNEQUAL, 0.0)),
        ("ledger.rejected:rate < 1/s", Threshold("ledger.rejected", Aggregate.RATE, Operator.LESS, 1.0)),
        ("goodput > 98%", Threshold("goodput", None, Operator.MORE, 0.98)),
        ("goodput > 99.9 %", Threshold("goodput", None, Operator.MORE, 0.999)),
        ("error_rate < 0.01", Threshold("error_rate", None, Operator.LESS, 0.01)),
        ("error_rate < 1% for 10s", Threshold("error_rate", None, Operator.LESS, 0.01, 10.0)),
        ("rate.accepted >= 190/s", Threshold("rate.accepted", None, Operator.AT_LEAST, 190.0)),
        ("queue.depth:p50 < 10", Threshold("queue.depth", Aggregate.P50, Operator.LESS, 10.0)),
        ("cpu_per_request < 2ms", Threshold("cpu_per_request", None, Operator.LESS, 0.002)),
        ("e2e<2s for 1m", Threshold("e2e", Aggregate.P99, Operator.LESS, 2.0, 60.0)),
        ("ledger.late < 5", Threshold("ledger.late", None, Operator.LESS, 5.0)),
    ],
)
def test_a_threshold_is_read_as_it_is_written(text: str, threshold: Threshold) -> None:
    assert parse_threshold(text) == threshold


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("e2e<2000ms", "e2e:p99 < 2s"), ("e2e  <  0.3s", "e2e:p99 < 300ms"),
        ("accept<0.5ms", "accept:p99 < 0.5ms"), ("accept<0ms", "accept:p99 < 0s"),
        ("e2e<1.5m for 120m", "e2e:p99 < 90s for 2h"), ("queue.depth<1000.0", "queue.depth:max < 1000"),
        ("goodput>=0.985", "goodput >= 98.5%"), ("rate.accepted>=60/m", "rate.accepted >= 1/s"),
        ("rate.accepted>=1000/m", "rate.accepted >= 1000/m"),
    ],
)  # fmt: skip
def test_it_is_written_in_one_way(text: str, canonical: str) -> None:
    assert str(parse_threshold(text)) == canonical


def test_a_bound_that_has_no_plain_text_is_written_in_full() -> None:
    assert str(Threshold("e2e", Aggregate.P99, Operator.LESS, 1 / 3)) == "e2e:p99 < 0.3333333333333333s"


numbers = st.one_of(
    st.integers(0, 999_999_999).map(str),
    st.decimals(0, 999_999_999, places=6, allow_nan=False).map(str),
    st.decimals(0, 10, places=3, allow_nan=False).map(str),
)


def write(parts: tuple[str, str, str, str]) -> str:
    return " ".join(parts[:2]) + " " + "".join(parts[2:])


operators = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
written = st.one_of(
    st.tuples(st.sampled_from(TIMED), operators, numbers, st.sampled_from(["ms", "s", "m", "h"])).map(write),
    st.tuples(
        st.sampled_from(["rate.accepted", "e2e:rate", "ledger.ok:rate"]),
        operators,
        numbers.filter(float),
        st.sampled_from(["/s", "/m", "/h"]),
    ).map(write),
    st.tuples(
        st.sampled_from(["goodput", "error_rate"]),
        operators,
        st.decimals(0, 100, places=6, allow_nan=False).map(str),
        st.just("%"),
    ).map(write),
    st.tuples(st.sampled_from(["ledger.ok", "queue.depth:mean"]), operators, numbers, st.just("")).map(write),
)


@given(written)
def test_what_it_writes_it_reads_as_the_same(text: str) -> None:
    threshold = parse_threshold(text)
    assert parse_threshold(str(threshold)) == threshold


def test_every_metric_of_the_ledger_and_of_the_clock_can_be_asked_for() -> None:
    assert ["accepted", *LEDGER_COUNTS] == list(Ledger().report().totals)
    assert {*TIMED, *(f"ledger.{count}" for count in LEDGER_COUNTS)} < set(METRICS)
    assert "lateness" not in METRICS


def test_without_an_aggregate_it_is_the_default() -> None:
    assert {parse_threshold(f"{metric} < 1s").aggregate for metric in TIMED} == {Aggregate.P99}
    assert parse_threshold("queue.depth < 1").aggregate is Aggregate.MAX
    assert parse_threshold("outbox.depth < 1").aggregate is Aggregate.MAX
    assert parse_threshold("ledger.ok < 1").aggregate is None


@pytest.mark.parametrize("metric", ["e2e", "ledger.missing", "goodput", "rate.accepted", "cpu_per_request"])
@pytest.mark.parametrize(
    ("unit", "fitting"),
    [
        ("ms", {"e2e", "cpu_per_request"}),
        ("/s", {"rate.accepted"}),
        ("%", {"goodput"}),
        ("", {"ledger.missing", "goodput"}),
        ("x", set()),
    ],
)
def test_a_unit_that_does_not_fit_is_refused(metric: str, unit: str, fitting: set[str]) -> None:
    """Times, rates, shares and counts have their own units; a time or rate without one is refused."""
    text = f"{metric} < 1{unit}"
    if metric in fitting:
        assert parse_threshold(text).bound > 0
    else:
        with pytest.raises(ValueError, match="write for example") as refusal:
            parse_threshold(text)
        assert text in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("missing == 0", r"no metric; the nearest are .*ledger\.missing"),
        ("acept:p99 < 2s", r"no metric; the nearest are .*accept"),
        ("goodputt > 1%", r"no metric; the nearest are .*goodput"),
        ("e2e_correct < 2s", r"no metric; the nearest are .*e2e_corrected"),
        ("queue_depth < 5", r"no metric; the nearest are .*queue\.depth"),
        ("zzz < 5", r"no metric; the nearest are \w+"),
        ("", "is no threshold; write for example"),
        ("e2e", "is no threshold"),
        ("e2e = 2s", "is no threshold"),
        ("e2e < -1s", "is no threshold"),
        ("e2e < 2s forever", "is no threshold"),
        ("e2e < 2s for", "is no threshold"),
        ("e2e:p95 < 2s", "has no aggregate 'p95'; it has p50, p90, p99, p999, max, mean, rate"),
        ("queue.depth:rate < 2/s", "has no aggregate 'rate'"),
        ("ledger.ok:p99 > 1", "has no aggregate 'p99'; it has rate"),
        ("goodput:p99 > 98%", "goodput in .* is one figure; leave out ':p99'"),
        ("rate.accepted:mean > 5/s", "is one figure"),
        ("cpu_per_request:max < 5ms", "is one figure"),
        ("goodput > 98", "no share"),
        ("error_rate < 101%", "no share"),
        ("e2e < 2s for 10", "'10' is no duration"),
        ("e2e < 2s for 0s", "no time at all"),
        ("ledger.missing == 0 for 10s", "leave out 'for'"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as refusal:
        parse_threshold(text)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("operator", "kept"),
    [
        ("<", [True, False, False]), ("<=", [True, True, False]), (">", [False, False, True]),
        (">=", [False, True, True]), ("==", [False, True, False]), ("!=", [True, False, True]),
    ],
)  # fmt: skip
def test_a_bound_is_kept_below_at_and_above(operator: str, kept: list[bool]) -> None:
    threshold = parse_threshold(f"ledger.late {operator} 5")
    results = [threshold.evaluate(Source({("ledger.late", None): value})) for value in (4.0, 5.0, 6.0)]
    assert [result.met for result in results] == kept
    assert [result.value for result in results] == [4.0, 5.0, 6.0]


def test_the_aggregate_that_was_asked_for_is_the_one_that_is_judged() -> None:
    source = Source({("e2e", "p50"): 1.0, ("e2e", "p99"): 3.0, ("e2e", "rate"): 12.0})
    assert parse_threshold("e2e:p50 < 2s").evaluate(source).met
    result = parse_threshold("e2e < 2s").evaluate(source)
    assert (result.threshold, result.met, result.value, result.unit) == ("e2e:p99 < 2s", False, 3.0, "s")
    assert parse_threshold("e2e:rate > 9/s").evaluate(source).unit == "/s"
    assert parse_threshold("goodput > 9%").evaluate(source).unit == "%"
    assert parse_threshold("ledger.ok > 9").evaluate(source).unit == ""


def test_a_threshold_on_nothing_is_not_kept_unless_it_is_a_count_of_the_ledger() -> None:
    """None is missing where nothing was accepted."""
    for text in ("e2e < 2s", "e2e > 0s", "goodput != 0", "e2e:max != 1s for 1s"):
        result = parse_threshold(text).evaluate(Source())
        assert (result.met, result.value) == (False, None)
    assert not parse_threshold("goodput != 0").evaluate(Source({("goodput", None): float("nan")})).met
    result = parse_threshold("ledger.missing == 0").evaluate(Source())
    assert (result.met, result.value) == (True, 0.0)


def test_with_for_a_violation_must_last_without_a_break() -> None:
    """Nine seconds pass, ten do not; the value is the worst of the longest stretch."""
    text = "e2e < 2s for 10s"
    assert follow(text, [1.0, *[3.0] * 9, 1.0]) == (True, 3.0)
    assert follow(text, [1.0, *[3.0] * 8, 4.0, 3.0, 1.0]) == (False, 4.0)
    assert follow(text, [1.0, 1.5]) == (True, 1.5)
    assert follow(text, [*[3.0] * 6, 1.0, *[3.0] * 6]) == (True, 3.0)
    assert follow("e2e < 2s for 3s", [9.0, 9.0, 1.0, 3.0, 4.0, 3.0]) == (False, 4.0)
    assert follow("e2e < 2s for 3s", [3.0, 4.0, 3.0, 1.0, 9.0, 9.0]) == (False, 4.0)
    # A slice without a value is no break: a slow trickle is judged too; silence alone is no violation.
    assert follow("e2e < 2s for 5s", [3.0, None, 3.0, None, 3.0]) == (False, 3.0)
    assert follow("e2e < 2s for 5s", [None, None, 3.0, None, None, None]) == (True, 3.0)


def test_with_for_wide_slices_count_as_long_as_they_are() -> None:
    for calm in range(20):
        # Whose beginning and end differ by a little less than 0.3, now and then.
        assert follow("e2e < 2s for 300ms", [*[1.0] * calm, *[3.0] * 3], 0.1)[0] is False
    assert follow("e2e < 2s for 8s", [3.0] * 2, 4.0)[0] is False
    assert follow("e2e < 2s for 9s", [3.0] * 2, 4.0)[0] is True


@pytest.mark.parametrize(
    ("operator", "values", "worst"),
    [
        ("<", [4.0, 6.0, 7.0], 7.0), ("<=", [4.0, 6.0, 7.0], 7.0), (">", [9.0, 2.0, 3.0], 2.0),
        (">=", [9.0, 2.0, 3.0], 2.0), ("==", [5.0, 4.0, 8.0], 8.0), ("!=", [9.0, 5.0, 5.0], 5.0),
        ("!=", [9.0, 6.0, 1.0], 6.0),
    ],
)  # fmt: skip
def test_the_worst_slice_is_the_farthest_off(operator: str, values: list[float], worst: float) -> None:
    assert follow(f"queue.depth {operator} 5 for 1s", values)[1] == worst


def test_stretches_are_as_long_as_they_can_be() -> None:
    series = [(0.0, 1.0), (1.0, 5.0), (2.0, 6.0), (3.0, 1.0), (4.0, 7.0)]
    found = find_stretches(series, lambda value: value > 4, 1.0)
    assert found == (Stretch(1.0, 3.0, (5.0, 6.0)), Stretch(4.0, 5.0, (7.0,)))
    assert [stretch.seconds for stretch in found] == [2.0, 1.0]


def test_upper_bounds_of_a_latencys_tail_limit_each_request() -> None:
    """The middle may be passed by half of them."""
    for text in ("e2e < 2s", "e2e:p90 <= 2s", "accept:p999 < 2s", "accept:max < 2s"):
        assert parse_threshold(text).limits_each
    for text in ("e2e:p50 < 2s", "e2e:mean < 2s", "e2e > 2s", "e2e == 2s", "e2e:rate < 2/s"):
        assert not parse_threshold(text).limits_each
    for text in ("queue.depth < 2", "cpu_per_request < 2ms", "goodput <= 98%"):
        assert not parse_threshold(text).limits_each
