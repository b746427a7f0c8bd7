"""The moments of requests that were recorded, read from a file to be sent again at the same distances."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import orjson

from simulator.load.shape import Shape
from simulator.load.stages import Trace

_GZIP_MAGIC = b"\x1f\x8b"
_NAMES = ("t", "intended")
"""What a moment is called: in a trace of any origin, and in the `requests.jsonl.gz` of a run."""


def read_traces(shape: Shape) -> Shape:
    """The same shape with the moments of its trace files; ValueError where one cannot be read."""
    stages = (
        replace(stage, moments=read_moments(Path(stage.file))) if isinstance(stage, Trace) else stage
        for stage in shape.stages
    )
    return Shape(tuple(stages))


def read_moments(path: Path) -> tuple[float, ...]:
    """The moments in a file of JSON lines, plain or gzip: seconds from the first one on, ascending.

    The lines may stand in any order, as those of a run do. ValueError says which line holds no moment.
    """
    try:
        with path.open("rb") as plain:
            packed = plain.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        with gzip.open(path) if packed else path.open("rb") as lines:
            moments = sorted(_read_lines(lines, path))
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"the trace {path} cannot be read: {error}") from error
    if not moments:
        raise ValueError(f"the trace {path} has no lines; each is an object with t or intended, in seconds")
    return tuple(moment - moments[0] for moment in moments)


def _read_lines(lines: Iterable[bytes], path: Path) -> Iterator[float]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _read_moment(line, f"line {number} of the trace {path}")


def _read_moment(line: bytes, place: str) -> float:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ValueError(f'{place} is no JSON; write for example {{"t": 1.5}}') from error
    given = found if isinstance(found, dict) else {}
    moment = next((given[name] for name in _NAMES if name in given), None)
    if isinstance(moment, bool) or not isinstance(moment, int | float) or not math.isfinite(moment):
        raise ValueError(f'{place} has no number t or intended; write for example {{"t": 1.5}}, in seconds')
    return float(moment)
