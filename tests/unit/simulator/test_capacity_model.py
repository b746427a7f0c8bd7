"""The model of capacity agrees with queueing theory where theory has an answer, and with itself elsewhere."""

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from math import factorial, isinf, log
from random import Random
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.capacity.figures import BATCHES, find_percentile, summarize
from simulator.capacity.model import (
    Call,
    Provider,
    Resource,
    Service,
    System,
    find_ceilings,
    find_demand,
    longest_rest,
)
from simulator.capacity.prediction import predict_rate, predict_shape
from simulator.capacity.scenarios import find_left_out, read_provider
from simulator.capacity.simulation import Simulation, Trace
from simulator.load.arrivals import iterate_arrivals
from simulator.load.shape import Shape, parse_shape
from simulator.load.stages import POISSON, Level
from simulator.provider.distributions import Constant, Distribution, Gamma, read_distribution
from simulator.provider.scenario import find_scenario, read_scenario

REQUESTS = 20_000
SEED = 3


def exponential(mean: float) -> Distribution:
    """Of no memory: a gamma distribution whose deviation is its mean."""
    return Gamma(mean, 1.0)


def find_erlang_c(servers: int, load: float) -> float:
    """The chance that a request has to wait in M/M/c, for a load of arrival rate times mean service time.

    Erlang's C formula: Erlang 1917; Kleinrock, "Queueing Systems", volume 1, 1975, section 3.5.
    """
    busy = load**servers / factorial(servers) * servers / (servers - load)
    return busy / (sum(load**k / factorial(k) for k in range(servers)) + busy)


def simulate(system: System, rate: float, requests: int = REQUESTS, seed: int = SEED) -> Trace:
    """A steady rate of independent arrivals, after some more to warm up."""
    warm_up = requests // 5
    shape = Shape((Level(rate, (warm_up + requests) / rate, POISSON),))
    return Simulation(system, seed).run(chain.from_iterable(iterate_arrivals(shape, seed)), warm_up, requests)


SERVERS = 4
FOUR_SERVERS = System(Provider(exponential(1.0)), Service(concurrency=SERVERS))


def test_calls_wait_as_in_m_m_c() -> None:
    """Chance, mean and 99th percentile of the wait are Erlang's, in 120,000 requests.

    Whoever waits does so for an exponential time of mean 1 / (c * mu - lambda) (Kleinrock, section 3.5).
    """
    rate = 0.7 * SERVERS
    chance = find_erlang_c(SERVERS, rate)
    waits = sorted(
        chain.from_iterable(simulate(FOUR_SERVERS, rate, 40_000, seed).queue_wait for seed in range(3))
    )
    assert fmean(wait > 0 for wait in waits) == pytest.approx(chance, rel=0.025)
    assert fmean(waits) == pytest.approx(chance / (SERVERS - rate), rel=0.05)
    assert find_percentile(waits, 0.99) == pytest.approx(log(chance / 0.01) / (SERVERS - rate), rel=0.05)


@pytest.mark.parametrize("service", [Service(), Service(replicas=3), Service(replicas=2, partitions=4)])
def test_it_does_not_matter_who_limits_the_calls(service: Service) -> None:
    system = System(Provider(exponential(1.0), concurrency=SERVERS), service)
    waits = simulate(system, 0.7 * SERVERS, 5000).queue_wait
    assert waits == simulate(FOUR_SERVERS, 0.7 * SERVERS, 5000).queue_wait


@pytest.mark.parametrize(
    ("latency", "squared_cv"),
    [(Constant(1.0), 0.0), (exponential(1.0), 1.0), (Gamma(1.0, 0.5), 0.25), (Gamma(1.0, 2.0), 4.0)],
    ids=["M/D/1", "M/M/1", "M/G/1, even", "M/G/1, uneven"],
)
def test_one_slot_waits_as_pollaczek_and_khinchine_say(latency: Distribution, squared_cv: float) -> None:
    """The mean wait of M/G/1 is rho * s * (1 + cv²) / (2 * (1 - rho)).

    Pollaczek 1930 and Khinchine 1932; Kleinrock, section 5.6. M/D/1 is its case of cv = 0.
    """
    rate = 0.6
    waits = simulate(System(Provider(latency), Service(concurrency=1)), rate, 80_000).queue_wait
    assert fmean(waits) == pytest.approx(rate * (1 + squared_cv) / (2 * (1 - rate)), rel=0.05)


def test_where_nothing_is_full_nobody_waits() -> None:
    trace = simulate(System(Provider(read_distribution("p50=800ms p99=6s", None))), 50.0)
    ordered = sorted(trace.end_to_end)
    assert max(trace.queue_wait) == max(trace.accept) == trace.peak_waiting == 0
    assert find_percentile(ordered, 0.5) == pytest.approx(0.8, rel=0.02)
    assert find_percentile(ordered, 0.99) == pytest.approx(6.0, rel=0.03)


BUSY = System(
    Provider(Gamma(0.5, 1.5), concurrency=12, requests_per_minute=1800, spoilt=0.1, refused=0.05),
    Service(replicas=2, partitions=5, concurrency=12, cpu_seconds=0.01),
    Call(100, 10),
)


def test_the_queue_is_as_deep_as_little_says() -> None:
    """Mean depth = rate * mean time in the queue; mean calls under way = rate * mean time in calls.

    Little, "A Proof for the Queuing Formula: L = λW", Operations Research 9(3), 1961. Depth and times are
    counted apart: one is an integral over time, the other a sum over requests.
    """
    rate = 22.0
    trace = simulate(replace(BUSY, provider=replace(BUSY.provider, spoilt=0.0, refused=0.0)), rate, 30_000)
    assert fmean(trace.queue_wait) > 0.01
    assert trace.use.waiting == pytest.approx(rate * fmean(trace.queue_wait), rel=0.03)
    assert trace.use.provider_calls == pytest.approx(rate * fmean(trace.provider), rel=0.02)


@pytest.mark.parametrize(
    ("limit", "per_second"),
    [
        ({"requests_per_minute": 600.0}, 10.0),
        ({"tokens_per_minute": 60_000.0}, 5.0),
        ({"requests_per_minute": 600.0, "tokens_per_minute": 60_000.0}, 5.0),
    ],
    ids=["requests", "tokens", "both"],
)
def test_a_limit_by_the_minute_is_kept_and_used_up(limit: dict[str, float], per_second: float) -> None:
    """Asked for twice as much, in the long run exactly the limit is called, of 200 tokens each."""
    system = System(Provider(Constant(0.1), **limit), call=Call(150, 50))
    assert simulate(system, 2 * per_second, 4000).use.calls_per_second == pytest.approx(per_second, rel=1e-3)


def test_a_burst_passes_a_limit_by_what_had_been_saved() -> None:
    """Of 500 at once 20 go at once, and the rest at 10 a second: done after 48 s and the call itself."""
    system = System(Provider(Constant(1.0), requests_per_minute=600, burst_requests=20))
    prediction = predict_shape(system, parse_shape("burst 500"), 500, SEED)
    assert prediction.queue.peak_depth == 480
    assert prediction.queue.drain_seconds == pytest.approx(49.0)
    assert prediction.latency.queue_wait.max == pytest.approx(48.0)
    assert (prediction.rate, prediction.day, prediction.queue.mean_depth) == (None, None, None)
    assert {each.utilisation for each in prediction.resources} == {None}


def test_a_limit_beyond_what_a_clock_can_tell_does_not_stop_the_run() -> None:
    system = System(Provider(Constant(0.0), requests_per_minute=6e13, burst_requests=1))
    arrivals = [1e6] * 3000
    trace = Simulation(system, SEED).run(arrivals, 0, len(arrivals))
    assert 0 < trace.drain_seconds < 1e-3


GAMMA = Gamma(0.5, 0.5)
SYSTEMS = {
    Resource.SERVICE_CALLS: System(Provider(GAMMA), Service(replicas=2, concurrency=20)),
    Resource.SERVICE_CPU: System(Provider(GAMMA, spoilt=0.1), Service(replicas=3, cpu_seconds=0.02)),
    Resource.PROVIDER_CALLS: System(
        Provider(GAMMA, concurrency=20, slowdown_when_full=1.5), Service(replicas=2)
    ),
    Resource.PROVIDER_REQUESTS: System(Provider(GAMMA, requests_per_minute=1200, spoilt=0.1, refused=0.2)),
    Resource.PROVIDER_TOKENS: System(Provider(Constant(0.5), tokens_per_minute=90_000), call=Call(70, 5)),
}
UNEVEN = System(Provider(GAMMA), Service(replicas=2, partitions=3, concurrency=20))
IDLE = System(Provider(GAMMA), Service(replicas=4, partitions=2, concurrency=20))


@pytest.mark.parametrize(
    ("bottleneck", "system"),
    [
        *SYSTEMS.items(),
        (Resource.SERVICE_CALLS, UNEVEN),
        (Resource.SERVICE_CALLS, IDLE),
        (Resource.SERVICE_CPU, replace(UNEVEN, service=replace(UNEVEN.service, cpu_seconds=0.05))),
    ],
    ids=[*SYSTEMS, "uneven partitions", "too few partitions", "uneven partitions, CPU"],
)
def test_the_largest_rate_is_where_the_queue_begins_to_grow(bottleneck: Resource, system: System) -> None:
    ceiling = find_ceilings(system, find_demand(system))[0]
    assert ceiling.resource is bottleneck
    below = predict_rate(system, 0.93 * ceiling.largest_rate, 5000, SEED)
    beyond = predict_rate(system, 1.15 * ceiling.largest_rate, 5000, SEED)
    assert (below.bottleneck, beyond.bottleneck) == (bottleneck, bottleneck)
    assert (below.stable, below.growth_per_second) == (True, 0.0)
    assert not beyond.stable
    assert beyond.resources[0].utilisation == pytest.approx(1.0, abs=0.02)
    assert below.latency.end_to_end.p99 < beyond.latency.end_to_end.p99 / 2


def test_what_waits_grows_by_what_is_too_much() -> None:
    """At 50 a second against 20 the queue is 30 deeper each second, and needs its length / 20 to drain."""
    system = System(Provider(Constant(0.2), concurrency=4))
    prediction = predict_rate(system, 50.0, 5000, SEED)
    trace = simulate(system, 50.0, 5000)
    assert prediction.growth_per_second == pytest.approx(30.0)
    assert trace.use.growth / trace.use.seconds == pytest.approx(30.0, rel=0.03)
    assert trace.drain_seconds == pytest.approx(trace.peak_waiting / 20, rel=0.03)
    assert prediction.latency.queue_wait.mean_margin is None
    assert prediction.day is not None
    assert prediction.day.requests == pytest.approx(20 * 86_400)


def test_a_queue_that_grows_against_the_formula_is_recognised_all_the_same() -> None:
    """With one slot and one request saved up at most, a rate that both could carry is too much for both."""
    system = System(Provider(exponential(1.0), concurrency=1, requests_per_minute=60, burst_requests=1))
    prediction = predict_rate(system, 0.9, 20_000, SEED)
    assert prediction.largest_rate > 0.9
    assert not prediction.stable
    assert prediction.growth_per_second > 0.1


def test_use_is_rate_times_need() -> None:
    rate, demand = 20.0, find_demand(BUSY)
    prediction = predict_rate(BUSY, rate, 15_000, SEED)
    used = {each.name: each.utilisation for each in prediction.resources}
    calls = rate * demand.attempts
    assert used[Resource.PROVIDER_CALLS] == pytest.approx(calls * demand.call_seconds / 12, rel=0.04)
    assert used[Resource.PROVIDER_REQUESTS] == pytest.approx(calls / 30, rel=0.02)
    assert used[Resource.SERVICE_CPU] == pytest.approx(rate * 0.005 / 2 + 0.6 * calls * 0.005, rel=0.03)
    # Answers hold their place until the core has worked on them, so this is a little more.
    bare = 0.6 * calls * (demand.call_seconds + 0.005) / 12
    assert bare * 0.97 < used[Resource.SERVICE_CALLS] < bare * 1.08
    assert [each.largest_rate for each in prediction.resources] == sorted(
        each.largest_rate or 0.0 for each in prediction.resources
    )


def test_failed_calls_are_made_again_up_to_the_last_attempt() -> None:
    """Of four calls in ten failing, 0.4³ of the requests are lost after three; 1 + 0.4 + 0.4² calls each."""
    system = System(
        Provider(Constant(0.1), spoilt=0.3, refused=0.1), Service(max_attempts=3), Call(10, 10, 0.5)
    )
    rate = 100.0
    trace, prediction = simulate(system, rate), predict_rate(system, rate, 2000, SEED)
    assert trace.use.calls_per_second == pytest.approx(rate * 1.56, rel=0.01)
    assert trace.lost / REQUESTS == pytest.approx(0.064, rel=0.06)
    day = prediction.day
    assert day is not None
    assert (day.requests, day.calls) == (pytest.approx(8_640_000), pytest.approx(8_640_000 * 1.56))
    assert day.failed_requests == pytest.approx(8_640_000 * 0.064)
    billed = 8_640_000 * 1.56 * 0.9
    assert (day.usd, day.tokens) == (pytest.approx(billed * 0.5), pytest.approx(billed * 20))


def test_calls_that_are_refused_take_no_time() -> None:
    """Only what is not refused is under way, and a request's calls take as long as those that were not."""
    system = System(Provider(Constant(1.0), refused=0.5))
    trace = simulate(system, 40.0)
    assert trace.use.provider_calls == pytest.approx(40.0 * find_demand(system).billed, rel=0.02)
    assert set(trace.provider) == {0.0, 1.0}


def test_a_retry_goes_before_all_that_waits() -> None:
    """In a long queue no retry waits for its turn again: it takes rest and call, as with no queue at all."""
    system = System(Provider(Constant(0.1), concurrency=1, spoilt=0.2), Service(max_attempts=2))
    trace = Simulation(system, SEED).run([0.0] * 2000, 0, 2000)
    longest = max(end - wait for end, wait in zip(trace.end_to_end, trace.queue_wait, strict=True))
    assert max(trace.queue_wait) > 200
    assert 0.2 < longest < 0.2 + longest_rest(1) + 5 * 0.1


def test_rests_count_into_the_end_to_end_time_alone() -> None:
    """A request of two attempts rests 0.25 s on average, and takes that much longer than its calls."""
    trace = simulate(System(Provider(Constant(0.1), spoilt=0.2), Service(max_attempts=2)), 50.0, 20_000)
    pairs = zip(trace.end_to_end, trace.provider, strict=True)
    rested = [end - calls for end, calls in pairs if calls > 0.15]
    assert len(rested) == pytest.approx(4000, rel=0.05)
    assert 1 < trace.peak_waiting < 20
    assert fmean(rested) == pytest.approx(0.25, rel=0.03)
    assert max(rested) <= 0.5
    # One whose only two calls fail is alone in the queue between them, and lost after them.
    alone = Simulation(System(Provider(Constant(0.1), spoilt=1.0), Service(max_attempts=2)), SEED)
    trace = alone.run([0.0], 0, 1)
    assert (trace.peak_waiting, trace.lost, list(trace.provider)) == (1, 1, [0.2])
    assert [longest_rest(tried) for tried in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_core_works_first_come_first_served() -> None:
    """Of three at once, with a second of CPU each, half of it before the call: accepted after 0.5, 1, 1.5 s.

    The call takes no time; the answers come behind what is still to be accepted.
    """
    system = System(Provider(Constant(0.0)), Service(cpu_seconds=1.0))
    trace = Simulation(system, SEED).run([0.0, 0.0, 0.0], 0, 3)
    assert list(trace.accept) == [0.5, 1.0, 1.5]
    assert list(trace.end_to_end) == [2.0, 2.5, 3.0]
    assert list(trace.queue_wait) == [0.0, 0.0, 0.0]


def test_a_full_provider_is_slower_and_serves_the_oldest_first() -> None:
    """With all slots in use a call takes so much longer, with half of them half of it."""
    full = System(Provider(Constant(1.0), concurrency=4, slowdown_when_full=3.0))
    assert list(Simulation(full, SEED).run([0.0] * 4, 0, 4).provider) == [1.5, 2.0, 2.5, 3.0]
    shared = System(Provider(Constant(1.0), concurrency=1), Service(replicas=3))
    trace = Simulation(shared, SEED).run([0.0, 0.1, 0.2, 0.3, 0.4], 0, 5)
    assert list(trace.queue_wait) == pytest.approx([0.0, 0.9, 1.8, 2.7, 3.6])


def test_partitions_decide_who_works() -> None:
    assert (IDLE.service.working_replicas, IDLE.service.busiest_share) == (2, 0.5)
    assert UNEVEN.service.busiest_share == pytest.approx(2 / 3)
    assert simulate(UNEVEN, 30.0, 20_000).use.service_calls == pytest.approx(30 * 2 / 3 * 0.5, rel=0.03)
    notes = predict_rate(IDLE, 10.0, 2000, SEED).notes
    assert notes == ("2 of 4 replicas have no work, for want of partitions.",)
    assert "67% of the requests" in predict_rate(UNEVEN, 10.0, 2000, SEED).notes[0]
    # All replicas accept: of four cores two have a quarter of the acceptances and half of the answers each.
    system = replace(IDLE, service=replace(IDLE.service, cpu_seconds=1.0))
    cpu = find_ceilings(system, find_demand(system))[0]
    assert (cpu.resource, cpu.limit) == (Resource.SERVICE_CPU, 4)
    assert cpu.largest_rate == pytest.approx(1 / (0.5 / 4 + 0.5 / 2))
    # Resources nobody needs carry any rate and come last.
    assert isinf(find_ceilings(UNEVEN, find_demand(UNEVEN))[-1].largest_rate)
    last = predict_rate(UNEVEN, 1.0, 2000, SEED).resources[-1]
    assert (last.name, last.largest_rate) == (Resource.SERVICE_CPU, None)


def test_it_is_warm_before_it_is_measured() -> None:
    """Calls of a minute at 50 a second: 3,000 are under way, from the first measured moment on."""
    prediction = predict_rate(System(Provider(Constant(60.0), concurrency=4000)), 50.0, 5000, SEED)
    calls = next(each for each in prediction.resources if each.name is Resource.SERVICE_CALLS)
    assert calls.largest_rate == pytest.approx(1000 / 60)
    assert prediction.run.warm_up_requests >= 5 * 1000
    calm = predict_rate(System(Provider(Constant(60.0)), Service(replicas=5)), 50.0, 5000, SEED)
    assert calm.run.warm_up_requests == pytest.approx(5 * 3000, rel=0.01)
    assert calm.resources[0].utilisation == pytest.approx(0.6, rel=0.03)


def test_the_margins_hold_what_they_promise() -> None:
    """Of 20 runs of M/M/1 at half load, nearly all have the true mean wait of 1 s within the margin."""
    system = System(Provider(exponential(1.0)), Service(concurrency=1))
    hits = 0
    for seed in range(20):
        figures = summarize(simulate(system, 0.5, 5000, seed).queue_wait, steady=True)
        assert figures.mean_margin is not None
        assert 0.01 < figures.mean_margin < 0.3
        hits += abs(figures.mean - 1.0) < figures.mean_margin
    assert hits >= 16


def test_figures_are_those_of_the_values() -> None:
    """Nearest ranks; margins only of what is steady, and of all values, those after the last batch too."""
    values = [float(value) for value in range(1, 1001)]
    Random(1).shuffle(values)
    figures = summarize([*values, 5000.0], steady=True)
    assert (figures.p50, figures.p90, figures.p99, figures.p999, figures.max) == (501, 901, 991, 1000, 5000)
    assert figures.mean == pytest.approx((1000 * 500.5 + 5000) / 1001)
    assert figures.mean_margin is not None
    assert figures.p99_margin is not None
    once = summarize(values, steady=False)
    assert (once.p50, once.p99, once.max) == (500, 990, 1000)
    assert (once.mean_margin, once.p99_margin) == (None, None)
    flat = summarize([1.0] * BATCHES, steady=True)
    assert (flat.mean_margin, flat.p99_margin) == (0.0, 0.0)


def test_the_same_seed_is_the_same_prediction() -> None:
    first, again, other = (predict_rate(BUSY, 20.0, 3000, seed) for seed in (1, 1, 2))
    assert first == again
    assert first.latency != other.latency


ANY_SYSTEM = st.builds(
    System,
    st.builds(
        Provider,
        st.just(Gamma(0.2, 1.0)),
        concurrency=st.none() | st.integers(1, 8),
        requests_per_minute=st.none() | st.integers(60, 6000),
        refused=st.floats(0, 0.4),
        spoilt=st.floats(0, 0.4),
    ),
    st.builds(
        Service, st.integers(1, 3), st.none() | st.integers(1, 5), st.integers(1, 8), st.floats(0, 0.02)
    ),
)


@settings(max_examples=25)
@given(system=ANY_SYSTEM, seed=st.integers(0, 100))
def test_every_request_ends_and_no_limit_is_passed(system: System, seed: int) -> None:
    trace = simulate(system, 20.0, 300, seed)
    cpu = system.service.cpu_seconds
    assert 0 <= trace.lost <= 300
    times = zip(trace.accept, trace.queue_wait, trace.provider, trace.end_to_end, strict=True)
    for accept, wait, calls, end in times:
        assert accept >= cpu / 2 - 1e-9
        assert min(wait, calls) >= 0
        assert end >= accept + wait + calls + cpu / 2 - 1e-6
    use, concurrency = trace.use, system.service.concurrency
    slots, rpm = system.provider.concurrency, system.provider.requests_per_minute
    assert use.provider_calls <= min(slots or 1e9, concurrency * system.service.replicas) + 1e-9
    assert use.service_calls <= concurrency + 1e-9
    assert use.service_cpu <= 1 + 1e-9
    if rpm is not None:
        assert use.calls_per_second * use.seconds <= rpm / 60 * use.seconds + max(1.0, rpm / 60) + 1


CROWD = System(Provider(Constant(3600.0)), Service(replicas=1000, concurrency=10_000))


@pytest.mark.parametrize(
    ("predict", "words"),
    [
        (lambda: predict_rate(System(Provider(Constant(0.0))), 1.0, 2000, 0), "Nothing limits"),
        (lambda: predict_rate(CROWD, 1e5, 2000, 0), "under way at once"),
        (lambda: predict_shape(BUSY, parse_shape("10/s 10m"), 5999, 0), "comes to 6,000 requests"),
        (lambda: predict_shape(BUSY, parse_shape("closed callers=3 1m"), 100, 0), "closed loop"),
    ],
    ids=["no limit", "too many", "too long", "closed"],
)
def test_what_cannot_be_simulated_is_said_in_a_sentence(predict: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        predict()
    assert str(caught.value).endswith(".")


def test_a_shape_is_lived_through_once() -> None:
    system = System(Provider(Constant(0.5), concurrency=10))
    prediction = predict_shape(system, parse_shape("10/s 10s; 50/s 10s; 2/s 40s"), 1000, SEED)
    run = prediction.run
    assert (run.steady, run.seed, run.warm_up_requests, run.requests) == (False, SEED, 0, 680)
    assert run.seconds == pytest.approx(59.5)
    assert (prediction.rate, prediction.stable) == (pytest.approx(680 / 60), True)
    assert prediction.queue.peak_depth == pytest.approx(300, abs=10)
    assert predict_shape(system, parse_shape("21/s 30s"), 1000, SEED).stable is False
    assert prediction.latency.end_to_end.p99_margin is None


def test_what_the_model_leaves_out_is_noted() -> None:
    failing = System(Provider(Constant(0.1), spoilt=0.35))
    assert "circuit" in predict_rate(failing, 10.0, 2000, SEED).notes[0]
    burst = predict_shape(
        System(Provider(Constant(0.1), concurrency=1)), parse_shape("burst 10002"), 20_000, 0
    )
    assert "503" in burst.notes[0]
    assert predict_rate(BUSY, 1.0, 2000, SEED).notes[1:] == ()


def test_a_provider_is_read_from_a_scenario() -> None:
    """Slots, limits and faults of `chaos`; what fails before any work costs nothing, the rest is billed."""
    provider = read_provider(find_scenario("chaos"), Call())
    assert (provider.concurrency, provider.slowdown_when_full) == (100, 2.0)
    assert (provider.requests_per_minute, provider.burst_requests) == (6000, 200)
    assert provider.tokens_per_minute is None
    assert provider.refused == pytest.approx(0.07)
    assert provider.spoilt == pytest.approx(0.05)
    assert list(find_left_out(find_scenario("chaos"))) == [
        "The scenario's timeline is left out: what holds at its beginning is taken to hold for ever.",
        "Calls that hang or drip in the scenario are taken to be like all others.",
    ]
    assert list(find_left_out(find_scenario("flaky"))) == []


def test_a_scenario_counts_tokens_and_its_own_time() -> None:
    text = """
    time_scale = 0.5
    outage = "http_503"
    retries = { fail_first = 1 }
    latency = { response = "100ms", per_prompt_token = "1ms", per_completion_token = "10ms" }
    limits = { rpm = 600, tpm = 60000 }
    """
    scenario = read_scenario(text, "mine", "mine.toml")
    provider = read_provider(scenario, Call(200, 30))
    assert provider.latency.sample(Random(0)) == pytest.approx((0.1 + 0.2 + 0.3) / 2)
    assert (provider.requests_per_minute, provider.tokens_per_minute) == (1200, 120_000)
    assert [sentence.split()[2] for sentence in find_left_out(scenario)] == ["outage", "retries.fail_first"]
    assert provider.latency.scale(2.0).sample(Random(0)) == pytest.approx(0.6)
