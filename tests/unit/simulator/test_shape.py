"""A load shape is read from one line, says the same again, and refuses what it does not understand."""

import math
import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from simulator.load.shape import Shape, from_rate, parse_shape, rate_at
from simulator.load.stages import Burst, Closed, Level, OnOff, Ramp, Sine, Trace


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        ("constant 200/s 30s", Level(200.0, 30.0, 0.0)),
        ("200/s 30s", Level(200.0, 30.0, 0.0)),
        ("30s 200/s", Level(200.0, 30.0, 0.0)),
        ("poisson 2m 50/s", Level(50.0, 120.0, 1.0)),
        ("gamma 200/s cv=2 3m", Level(200.0, 180.0, 2.0)),
        ("gamma 3m 200/s cv=0.5", Level(200.0, 180.0, 0.5)),
        ("ramp 50/s→200/s 1m", Ramp(50.0, 200.0, 60.0)),
        ("ramp 1m 50/s->200/s linear", Ramp(50.0, 200.0, 60.0)),
        ("ramp 50/s -> 0/s 1m", Ramp(50.0, 0.0, 60.0)),
        ("ramp exponential 50/s → 3000/m 1m", Ramp(50.0, 50.0, 60.0, exponential=True)),
        ("ramp 0/s→200/s 1m poisson", Ramp(0.0, 200.0, 60.0, cv=1.0)),
        ("burst 500 every 30s 2m", Burst(500, 30.0, 120.0)),
        ("burst 2m every 30s 500", Burst(500, 30.0, 120.0)),
        ("burst 500", Burst(500, None, 0.0)),
        ("burst 500 10s", Burst(500, None, 10.0)),
        ("onoff 400/s:5s 0/s:10s 2m", OnOff(((400.0, 5.0), (0.0, 10.0)), 120.0)),
        ("onoff poisson 2m 0/s:1s 4/s:5s 9/m:1m", OnOff(((0, 1.0), (4.0, 5.0), (0.15, 60.0)), 120.0, 1.0)),
        ("sine mean=100/s amp=60/s period=5m 10m", Sine(100.0, 60.0, 300.0, 600.0)),
        ("sine poisson 10m period=5m amp=60/s mean=100/s", Sine(100.0, 60.0, 300.0, 600.0, 1.0)),
        ("trace out/requests.jsonl.gz speed=10", Trace("out/requests.jsonl.gz", 10.0)),
        ('trace speed=0.5 "my; traces/a=1.jsonl"', Trace("my; traces/a=1.jsonl", 0.5)),
        ("trace burst", Trace("burst")),
        ("closed callers=20 outstanding=4 3m", Closed(20, 4, 180.0)),
        ("closed 3m callers=20", Closed(20, 1, 180.0)),
    ],
)
def test_a_stage_is_read_as_it_is_written(text: str, stage: object) -> None:
    assert parse_shape(text).stages == (stage,)


def test_stages_follow_one_another() -> None:
    shape = parse_shape("poisson 50/s 2m; ramp 50/s→200/s 1m ;burst 500 10s;")
    assert [type(stage) for stage in shape.stages] == [Level, Ramp, Burst]
    assert shape.seconds == 190.0
    assert shape.count == 6000 + 7500 + 500
    assert not shape.is_closed


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("constant 1000/m 30s", 500), ("poisson 0.4/s 4s", 2), ("gamma 7/s cv=3 1.3s", 9),
        ("ramp 0/s→200/s 1m", 6000), ("ramp 100/s→400/s 1m exponential", round(300 * 60 / math.log(4))),
        ("ramp 100/s→100/s 1m exponential", 6000), ("burst 500 every 30s 2m", 2000),
        ("burst 500 every 30s 2.1m", 2500), ("burst 500 every 0.1s 0.3s", 1500),
        ("burst 500 every 0.7s 2.1s", 1500), ("burst 5 every 3m 2m", 5),
        ("onoff 400/s:5s 0/s:10s 22s", 4000), ("onoff 0/s:10s 400/s:5s 27s", 2800),
        ("sine mean=100/s amp=60/s period=5m 10m", 60_000),
        ("sine mean=100/s amp=100/s period=8s 4s", round(400 + 800 / math.pi)),
    ],
)  # fmt: skip
def test_a_stage_comes_to_the_integral_of_its_rate(text: str, count: int) -> None:
    assert parse_shape(text).count == count


def test_a_closed_loop_has_time_but_no_count_and_an_unread_trace_has_neither() -> None:
    shape = parse_shape("closed callers=2 1m; closed callers=20 outstanding=4 3m")
    assert (shape.is_closed, shape.count, shape.seconds) == (True, None, 240.0)
    with pytest.raises(ValueError, match="closed loop, which has no rate"):
        rate_at(shape, 0.0)
    unread = parse_shape("trace a.jsonl")
    with pytest.raises(ValueError, match=re.escape("the trace a.jsonl has not been read yet; read_traces")):
        _ = unread.seconds
    with pytest.raises(ValueError, match="read_traces"):
        _ = unread.count


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "stage 1 is empty; write for example 'poisson 50/s 2m'"),
        ("poisson 50/s 2m;;burst 5", "stage 2 is empty"),
        (
            "200/s 1s; rmap 5/s→9/s 1m",
            "stage 2 (rmap 5/s→9/s 1m): 'rmap' is no kind of stage; did you mean 'ramp'",
        ),
        ("xyz 5/s", "'xyz' is no kind of stage; write one of constant, poisson, gamma, ramp, burst, onoff"),
        ("200/s 30s poisson", "the kind comes first; write for example 'poisson 50/s 2m'"),
        ("constant 200/s", "it lacks a duration such as 30s; write for example 'constant 200/s 30s'"),
        ("constant 30s", "it lacks a rate such as 200/s"),
        ("constant 200/s 30sec", "'30sec' is not a duration such as 30s"),
        ("constant 200/s 0s", "nothing can last 0s"),
        ("constant 0/s 5s", "'0/s' is not a rate such as 200/s"),
        ("constant 200/s 30s 40s", "'40s' is one word too many"),
        ("constant 1/h 1s", "comes to no request at all"),
        ("onoff 0/s:5s 0/s:5s 1m", "comes to no request at all"),
        ("poisson 50 2m", "'50' is not a rate such as 200/s"),
        ("gamma 200/s 3m", "it lacks cv="),
        ("gamma 200/s vc=2 3m", "'vc=2' does not belong there, did you mean 'cv='"),
        ("gamma 200/s cv=11 3m", "'cv=11' should say a number from 0.01 to 10"),
        ("gamma 200/s cv=0.009 3m", "'cv=0.009' should say a number from 0.01 to 10"),
        ("gamma 200/s cv=0 3m", "'cv=0' should say a number from 0.01 to 10"),
        ("ramp 50/s 1m", "it lacks two rates with an arrow between them"),
        ("ramp 50/s→200 1m", "'50/s→200' is not two rates with an arrow between them"),
        ("ramp 1/s→2/s→3/s 1m", "'1/s→2/s→3/s' is not two rates with an arrow between them"),
        ("ramp 0/s→5/s 1m exponential", "neither begins nor ends at 0/s"),
        ("ramp 5/s→0/s 1m exponential", "neither begins nor ends at 0/s"),
        ("ramp 1/s→5/s 1m exponentail", "'exponentail' does not belong there, did you mean 'exponential'"),
        ("ramp 1/s→5/s 1m linear exponential", "'linear' is one word too many"),
        ("burst 500 every 30s", "it lacks a duration such as 30s"),
        ("burst 500 every 2m 3m every", "'every' is one word too many"),
        ("burst 500 every", "after 'every' comes a duration such as 30s"),
        ("burst 0", "'0' is not a number of requests such as 500"),
        ("burst 1.5", "'1.5' is not a number of requests such as 500"),
        ("onoff 400/s:5s 2m", "it lacks a second rate and how long it is on, such as 400/s:5s"),
        ("onoff 400/s:5s 9/s:0s 2m", "'9/s:0s' is not a second rate"),
        ("sine mean=100 amp=6/s period=5m 1m", "'mean=100' should say a rate such as 200/s"),
        ("sine amp=6/s period=5m 1m", "it lacks mean="),
        ("sine mean=100/s amp=101/s period=5m 1m", "amp is more than mean"),
        ("trace", "it lacks a file; write for example 'trace requests.jsonl.gz speed=10'"),
        ('trace ""', "'\"\"' is not a file"),
        ("trace a b", "'b' does not belong there"),
        ("trace sped=2 a", "'sped=2' does not belong there, did you mean 'speed='"),
        ("trace a speed=0", "'speed=0' should say a number above 0"),
        ('trace "a b', "'\"' does not belong there"),
        ("closed callers=0 3m", "'callers=0' should say a whole number from 1 on"),
        ("closed callers=2 outstanding=x 3m", "'outstanding=x' should say a whole number from 1 on"),
        ("closed callers=2", "it lacks a duration such as 30s"),
        (
            "poisson 50/s 2m; closed callers=2 3m",
            "stage 2 (closed callers=2 outstanding=1 3m) does not go together with stage 1 (poisson 50/s 2m)",
        ),
        ("closed callers=2 3m; closed callers=2 3m; burst 5", "stage 3 (burst 5) does not go together"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        parse_shape(text)
    assert re.match(r"stage \d+ (is empty|\(.+\))", str(caught.value))
    assert "\n" not in str(caught.value)
    assert re.search(r"; (write|did you mean|give)", str(caught.value))


def _write(numbers: st.SearchStrategy[int], units: list[str]) -> st.SearchStrategy[str]:
    decimals = st.sampled_from(["", ".5", ".25", ".1", ".000001", ".999999", ".123457"])
    return st.builds("{}{}{}".format, numbers, decimals, st.sampled_from(units))


_RATE = _write(st.integers(1, 999_999_999), ["/s", "/m", "/h"])
_TIME = _write(st.integers(1, 999_999_999), ["ms", "s", "m", "h"])
_SHORT_RATE = _RATE.filter(lambda rate: len(rate) < 11)
_NUMBER = _write(st.integers(1, 9), [""])
_COUNT = st.integers(1, 999_999_999)
_PRINTABLE = st.characters(exclude_characters='"', exclude_categories=["C"])
_FILE = st.text(_PRINTABLE, min_size=1).map('"{}"'.format)
_PART = st.builds("{}:{}".format, _RATE | st.just("0/s"), _TIME)
_CHANCE = st.sampled_from(["", " poisson"])
_OPEN = st.one_of(
    st.builds("{} {} {}".format, st.sampled_from(["constant", "poisson", ""]), _RATE, _TIME),
    st.builds("gamma cv={} {} {}".format, _NUMBER, _TIME, _RATE),
    st.builds("ramp {}→{} {} linear{}".format, _RATE | st.just("0/s"), _RATE, _TIME, _CHANCE),
    st.builds("ramp {} exponential {} -> {}{}".format, _TIME, _RATE, _RATE, _CHANCE),
    st.builds("burst {} every {} {}".format, _COUNT, _TIME, _TIME),
    st.builds("burst {}".format, _COUNT),
    st.builds("burst {} {}".format, _COUNT, _TIME),
    st.builds("onoff {} {}{}".format, st.lists(_PART, min_size=2, max_size=4).map(" ".join), _TIME, _CHANCE),
    st.builds("sine mean=9{0} amp={0} period={1} {2}{3}".format, _SHORT_RATE, _TIME, _TIME, _CHANCE),
    st.builds("trace {} speed={}".format, _FILE, _NUMBER),
)
_CLOSED = st.builds("closed callers={} outstanding={} {}".format, _COUNT, _COUNT, _TIME)


def _is_empty(text: str) -> bool:
    try:
        parse_shape(text)
    except ValueError as error:
        return "comes to no request at all" in str(error)
    return False


@given(
    st.one_of(st.lists(_OPEN, min_size=1, max_size=4), st.lists(_CLOSED, min_size=1, max_size=4)).map(
        "; ".join
    )
)
@example("constant 2.3/m 1.1h; poisson 0.7/h 999999999h; gamma 5/s 90s cv=1")
@example('ramp 7/h→7/m 123456.789ms; trace a->b; trace "x=y"')
def test_a_shape_reads_the_same_again(text: str) -> None:
    assume(not _is_empty(text))
    shape = parse_shape(text)
    assert parse_shape(str(shape)) == shape
    assert str(parse_shape(str(shape))) == str(shape)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("60s 200/s", "constant 200/s 1m"),
        ("poisson 12000/m 90s", "poisson 200/s 90s"),
        ("constant 1000/m 0.5s", "constant 1000/m 0.5s"),
        ("ramp 5/s -> 7200/h linear 1m;", "ramp 5/s→2/s 1m"),
        ("ramp poisson 1m exponential 5/s->2/s", "ramp 5/s→2/s 1m exponential poisson"),
        ("sine 1m poisson period=5s amp=1/s mean=2/s", "sine mean=2/s amp=1/s period=5s 1m poisson"),
        ("burst 1m every 5s 10; burst 010", "burst 10 every 5s 1m; burst 10"),
        ("closed 1m callers=2", "closed callers=2 outstanding=1 1m"),
        ("gamma 50/s cv=1.0 1m", "poisson 50/s 1m"),
        ('trace "a.jsonl" speed=1.0', "trace a.jsonl"),
        ('trace "a b.jsonl" speed=1.50', 'trace "a b.jsonl" speed=1.5'),
        ("onoff 1m 4/s:1000ms 0.0/m:60s", "onoff 4/s:1s 0/s:1m 1m"),
    ],
)
def test_a_shape_is_written_in_one_way(text: str, canonical: str) -> None:
    assert str(parse_shape(text)) == canonical


def test_a_rate_and_a_duration_make_a_shape() -> None:
    assert from_rate(200.0, 30.0) == parse_shape("poisson 200/s 30s")
    assert from_rate(200.0, 30.0, "constant") == parse_shape("constant 200/s 30s")
    odd = from_rate(math.pi, math.e)
    assert odd == parse_shape(str(odd))
    assert odd.stages[0].seconds == pytest.approx(math.e, abs=1e-6)
    assert rate_at(odd, 0.0) == pytest.approx(math.pi, abs=1e-6)


@pytest.mark.parametrize("per_second", [0.0, -5.0, math.nan, math.inf, 1e10, 1e-12])
def test_a_rate_or_duration_that_makes_no_load_is_refused(per_second: float) -> None:
    with pytest.raises(ValueError, match=r"^stage 1 \("):
        from_rate(per_second, 1.0)
    for seconds in (0.0, -1.0):
        with pytest.raises(ValueError, match=r"^stage 1 \("):
            from_rate(1.0, seconds)


@pytest.mark.parametrize(
    ("text", "moments", "rates"),
    [
        (
            "poisson 50/s 10s; constant 200/s 10s",
            [-0.1, 0.0, 9.99, 10.0, 19.99, 20.0],
            [0, 50, 50, 200, 200, 0],
        ),
        ("burst 5 2s; ramp 50/s→200/s 1m", [2.0, 32.0, 61.999999], [50, 125, 200]),
        ("ramp 100/s→400/s 10s exponential", [0.0, 5.0], [100, 200]),
        ("onoff 400/s:5s 0/s:10s 7/s:1s 2m", [0.0, 4.9, 5.0, 15.0, 16.0, 21.5], [400, 400, 0, 7, 400, 0]),
        (
            "sine mean=100/s amp=60/s period=4m 10m",
            [0.0, 60.0, 120.0, 180.0, 300.0],
            [100, 160, 100, 40, 160],
        ),
        ("burst 500 every 30s 1m", [0.0, 1.0, 29.0, 29.5, 30.0, 31.0, 59.5], [500, 0, 0, 500, 500, 0, 0]),
        ("burst 500 every 400ms 1m", [0.0, 0.2, 59.9], [1500, 1000, 0]),
        ("burst 500 1m", [0.0, 0.5], [500, 0]),
    ],
)
def test_the_intended_rate_at_a_moment(text: str, moments: list[float], rates: list[float]) -> None:
    shape = parse_shape(text)
    assert [rate_at(shape, moment) for moment in moments] == pytest.approx(rates, abs=1e-4)


def test_the_rate_of_a_trace_is_what_comes_in_the_next_second() -> None:
    shape = Shape((Trace("a", 2.0, (0.0, 1.0, 1.9, 2.0, 9.0, 30.0)),))
    assert shape.seconds == 15.0
    assert [rate_at(shape, moment) for moment in (0.0, 0.5, 1.0, 4.0, 15.0)] == [3.0, 3.0, 1.0, 1.0, 0.0]
