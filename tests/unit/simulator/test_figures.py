"""Figures count what was intended in the active phase, show everything in slices, and stay small."""

import pickle
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.load.figures import Callback, Figures, ServiceReading
from simulator.load.histogram import RELATIVE_ERROR
from simulator.load.run_document import LATENCIES
from simulator.load.thresholds import METRICS, MetricSource, parse_threshold

CLOSE = 1.01 * RELATIVE_ERROR


def make(active_seconds: float = 10.0, *thresholds: str, most_slices: int = 3600) -> Figures:
    return Figures(active_seconds, [parse_threshold(text) for text in thresholds], most_slices=most_slices)


def answer(intended_at: float, e2e: float = 1.0, *, success: bool = True, **changes: Any) -> Callback:
    """Sent 1 ms after it was due, accepted 10 ms after that."""
    accepted_at = intended_at + 0.011
    made = Callback(
        intended_at, accepted_at + e2e, success, sent_at=intended_at + 0.001, accepted_at=accepted_at
    )
    return replace(made, **changes)


def serve(figures: Figures, intended_at: float, callback: Callback | None = None) -> None:
    """Records an accepted request, and its callback if there is one."""
    figures.intended(intended_at)
    figures.sent(intended_at, intended_at + 0.001)
    figures.accepted(intended_at, intended_at + 0.001, intended_at + 0.011)
    if callback is not None:
        figures.called_back(callback)


def about(seconds: float) -> Any:
    return pytest.approx(seconds, rel=CLOSE)


def test_every_latency_is_timed_between_its_moments() -> None:
    figures = make()
    figures.sent(2.0, 2.25)
    figures.accepted(2.0, 2.25, 2.75)
    told = {"queue_wait": 0.1, "provider": 0.2, "publish": 0.3, "delivery": 0.4}
    figures.called_back(Callback(2.0, 4.75, True, 2.25, 2.75, **told))
    timed = {name: latency.max for name, latency in figures.latency().items()}
    assert timed == pytest.approx(
        {"lateness": 0.25, "accept": 0.5, "accept_corrected": 0.75, **told, "e2e": 2.0, "e2e_corrected": 2.75}
    )
    assert tuple(timed) == LATENCIES
    assert {latency.count for latency in figures.latency().values()} == {1}


def test_a_latency_that_was_not_measured_is_left_out_and_none_is_below_zero() -> None:
    """The 202 of the first got lost; the callback of the second overtook its 202."""
    figures, overtaken = make(), make()
    figures.called_back(Callback(1.0, 3.0, True, sent_at=1.0))
    assert set(figures.latency()) == {"e2e_corrected"}
    overtaken.called_back(answer(1.0, -0.005))
    assert overtaken.latency()["e2e"].max == 0.0


def test_only_what_was_intended_in_the_active_phase_counts_in_the_totals() -> None:
    figures = make()
    serve(figures, -0.5, answer(-0.5, 2.0))
    serve(figures, 0.0, answer(0.0, 0.5))
    figures.rejected(-0.1, 0.3)
    figures.skipped(-0.1)
    assert {figures.total(name) for name in ("intended", "sent", "accepted", "called_back")} == {1}
    assert (figures.total("rejected"), figures.total("skipped")) == (0, 0)
    assert figures.latency()["e2e"].count == 1
    assert sum(each.called_back for each in figures.slices()) == 2
    assert [each.at for each in figures.slices()] == [-1.0, 0.0, 1.0]
    serve(figures, 9.9, answer(9.9, 30.0))  # an answer after the phase counts, else the slowest were left out
    assert figures.latency()["e2e"].max == pytest.approx(30.0)
    assert figures.goodput == 1.0


def test_rates_are_over_the_active_phase() -> None:
    figures = make(10.0)
    for number in range(100):
        figures.intended(number / 10)
        # A fifth is sent only after the end; one at the very end is in time.
        figures.sent(number / 10, number / 10 + (0.001 if number < 80 else 10.0))
    assert (figures.offered_per_second, figures.achieved_per_second) == (10.0, 8.0)
    figures.intended(10.0)
    figures.sent(10.0, 10.04)
    assert figures.achieved_per_second == pytest.approx(8.1)
    figures.intended(10.0)
    figures.sent(10.0, 10.06)
    assert figures.achieved_per_second == pytest.approx(8.1)


def test_a_run_that_is_cut_short_has_the_rates_of_its_shorter_phase() -> None:
    figures = make(10.0)
    for number in range(8):
        serve(figures, number / 4)
    figures.cut_short(2.0)
    assert figures.active_seconds == 2.0
    assert (figures.offered_per_second, figures.achieved_per_second) == (4.0, 4.0)
    figures.cut_short(5.0)
    assert figures.active_seconds == 2.0
    for seconds in (0.0, -1.0):
        with pytest.raises(ValueError, match="more than 0 seconds"):
            make(seconds)
        with pytest.raises(ValueError, match="more than 0 seconds"):
            make().cut_short(seconds)


def test_the_validity_gets_what_it_judges_by() -> None:
    figures = make(10.0)
    figures.sent(-5.0, -1.0)
    for number in range(10):
        serve(figures, float(number), answer(float(number), 2.0))
    figures.rejected(1.0, 1.1)
    figures.skipped(1.0)
    told = figures.generator_figures(0.5)
    assert (told.offered_per_second, told.achieved_per_second, told.rejected_per_second) == (1.0, 1.0, 0.1)
    assert (told.lateness_p50, told.lateness_p99, told.e2e_p50) == (about(0.001), about(0.001), about(2.0))
    assert (told.skipped, told.busiest_cpu_share) == (1, 0.5)
    nothing = make().generator_figures()
    assert (nothing.lateness_p50, nothing.e2e_p50, nothing.busiest_cpu_share) == (None, None, None)


def test_a_good_request_was_answered_well_and_within_every_limit() -> None:
    """Of five: one good, one slow, one slowly accepted, one failed, one never answered."""
    figures = make(10.0, "e2e:p99 < 2s", "accept:max <= 100ms")
    serve(figures, 1.0, answer(1.0))
    serve(figures, 1.0, answer(1.0, 2.5))
    serve(figures, 1.0, answer(1.0, sent_at=0.8))
    serve(figures, 1.0, answer(1.0, success=False))
    serve(figures, 1.0)
    assert figures.goodput == pytest.approx(1 / 5)
    assert figures.error_rate == pytest.approx(2 / 5)


@pytest.mark.parametrize("metric", ["accept_corrected", "queue_wait", "provider", "publish", "delivery"])
def test_every_latency_can_be_limited(metric: str) -> None:
    told = {"queue_wait": 1.0, "provider": 1.0, "publish": 1.0, "delivery": 1.0}
    slow = answer(1.0, accepted_at=2.0, at=5.0, **told)
    for limit, goodput in (("0.9s", 0.0), ("1.1s", 1.0)):
        figures = make(10.0, f"{metric}:max < {limit}")
        serve(figures, 1.0, slow)
        assert figures.goodput == goodput


def test_e2e_corrected_is_limited_from_the_intended_moment_and_e2e_by_upper_bounds_of_its_tail() -> None:
    figures = make(10.0, "e2e_corrected:max < 1s")
    serve(figures, 1.0, Callback(1.0, 3.0, True, sent_at=2.8, accepted_at=2.9))
    assert figures.goodput == 0.0
    """Half of all may be slower than the median."""
    figures = make(10.0, "e2e:p50 < 100ms", "e2e:mean < 100ms", "e2e:max > 5s", "e2e:rate < 1/s")
    serve(figures, 1.0, answer(1.0))
    assert figures.goodput == 1.0


def test_what_cannot_be_judged_counts_on_neither_side() -> None:
    """A limited latency that was not measured is unknown unless another limit was broken."""
    figures = make(10.0, "publish:max < 100ms", "e2e:max < 2s")
    serve(figures, 1.0, answer(1.0, publish=0.05))
    serve(figures, 1.0, answer(1.0, publish=0.5))
    serve(figures, 1.0, answer(1.0))
    assert (figures.goodput, figures.total("unjudged")) == (0.5, 1)
    lost_accept = make(10.0, "accept:max < 100ms")
    serve(lost_accept, 1.0, answer(1.0, sent_at=None))
    assert (lost_accept.goodput, lost_accept.total("unjudged")) == (None, 1)
    serve(figures, 1.0, answer(1.0, 3.0))
    assert (figures.goodput, figures.total("unjudged")) == (pytest.approx(1 / 3), 1)
    assert figures.error_rate == 0.0
    interrupted = make()  # the service is not blamed for what the run did not wait for
    serve(interrupted, 1.0, answer(1.0))
    serve(interrupted, 1.0)
    interrupted.cancelled(1.0)
    assert (interrupted.goodput, interrupted.error_rate) == (1.0, 0.0)


def test_rejected_and_skipped_requests_are_errors() -> None:
    figures = make()
    serve(figures, 1.0, answer(1.0))
    figures.intended(1.0)
    figures.sent(1.0, 1.0)
    figures.rejected(1.0, 1.1)
    figures.intended(1.0)
    figures.skipped(1.0)
    assert (figures.error_rate, figures.goodput) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert (make().goodput, make().error_rate) == (None, None)  # without requests there is no share


def test_a_slice_shows_what_happened_in_its_second() -> None:
    figures = make()
    serve(figures, 3.2, answer(3.2, 1.5))
    serve(figures, 3.9, answer(3.9, 0.5, success=False))
    figures.rejected(3.5, 4.5)
    figures.observe_service(3.1, ServiceReading(5, 2, 1, 20.0, 1000))
    figures.observe_service(3.6, ServiceReading(9, 4, 0, 40.0, 900))
    figures.observe_service(4.6, ServiceReading(queue_depth=0))
    third, fourth = figures.slices()
    assert (third.at, third.intended, third.sent, third.accepted, third.called_back) == (3.0, 2, 2, 2, 0)
    counts = (fourth.at, fourth.intended, fourth.rejected, fourth.called_back, fourth.failed)
    assert counts == (4.0, 0, 1, 2, 1)
    assert (third.accept_p99, third.e2e_p50, fourth.accept_p99) == (about(0.01), None, None)
    latencies = (fourth.e2e_p50, fourth.e2e_p99, fourth.e2e_corrected_p99)
    assert latencies == (about(0.5), about(1.5), about(1.511))
    assert (third.queue_depth, third.in_flight, third.outbox_depth) == (9, 4, 1)
    assert (third.service_cpu_percent, third.service_memory_bytes) == (30.0, 1000)
    assert (fourth.queue_depth, fourth.in_flight, fourth.service_cpu_percent) == (0, None, None)


def test_slices_have_no_gap() -> None:
    figures = make()
    figures.intended(-2.5)
    figures.intended(1.5)
    assert [each.at for each in figures.slices()] == [-3.0, -2.0, -1.0, 0.0, 1.0]
    assert [each.intended for each in figures.slices()] == [1, 0, 0, 0, 1]
    assert [each.at for each in figures.slices(last=2)] == [0.0, 1.0]
    assert make().slices() == ()


def test_the_service_has_peaks_since_the_beginning_of_the_active_phase() -> None:
    figures = make()
    figures.observe_service(-1.0, ServiceReading(100, 100, 100, 100.0, 100))
    figures.observe_service(1.0, ServiceReading(5, 2, 1, 20.0, 70))
    figures.observe_service(20.0, ServiceReading(3, 4, 0, None, 80))
    assert figures.peaks == ServiceReading(5, 4, 1, 20.0, 80)
    assert make().peaks == ServiceReading()


@pytest.mark.parametrize(("seconds", "width"), [(8, 1.0), (9, 2.0), (16, 2.0), (17, 4.0), (100, 16.0)])
def test_long_runs_have_coarser_slices(seconds: int, width: float) -> None:
    figures = make(seconds, most_slices=8)
    for second in range(seconds):
        serve(figures, float(second), answer(float(second), 0.1))
        figures.observe_service(float(second), ServiceReading(queue_depth=second, cpu_percent=float(second)))
    slices = figures.slices()
    assert figures.slice_seconds == width
    assert len(slices) <= 8
    assert [each.at for each in slices] == [place * width for place in range(len(slices))]
    assert sum(each.intended for each in slices) == seconds
    assert sum(each.called_back for each in slices) == seconds
    assert all(each.e2e_p99 == about(0.1) for each in slices)
    first = min(width, seconds)
    assert (slices[0].queue_depth, slices[0].service_cpu_percent) == (first - 1, (first - 1) / 2)


def test_the_warm_up_never_becomes_one_with_the_active_phase() -> None:
    figures = make(100.0, most_slices=2)
    for second in range(-20, 100):
        figures.intended(float(second))
    assert [(each.at, each.intended) for each in figures.slices()] == [(-128.0, 20), (0.0, 100)]
    with pytest.raises(ValueError, match="at least 2"):
        make(most_slices=1)


moments = st.tuples(st.floats(-30, 60), st.floats(0.0, 8.0), st.booleans())


@given(st.lists(moments, max_size=60), st.integers(0, 10_000), st.integers(2, 40))
def test_slices_do_not_depend_on_the_order_of_events(
    requests: list[tuple[float, float, bool]], seed: int, most: int
) -> None:
    in_order, shuffled = make(60.0, most_slices=most), make(60.0, most_slices=most)
    shuffle = sorted(range(len(requests)), key=lambda place: hash((seed, place)))
    for figures, order in ((in_order, range(len(requests))), (shuffled, shuffle)):
        for place in order:
            intended_at, e2e, success = requests[place]
            serve(figures, intended_at, answer(intended_at, e2e, success=success))
    assert shuffled.slices() == in_order.slices()
    assert shuffled.latency() == in_order.latency()


def test_slices_are_packed_when_they_are_over_and_still_take_late_events() -> None:
    figures = make(100.0)
    for second in range(100):
        serve(figures, float(second), answer(float(second), 0.2))
    assert sum(bool(tally._histograms) for _, tally in figures._slices) <= 18
    serve(figures, 3.0, answer(3.0, 0.9))
    third = figures.slices()[3]
    assert (third.intended, third.called_back, third.e2e_p50) == (2, 2, about(0.2))
    assert third.e2e_p99 == about(0.9)


def read(figures: Figures, text: str) -> float | None:
    threshold = parse_threshold(text)
    return figures.read(threshold.metric, threshold.aggregate)


def follow(figures: Figures, text: str) -> Sequence[tuple[float, float]]:
    threshold = parse_threshold(text)
    return figures.series(threshold.metric, threshold.aggregate)


def test_every_metric_of_latency_can_be_read_in_every_way() -> None:
    figures = make(10.0)
    for number in range(100):
        serve(figures, number / 10, answer(number / 10, (number + 1) / 10))
    expected = {"p50": 5.0, "p90": 9.0, "p99": 9.9, "p999": 10.0, "max": 10.0, "mean": 5.05}
    for aggregate, seconds in expected.items():
        assert read(figures, f"e2e:{aggregate} < 1s") == about(seconds)
    assert read(figures, "e2e:rate > 1/s") == 10.0
    assert read(figures, "rate.accepted > 1/s") == 10.0
    assert (read(figures, "goodput > 1%"), read(figures, "error_rate < 1%")) == (1.0, 0.0)
    with pytest.raises(ValueError, match="cannot be summarized as None"):
        figures.read("e2e", None)


def test_depths_are_those_since_the_active_phase_began() -> None:
    """Percentiles are of the seconds' peaks, the mean is of all readings."""
    figures = make(10.0)
    figures.observe_service(-1.0, ServiceReading(queue_depth=1000, outbox_depth=1000))
    for second in range(10):
        figures.observe_service(second + 0.2, ServiceReading(queue_depth=second, outbox_depth=0))
        figures.observe_service(second + 0.7, ServiceReading(queue_depth=second + 10, outbox_depth=7))
    assert read(figures, "queue.depth < 1") == 19
    assert read(figures, "queue.depth:p50 < 1") == 14
    assert read(figures, "queue.depth:p90 < 1") == 18
    assert read(figures, "queue.depth:mean < 1") == pytest.approx(9.5)
    assert read(figures, "outbox.depth < 1") == 7
    assert follow(figures, "queue.depth < 1")[:2] == [(0.0, 10), (1.0, 11)]
    assert follow(figures, "queue.depth:mean < 1")[:2] == [(0.0, 5.0), (1.0, 6.0)]


OF_FIGURES = [name for name in METRICS if not name.startswith(("ledger.", "rate."))]


@pytest.mark.parametrize("metric", OF_FIGURES)
def test_what_was_not_measured_has_no_value(metric: str) -> None:
    value = "1s" if metric in LATENCIES or metric == "cpu_per_request" else "1"
    text = f"{metric} < {value} for 1s"
    figures = make(10.0, text)
    figures.intended(-1.0)
    assert read(figures, text) is None
    assert follow(figures, text) == []


def test_latencies_are_followed_from_the_active_phase_on() -> None:
    """Seconds without an answer are left out; the time after the active phase is not."""
    figures = make(3.0)
    serve(figures, -2.0, answer(-2.0, 1.5))
    serve(figures, 0.5, answer(0.5, 1.0))
    serve(figures, 0.6, answer(0.6, 5.0))
    series = follow(figures, "e2e < 1s for 1s")
    assert [at for at, _ in series] == [1.0, 5.0]
    assert [value for _, value in series] == [about(1.0), about(5.0)]


def test_a_latency_that_a_lasting_threshold_is_about_is_sliced() -> None:
    watching, other = make(10.0, "publish:max < 1s for 2s"), make(10.0, "publish:max < 1s")
    for figures in (watching, other):
        serve(figures, 1.0, answer(1.0, publish=0.25))
    assert follow(watching, "publish:max < 1s for 2s") == [(2.0, 0.25)]
    with pytest.raises(ValueError, match="hold no publish"):
        follow(other, "publish:max < 1s")


def test_rates_are_followed_within_the_active_phase() -> None:
    figures = make(3.5, "e2e:rate > 1/s for 1s")
    for intended_at in (-0.5, 0.1, 0.2, 2.0, 3.0, 3.1, 3.4):
        serve(figures, intended_at, answer(intended_at, 0.3))
    figures.rejected(3.4, 9.0)
    assert follow(figures, "rate.accepted > 1/s") == [(0.0, 2.0), (1.0, 0.0), (2.0, 1.0), (3.0, 6.0)]
    assert follow(figures, "e2e:rate > 1/s") == [(0.0, 2.0), (1.0, 0.0), (2.0, 1.0), (3.0, 6.0)]


def test_shares_and_cpu_are_followed_by_what_ended() -> None:
    """A slow answer counts in the second in which it came."""
    figures = make(10.0, "e2e:max < 1s", "publish:max < 1s")
    serve(figures, 0.1, answer(0.1, 0.5, publish=0.1))
    serve(figures, 0.1, answer(0.1, 1.5, publish=0.1))
    serve(figures, 0.1, answer(0.1, 1.5, publish=0.1, success=False))
    serve(figures, 0.1, answer(0.1, 0.5))
    figures.rejected(0.1, 0.2)
    assert follow(figures, "error_rate < 1%") == [(0.0, pytest.approx(1 / 3)), (1.0, 0.5)]
    assert follow(figures, "goodput > 1%") == [(0.0, 0.5), (1.0, 0.0)]
    # A fifth of a core for a second, shared by the two requests that ended in it.
    figures.observe_service(1.5, ServiceReading(cpu_percent=20.0))
    figures.observe_service(2.5, ServiceReading(cpu_percent=20.0))
    assert follow(figures, "cpu_per_request < 1ms") == [(1.0, pytest.approx(0.1))]


def test_thresholds_are_judged_by_figures() -> None:
    """A stall of three seconds breaks a threshold for two seconds, not one for four."""
    lasting = ("e2e:p99 < 1s for 2s", "e2e:p99 < 1s for 4s", "e2e:p50 < 1s")
    figures = make(10.0, *lasting)
    for second in range(10):
        serve(figures, float(second), answer(float(second), 3.0 - 0.001 * second if second == 5 else 0.2))
        if second in (6, 7):
            serve(figures, second - 2.5, answer(second - 2.5, 2.9))
    source: MetricSource = figures
    met = [parse_threshold(text).evaluate(source).met for text in lasting]
    assert met == [False, True, True]


def test_memory_does_not_grow_with_the_run() -> None:
    def weigh(seconds: int, each: int) -> int:
        figures = make(seconds, most_slices=32)
        for second in range(seconds):
            for number in range(each):
                moment = second + number / each
                serve(figures, moment, answer(moment, 0.1 + 0.1 * number / each))
        return len(pickle.dumps(figures))

    assert weigh(320, 50) < 2.5 * weigh(32, 50)
    assert weigh(32, 500) < 2.5 * weigh(32, 50)
