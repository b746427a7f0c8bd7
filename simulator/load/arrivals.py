"""When the requests of a shape are due: absolute times, computed ahead, the same for the same seed.

Chance enters as a stationary renewal process on the scale of the rate's integral. Its gaps are gamma
distributed (Poisson: exponential), on the condition that exactly the promised number arrives: what comes of
drawing all gaps of a stage and stretching them to its length. Here that is done block by block, so that the
stage is never held whole. Gamma gaps divided by their sum do not depend on that sum (Lukacs 1955); so the
length of a block may be drawn first, as a beta distributed share of what is left, and its gaps stretched to
it. The distribution is that of the whole stage: bursts and lulls longer than a block survive.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from itertools import accumulate
from math import log
from random import Random
from typing import assert_never

from simulator.load.shape import Shape
from simulator.load.stages import EVEN, Burst, Flow, Level, OnOff, Ramp, Scheduled, Sine, Trace

BLOCK = 4096
"""Arrivals that are computed at once, at most; a few milliseconds' work. The times depend on it."""


def iterate_arrivals(shape: Shape, seed: int, chunk: int = BLOCK) -> Iterator[array[float]]:
    """The due times in seconds from the start, ascending, `chunk` at a time and the rest at last.

    Each stage has exactly its `count` of arrivals between its beginning and its end, and a random stream of
    its own. ValueError for a closed loop, which has no due times, and for a trace that has not been read.
    """
    if chunk < 1:
        raise ValueError(f"a chunk holds at least 1 arrival; got {chunk}")
    if shape.is_closed:
        raise ValueError(f"{str(shape)!r} is a closed loop, whose requests are due when callbacks arrive")
    return _cut(_iterate_blocks(shape, seed), chunk)


def _cut(blocks: Iterable[Iterable[float]], chunk: int) -> Iterator[array[float]]:
    """The same times in pieces of that size."""
    held: array[float] = array("d")
    for block in blocks:
        held.extend(block)
        whole = len(held) - len(held) % chunk
        for place in range(0, whole, chunk):
            yield held[place : place + chunk]
        held = held[whole:]
    if held:
        yield held


def _iterate_blocks(shape: Shape, seed: int) -> Iterator[list[float]]:
    begin = 0.0
    for number, stage in enumerate(shape.scheduled, 1):
        end, latest = begin + stage.seconds, begin
        rng = Random(f"{seed}/{number}")  # noqa: S311 - to be repeated, not to be secret
        for block in _iterate_stage(stage, rng):
            # The last bit may be rounded beyond the stage, or before the block that came first.
            times = [begin + moment for moment in block]
            if times[0] < latest or times[-1] > end:
                times = [min(max(time, latest), end) for time in times]
            latest = times[-1]
            yield times
        begin = end


def _iterate_stage(stage: Scheduled, rng: Random) -> Iterator[list[float]]:
    """The moments of one stage from its own beginning, block by block."""
    match stage:
        case Level() | Ramp() | Sine() | OnOff():
            for levels in _iterate_levels(stage, rng):
                yield stage.reach(levels)
        case Burst():
            for number in range(stage.bursts):
                moment = number * (stage.every or 0.0)
                for size in _split(stage.size):
                    yield [moment] * size
        case Trace():
            for place in range(0, stage.count, BLOCK):
                yield [moment / stage.speed for moment in stage.recorded[place : place + BLOCK]]
        case _:
            assert_never(stage)


def _iterate_levels(flow: Flow, rng: Random) -> Iterator[list[float]]:
    """What the integral of the rate is at each arrival: 0, 1, 2, … where they come evenly."""
    if flow.cv != EVEN:
        yield from _draw_levels(flow.count, flow.total, flow.cv, rng)
        return
    first = 0
    for size in _split(flow.count):
        yield [float(level) for level in range(first, first + size)]
        first += size


def _draw_levels(count: int, total: float, cv: float, rng: Random) -> Iterator[list[float]]:
    """So many points of a renewal process between 0 and `total`.

    A process is more often come upon in a long gap than in a short one (the inspection paradox): the first
    gap is of shape + 1 and is entered anywhere. The part of it that had gone by comes after the last arrival.
    """
    shape = cv**-2
    left, left_count = total, count
    level, extra = 0.0, 1.0
    for size in _split(count):
        left_count -= size
        gaps = _draw_gaps(size, shape, rng)
        if extra:
            gaps[0] = rng.gammavariate(shape + extra, 1.0)
        share = rng.betavariate(shape * size + extra, shape * left_count) if left_count else 1.0
        sums = list(accumulate(gaps))
        scale = left * share / sums[-1]
        if extra:
            level = -(1.0 - rng.random()) * gaps[0] * scale
        yield [level + scale * each for each in sums]
        level += scale * sums[-1]
        left, extra = left - left * share, 0.0


def _draw_gaps(size: int, shape: float, rng: Random) -> list[float]:
    """Gamma distributed, of scale 1: whoever asks stretches them."""
    if shape == 1:
        random = rng.random
        return [-log(1.0 - random()) for _ in range(size)]
    return [rng.gammavariate(shape, 1.0) for _ in range(size)]


def _split(count: int) -> Iterator[int]:
    """Sizes of nearly equal blocks."""
    blocks = -(-count // BLOCK)
    for block in range(blocks):
        yield count * (block + 1) // blocks - count * block // blocks
