"""Arrivals come when the shape says, as many as it says, and the same again for the same seed."""

import gzip
import math
import re
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import Path
from statistics import fmean, pstdev, pvariance

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.load.arrivals import BLOCK, iterate_arrivals
from simulator.load.shape import Shape, parse_shape, rate_at
from simulator.load.stages import Level, Ramp, Sine, Trace
from simulator.load.trace import read_moments, read_traces

EVERY_KIND = (
    "constant 9/s 7s; poisson 2000/s 5s; gamma 300/s cv=3 40s; gamma 300/s cv=0.2 4s; ramp 0/s→900/s 11s; "
    "ramp 900/s→0/s 11s poisson; ramp 1/s→900/s 11s exponential; ramp 900/s→1/s 11s exponential poisson; "
    "burst 5000 every 2s 7s; burst 20; onoff 0/s:1s 40/s:1.5s 0/s:1s 3/s:0.5s 17s; onoff 500/s:1s 0/s:1s 12s "
    "poisson; sine mean=300/s amp=300/s period=3s 20s; sine mean=300/s amp=200/s period=3s 20s poisson"
)


def arrive(shape: Shape | str, seed: int = 1, chunk: int = BLOCK) -> list[float]:
    parsed = parse_shape(shape) if isinstance(shape, str) else shape
    return [moment for piece in iterate_arrivals(parsed, seed, chunk) for moment in piece]


def take_gaps(moments: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(moments)]


def count_in(moments: list[float], width: float, windows: int) -> list[int]:
    """Arrivals in each of the windows of that many seconds."""
    edges = [bisect_left(moments, number * width) for number in range(windows + 1)]
    return [after - before for before, after in pairwise(edges)]


def integrate(rate: Callable[[float], float], begin: float, end: float) -> float:
    """Integrates by the midpoint rule in 1,000 steps."""
    steps = 1000
    width = (end - begin) / steps
    return sum(rate(begin + (step + 0.5) * width) for step in range(steps)) * width


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_each_stage_has_its_count_within_its_time(seed: int) -> None:
    shape = parse_shape(EVERY_KIND)
    moments = arrive(shape, seed)
    assert moments == sorted(moments)
    begins = accumulate((stage.seconds for stage in shape.stages), initial=0.0)
    first = 0
    for stage, begin in zip(shape.scheduled, begins, strict=False):
        mine = moments[first : first + stage.count]
        assert begin <= mine[0]
        assert mine[-1] <= begin + stage.seconds
        first += stage.count
    assert first == len(moments) == shape.count


@settings(max_examples=100)
@given(
    st.sampled_from(
        [
            "constant {0}/m {1}s", "poisson {0}/m {1}s", "gamma {0}/m cv=10 {1}s",
            "gamma {0}/m cv=0.01 {1}s", "ramp {0}/m→0/s {1}s poisson", "ramp 0/s→{0}/m {1}s",
            "ramp {0}/m→0.000001/h {1}s exponential poisson", "ramp 0.000001/h→{0}/m {1}s exponential",
            "onoff {0}/m:0.{1}s 0/s:0.3s {1}s", "onoff 0/s:{1}s {0}/m:0.7s 9s poisson",
            "sine mean={0}/m amp={0}/m period=0.{1}s {1}s",
            "sine mean={0}/m amp={0}/h period=9s {1}s poisson",
        ]
    ),
    st.integers(60, 9999),
    st.integers(1, 99),
    st.integers(),
)  # fmt: skip
def test_no_figures_lose_or_misplace_an_arrival(text: str, per_minute: int, seconds: int, seed: int) -> None:
    """The count is the rounded integral of the rate for any rate, length and seed; all are in time."""
    try:
        shape = parse_shape(text.format(per_minute, seconds))
    except ValueError as error:
        shape = None
        assert "comes to no request" in str(error)  # noqa: PT017 - the only refusal there may be
    if shape is not None:
        moments = arrive(shape, seed)
        assert len(moments) == shape.count
        assert moments == sorted(moments)
        assert moments[0] >= 0
        assert moments[-1] <= shape.seconds


@settings(max_examples=25)
@given(st.integers(1, 30_000))
def test_chunks_do_not_change_the_times(chunk: int) -> None:
    """Every chunk but the last is full."""
    shape = parse_shape("poisson 2000/s 5s; gamma 300/s cv=3 20s; burst 5000; ramp 0/s→90/s 11s")
    pieces = list(iterate_arrivals(shape, 7, chunk))
    assert [moment for piece in pieces for moment in piece] == arrive(shape, 7)
    assert all(len(piece) == chunk for piece in pieces[:-1])
    assert 0 < len(pieces[-1]) <= chunk
    assert all(isinstance(piece, array) and piece.typecode == "d" for piece in pieces)


def test_the_seed_decides_unless_arrivals_are_even() -> None:
    text = "poisson 50/s 20s; gamma 50/s cv=2 20s; ramp 0/s→50/s 20s poisson"
    assert arrive(text, 5) == arrive(text, 5)
    assert not set(arrive(text, 5)) & set(arrive(text, 6))
    assert arrive("constant 200/s 30s") == [number / 200 for number in range(6000)]


def test_a_stage_does_not_depend_on_the_others() -> None:
    after_chance = arrive("poisson 50/s 20s; gamma 50/s cv=2 20s")
    after_order = arrive("constant 50/s 20s; gamma 50/s cv=2 20s")
    assert after_chance[1000:] == after_order[1000:]
    twice = arrive("poisson 50/s 16s; poisson 50/s 16s")
    assert [moment - 16 for moment in twice[800:]] != pytest.approx(twice[:800])


def test_times_are_known_before_the_run_is() -> None:
    shape = parse_shape("poisson 1000/s 8760h")
    first = next(iterate_arrivals(shape, 1))
    assert len(first) == BLOCK
    assert shape.count == 31_536_000_000
    assert first[-1] == pytest.approx(BLOCK / 1000, rel=0.1)


@pytest.mark.parametrize("cv", [0.2, 0.5, 1.0, 2.0, 4.0])
def test_gaps_vary_as_asked(cv: float) -> None:
    """The measured coefficient of variation is within 7 %, the mean gap within 2 %."""
    gaps = take_gaps(arrive(f"gamma 200/s cv={cv} 5m"))
    assert fmean(gaps) == pytest.approx(1 / 200, rel=0.02)
    assert pstdev(gaps) / fmean(gaps) == pytest.approx(cv, rel=0.07)


def test_poisson_gaps_are_exponential() -> None:
    """The shares that are longer than some multiples of the mean are e to the minus that."""
    gaps = take_gaps(arrive("poisson 500/s 2m"))
    for multiple in (0.1, 1.0, 3.0):
        longer = sum(gap > multiple / 500 for gap in gaps) / len(gaps)
        assert longer == pytest.approx(math.exp(-multiple), abs=0.005)


def test_gaps_do_not_depend_on_the_one_before() -> None:
    """Also across the blocks in which they are drawn: the correlation of neighbors is about 0."""
    gaps = take_gaps(arrive("gamma 1000/s cv=2 100s"))
    mean, variance = fmean(gaps), pvariance(gaps)
    products = fmean((before - mean) * (after - mean) for before, after in pairwise(gaps))
    assert products / variance == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize(
    ("text", "dispersion"), [("poisson 1000/s 1000s", 1.0), ("gamma 500/s cv=2 1200s", 4.0)]
)
def test_lulls_and_bursts_longer_than_a_block_survive(text: str, dispersion: float) -> None:
    """Counts in windows of several blocks still vary: variance / mean is cv², as of a renewal process."""
    shape = parse_shape(text)
    windows = 60
    counts = count_in(arrive(shape, 4), shape.seconds / windows, windows)
    assert min(counts) > 2 * BLOCK
    assert 0.5 * dispersion < pvariance(counts) / fmean(counts) < 1.7 * dispersion


def test_a_stage_may_begin_anywhere_in_a_gap() -> None:
    """The process is met under way: on average the first request waits (1 + cv²) / 2 mean gaps, not one.

    Over 600 seeds; and as long again after the last one, since no edge is special.
    """
    shape = parse_shape("gamma 10/s cv=2 60s")
    runs = [arrive(shape, seed) for seed in range(600)]
    expected = (1 + 2.0**2) / 2 / 10
    assert fmean(moments[0] for moments in runs) == pytest.approx(expected, rel=0.2)
    assert fmean(60 - moments[-1] for moments in runs) == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize(
    "text",
    [
        "ramp 50/s→200/s 1m", "ramp 200/s→0/s 30s", "ramp 10/s→200/s 1m exponential",
        "ramp 300/s→2/s 30s exponential", "sine mean=100/s amp=60/s period=20s 1m",
        "sine mean=100/s amp=100/s period=7s 30s", "onoff 400/s:3s 0/s:2s 30/s:1s 33s",
    ],
)  # fmt: skip
def test_every_second_has_the_integral_of_its_rate(text: str) -> None:
    """Evenly: but for one arrival, and the rounding of the count in the end.

    By chance: within five standard deviations, and not all that near.
    """
    shape = parse_shape(text)
    seconds = int(shape.seconds)
    wanted = [integrate(lambda moment: rate_at(shape, moment), at, at + 1) for at in range(seconds)]
    assert count_in(arrive(shape), 1.0, seconds) == pytest.approx(wanted, abs=1.5)
    drawn = count_in(arrive(f"{text} poisson"), 1.0, seconds)
    misses = [(got - want) ** 2 / want for got, want in zip(drawn, wanted, strict=True) if want > 5]
    assert max(misses) < 25
    assert 0.4 < fmean(misses) < 1.7
    assert sum(got for got, want in zip(drawn, wanted, strict=True) if want < 1e-9) == 0


@pytest.mark.parametrize("text", ["ramp 50/s→200/s 1m", "sine mean=90/s amp=90/s period=20s 1m"])
def test_the_integral_up_to_each_arrival_is_its_number(text: str) -> None:
    """The inverse is exact: a thousandth of an arrival is the error of the integral here."""
    shape = parse_shape(text)
    moments = arrive(shape)
    for number in range(0, len(moments), 500):
        reached = integrate(lambda moment: rate_at(shape, moment), 0.0, moments[number])
        assert reached == pytest.approx(number, abs=1e-3 * max(number, 1) ** 0.5)


def test_silence_is_silent() -> None:
    """What falls on the end of an on-period waits for the next one."""
    moments = arrive("onoff 0/s:10s 4/s:1s 0/s:4s 1/s:1s 48s")
    assert moments == pytest.approx(
        [begin + after for begin in (0, 16, 32) for after in (10.0, 10.25, 10.5, 10.75, 15.0)]
    )
    # 1000/m for 6s is a trifle more than 100 in floating point; the 101st still waits for its period.
    rounded = arrive("onoff 1000/m:6s 0/s:9s 31s")
    assert (rounded[100], rounded[200]) == (pytest.approx(15.0), pytest.approx(30.0))
    # With this seed the one request falls so near to the end that it would wait for the next period.
    assert arrive("onoff 1/s:1s 0/s:1s 1s poisson", seed=71_981) == [1.0]


@pytest.mark.parametrize(
    "text",
    [
        "constant 9/s 7s", "ramp 3/s→0/s 7s", "ramp 1000/m→0/s 0.7s", "ramp 0.1/s→0/s 1234s",
        "ramp 999999999/s→0.000001/h 1m exponential", "ramp 3/s→7/s 0.7s exponential",
        "sine mean=3/s amp=3/s period=7s 700s",
    ],
)  # fmt: skip
def test_the_whole_integral_is_reached_at_the_end(text: str) -> None:
    (stage,) = parse_shape(text).stages
    assert isinstance(stage, Level | Ramp | Sine)
    (moment,) = stage.reach([math.nextafter(stage.total, math.inf)])
    assert 0.8 * stage.seconds < moment < 1.000001 * stage.seconds
    assert stage.reach([0.0]) == pytest.approx([0.0], abs=1e-6)


@pytest.mark.parametrize("ramp", [Ramp(1.0, 2.0, 10.0), Ramp(50.0, 200.0, 60.0)])
def test_moments_ascend_to_the_last_bit(ramp: Ramp) -> None:
    levels = [7.7]
    for _ in range(2000):
        levels.append(math.nextafter(levels[-1], math.inf))
    moments = ramp.reach(levels)
    assert moments == sorted(moments)


@pytest.mark.parametrize("amplitude", [1.0, 60.0, 99.999, 100.0])
def test_the_inverse_of_a_sine_is_exact(amplitude: float) -> None:
    sine = Sine(100.0, amplitude, 20.0, 60.0)
    speed = math.tau / sine.period
    levels = [step / 7 for step in range(round(sine.total) * 7)]
    reached = [
        100 * moment + amplitude / speed * (1 - math.cos(speed * moment)) for moment in sine.reach(levels)
    ]
    assert reached == pytest.approx(levels, abs=1e-6)


def test_a_burst_is_all_at_once() -> None:
    times = Counter(arrive("poisson 1/s 10s; burst 5000 every 30s 1m; burst 3 5s; burst 4"))
    assert [times[moment] for moment in (10.0, 40.0, 70.0, 75.0)] == [5000, 5000, 3, 4]
    assert times.total() == 10 + 10_007


def test_what_has_no_due_times_is_refused_before_the_first_chunk_is_asked_for() -> None:
    with pytest.raises(ValueError, match="is a closed loop, whose requests are due when callbacks arrive"):
        iterate_arrivals(parse_shape("closed callers=2 1m"), 1)
    with pytest.raises(ValueError, match="a chunk holds at least 1 arrival; got 0"):
        iterate_arrivals(parse_shape("burst 5"), 1, 0)
    with pytest.raises(ValueError, match="read_traces"):
        arrive(Shape((Trace("a.jsonl"),)))


def write_trace(path: Path, lines: str, packed: bool = False) -> Path:
    path.write_bytes(gzip.compress(lines.encode()) if packed else lines.encode())
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_a_trace_is_read_plain_or_packed(tmp_path: Path, packed: bool) -> None:
    lines = '{"t": 12.5, "x": 1}\n\n{"t": 10}\n{"intended": 11.25, "sent": 99.0}\n{"t": 10}\n'
    assert read_moments(write_trace(tmp_path / "trace", lines, packed)) == (0.0, 0.0, 1.25, 2.5)


def test_a_trace_is_replayed_faster(tmp_path: Path) -> None:
    """Its moments stand at their distances, in their place between the other stages."""
    write_trace(tmp_path / "a b.jsonl", "\n".join(f'{{"t": {number + 100}}}' for number in range(9001)))
    shape = read_traces(parse_shape(f'burst 1 5s; trace "{tmp_path}/a b.jsonl" speed=10; burst 2'))
    assert shape.count == 9004
    assert shape.seconds == 905.0
    assert arrive(shape) == pytest.approx([0.0, *(5 + number / 10 for number in range(9001)), 905.0, 905.0])
    assert str(shape) == f'burst 1 5s; trace "{tmp_path}/a b.jsonl" speed=10; burst 2'


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "has no lines; each is an object with t or intended, in seconds"),
        ('{"t": 1}\n{"t": ', "line 2 of the trace {} is no JSON"),
        ('{"t": 1}\n\n{"time": 2}', "line 3 of the trace {} has no number t or intended"),
        ('{"t": "1"}', "line 1 of the trace {} has no number t"),
        ('{"t": true}', "line 1 of the trace {} has no number t"),
        ('{"t": null, "intended": 3}', "line 1 of the trace {} has no number t"),
        ("[1, 2]", "line 1 of the trace {} has no number t"),
    ],
)
def test_a_trace_that_says_nothing_is_refused(tmp_path: Path, lines: str, said: str) -> None:
    path = write_trace(tmp_path / "trace.jsonl", lines)
    with pytest.raises(ValueError, match=re.escape(said.format(path))):
        read_moments(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(f"the trace {tmp_path / 'none'} cannot be read")):
        read_moments(tmp_path / "none")
    broken = tmp_path / "broken.gz"
    broken.write_bytes(gzip.compress(b'{"t": 1}\n' * 1000)[:-9])
    with pytest.raises(ValueError, match=re.escape(f"the trace {broken} cannot be read")):
        read_moments(broken)
