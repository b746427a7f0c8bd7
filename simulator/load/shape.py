"""The shape of a load in one line: stages with `;` between them, one after the other.

| written | is |
|---|---|
| `constant 200/s 30s`, `200/s 30s` | one request every 5 ms |
| `poisson 50/s 2m` | each independent of the others |
| `gamma 200/s cv=2 3m` | bursty; cv is the standard deviation of the gaps over their mean |
| `ramp 50/s→200/s 1m` (also `->`; also `exponential`) | from one rate to another |
| `burst 500 every 30s 2m`, `burst 500` | so many at once |
| `onoff 400/s:5s 0/s:10s 2m` | rates that take turns |
| `sine mean=100/s amp=60/s period=5m 10m` | up and down |
| `trace FILE speed=10` | as it was recorded |
| `closed callers=20 outstanding=4 3m` | a closed loop: the next when a callback arrives |

The kind comes first, the rest in any order. With the word `poisson` the arrivals of `ramp`, `onoff` and
`sine` are drawn by chance, at the rate of the moment. A file name with blanks stands in double quotes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from simulator.load.stages import (
    EVEN,
    POISSON,
    Burst,
    Closed,
    Level,
    OnOff,
    Ramp,
    Scheduled,
    Sine,
    Stage,
    Trace,
    write_duration,
    write_rate,
)
from simulator.load.words import Words
from simulator.quantities import parse_duration, parse_rate

LEAST_CV = 0.01
GREATEST_CV = 10.0

_WORD = re.compile(r'"[^"]*"|(?:\s*(?:→|->)\s*|[^\s";])+|[;"]')
_ARROW = re.compile(r"\s*(?:→|->)\s*")
_NUMBER = re.compile(r"\d{1,9}(?:\.\d{1,6})?", re.ASCII)
_COUNT = re.compile(r"\d{1,9}", re.ASCII)
_SILENCE = re.compile(r"0+(?:\.0+)?/[smh]", re.ASCII)
_A_RATE = "a rate such as 200/s"
_A_DURATION = "a duration such as 30s"


@dataclass(frozen=True)
class Shape:
    """Stages, one after the other; as text it is what `parse_shape` reads."""

    stages: tuple[Stage, ...]

    @property
    def seconds(self) -> float:
        """How long it lasts; 0 for a single burst. ValueError where a trace has not been read."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def count(self) -> int | None:
        """The arrivals it comes to, None for a closed loop. ValueError where a trace has not been read."""
        return None if self.is_closed else sum(stage.count for stage in self.scheduled)

    @property
    def is_closed(self) -> bool:
        """Whether callbacks pace it, and no schedule."""
        return len(self.scheduled) < len(self.stages)

    @property
    def scheduled(self) -> tuple[Scheduled, ...]:
        """The stages whose arrivals can be told beforehand: all or none."""
        return tuple(stage for stage in self.stages if not isinstance(stage, Closed))

    def __str__(self) -> str:
        return "; ".join(map(str, self.stages))


def parse_shape(text: str) -> Shape:
    """The shape that `text` says; ValueError names the stage that is wrong, and what would be right.

    No file is read: `trace.read_traces` does that.
    """
    groups: list[list[str]] = [[]]
    for word in _WORD.findall(text):
        if word == ";":
            groups.append([])
        else:
            groups[-1].append(word)
    if len(groups) > 1 and not groups[-1]:
        groups.pop()
    stages = tuple(_read_stage(number, words) for number, words in enumerate(groups, 1))
    _check_mixture(stages)
    return Shape(stages)


def from_rate(
    per_second: float, seconds: float, process: Literal["poisson", "constant"] = "poisson"
) -> Shape:
    """One rate for so long, to the last digit that can be written; ValueError where that is no load."""
    return parse_shape(f"{process} {write_rate(per_second)} {write_duration(seconds)}")


def rate_at(shape: Shape, moment: float) -> float:
    """The intended arrivals per second at a moment, in seconds from the start; 0 before and after the run.

    Bursts and traces have no rate but arrivals: it is those of the second that begins then. ValueError for a
    closed loop.
    """
    if shape.is_closed:
        raise ValueError(f"{str(shape)!r} is a closed loop, which has no rate because callbacks pace it")
    begin = 0.0
    for stage in shape.scheduled:
        if begin <= moment < begin + stage.seconds:
            return stage.rate_at(moment - begin)
        begin += stage.seconds
    return 0.0


def _check_mixture(stages: Sequence[Stage]) -> None:
    closed = [isinstance(stage, Closed) for stage in stages]
    if len(set(closed)) > 1:
        odd = closed.index(not closed[0])
        raise ValueError(
            f"stage {odd + 1} ({stages[odd]}) does not go together with stage 1 ({stages[0]}), as only one "
            "of them is a closed loop; give each a run of its own"
        )


def _read_stage(number: int, words: Sequence[str]) -> Stage:
    if not words:
        raise ValueError(f"stage {number} is empty; write for example 'poisson 50/s 2m'")
    place = f"stage {number} ({' '.join(words)})"
    bare = words[0][0].isdigit()
    name = "constant" if bare else words[0]
    if name not in _KINDS:
        near = get_close_matches(name, _KINDS, 1)
        hint = f"did you mean {near[0]!r}" if near else f"write one of {', '.join(_KINDS)}"
        raise ValueError(f"{place}: {name!r} is no kind of stage; {hint}")
    kind = _KINDS[name]
    late = next((word for word in words if word in _KINDS), None) if bare else None
    if late is not None:
        raise ValueError(f"{place}: the kind comes first; write for example {_KINDS[late].example!r}")
    given = Words(place, words if bare else words[1:], kind.known, kind.example)
    stage = kind.read(given)
    given.finish()
    if not isinstance(stage, Closed | Trace) and stage.count == 0:
        raise given.refuse("it comes to no request at all, so its time or its rate is too small")
    return stage


def _read_constant(words: Words) -> Level:
    return Level(words.take(parse_rate, _A_RATE), _take_seconds(words), EVEN)


def _read_poisson(words: Words) -> Level:
    return Level(words.take(parse_rate, _A_RATE), _take_seconds(words), POISSON)


def _read_gamma(words: Words) -> Level:
    cv = words.take_named("cv", _read_cv, f"a number from {LEAST_CV:g} to {GREATEST_CV:g}")
    return Level(words.take(parse_rate, _A_RATE), _take_seconds(words), cv)


def _read_ramp(words: Words) -> Ramp:
    first, last = words.take(_read_rates, "two rates with an arrow between them")
    exponential = words.take_flag("exponential")
    if not exponential:
        words.take_flag("linear")
    elif not first or not last:
        raise words.refuse("an exponential ramp neither begins nor ends at 0/s")
    return Ramp(first, last, _take_seconds(words), exponential, _take_process(words))


def _read_burst(words: Words) -> Burst:
    every = words.take_after("every", _read_length, _A_DURATION)
    size = words.take(_read_count, "a number of requests such as 500")
    if every is None:
        return Burst(size, None, words.find(parse_duration) or 0.0)
    return Burst(size, every, _take_seconds(words))


def _read_onoff(words: Words) -> OnOff:
    what = "rate and how long it is on, such as 400/s:5s"
    parts = [words.take(_read_part, f"a {what}"), words.take(_read_part, f"a second {what}")]
    while (part := words.find(_read_part)) is not None:
        parts.append(part)
    return OnOff(tuple(parts), _take_seconds(words), _take_process(words))


def _read_sine(words: Words) -> Sine:
    mean = words.take_named("mean", parse_rate, _A_RATE)
    amplitude = words.take_named("amp", parse_rate, _A_RATE)
    period = words.take_named("period", _read_length, _A_DURATION)
    if amplitude > mean:
        raise words.refuse("amp is more than mean, and no rate can be below 0/s")
    return Sine(mean, amplitude, period, _take_seconds(words), _take_process(words))


def _read_trace(words: Words) -> Trace:
    speed = words.take_named("speed", _read_speed, "a number above 0", 1.0)
    return Trace(words.take(_read_file, "a file"), speed)


def _read_closed(words: Words) -> Closed:
    callers = words.take_named("callers", _read_count, "a whole number from 1 on")
    outstanding = words.take_named("outstanding", _read_count, "a whole number from 1 on", 1)
    return Closed(callers, outstanding, _take_seconds(words))


def _take_seconds(words: Words) -> float:
    seconds = words.take(parse_duration, _A_DURATION)
    if seconds == 0:
        raise words.refuse("nothing can last 0s")
    return seconds


def _take_process(words: Words) -> float:
    return POISSON if words.take_flag("poisson") else EVEN


def _read_length(text: str) -> float:
    seconds = parse_duration(text)
    if seconds == 0:
        raise ValueError("nothing lasts 0s")
    return seconds


def _read_count(text: str) -> int:
    if _COUNT.fullmatch(text) is None or int(text) == 0:
        raise ValueError(f"{text!r} is no whole number from 1 on")
    return int(text)


def _read_speed(text: str) -> float:
    if _NUMBER.fullmatch(text) is None or float(text) == 0:
        raise ValueError(f"{text!r} is no number above 0")
    return float(text)


def _read_cv(text: str) -> float:
    if not LEAST_CV <= _read_speed(text) <= GREATEST_CV:
        raise ValueError(f"{text!r} is out of bounds")
    return float(text)


def _read_rate_or_silence(text: str) -> float:
    return 0.0 if _SILENCE.fullmatch(text) else parse_rate(text)


def _read_rates(text: str) -> tuple[float, float]:
    first, last = _ARROW.split(text)
    return _read_rate_or_silence(first), _read_rate_or_silence(last)


def _read_part(text: str) -> tuple[float, float]:
    rate, lasts = text.split(":")
    return _read_rate_or_silence(rate), _read_length(lasts)


def _read_file(text: str) -> str:
    name = text.strip('"')
    if not name or ("=" in text and name == text):
        raise ValueError(f"{text!r} is no file")
    return name


@dataclass(frozen=True)
class _Kind:
    """How one kind of stage is written."""

    read: Callable[[Words], Stage]
    example: str
    known: tuple[str, ...] = ()
    """Its words beside quantities, with `=` where a value follows."""


_KINDS = {
    "constant": _Kind(_read_constant, "constant 200/s 30s"),
    "poisson": _Kind(_read_poisson, "poisson 50/s 2m"),
    "gamma": _Kind(_read_gamma, "gamma 200/s cv=2 3m", ("cv=",)),
    "ramp": _Kind(_read_ramp, "ramp 50/s→200/s 1m", ("linear", "exponential", "poisson")),
    "burst": _Kind(_read_burst, "burst 500 every 30s 2m", ("every",)),
    "onoff": _Kind(_read_onoff, "onoff 400/s:5s 0/s:10s 2m", ("poisson",)),
    "sine": _Kind(
        _read_sine, "sine mean=100/s amp=60/s period=5m 10m", ("mean=", "amp=", "period=", "poisson")
    ),
    "trace": _Kind(_read_trace, "trace requests.jsonl.gz speed=10", ("speed=",)),
    "closed": _Kind(_read_closed, "closed callers=20 outstanding=4 3m", ("callers=", "outstanding=")),
}
