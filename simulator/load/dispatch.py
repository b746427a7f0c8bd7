"""What a run and its load workers say to each other: a plan and orders one way, batches of submits the other.

One JSON document a line, over standard input and output. A fact takes some 160 bytes and half a microsecond
to write and read so; packed structs take twice the time, for want of a call that packs many.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from service.contracts.enums import LLMProviderType
from simulator.load.histogram import Histogram
from simulator.load.submits import Submit

MAX_LINE_BYTES = 1024 * 1024
MAX_SUBMITS_PER_LINE = 1000


class Message(BaseModel):
    """Frozen, and without fields that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class WorkerPlan(Message):
    """All that a load worker needs to know, but for the moment to begin. The limits hold for each worker."""

    url: str
    """Of the service; the path is ours."""
    run_id: str
    callback_topics: tuple[str, ...]
    """Taken in turn."""
    shape: str
    """As `shape.parse_shape` reads it. The arrivals of a closed loop are released by whoever runs it."""
    seed: int
    token: str | None = None
    provider_override: LLMProviderType | None = None
    max_outstanding: int = Field(default=2000, gt=0)
    """Open HTTP requests, and connections for them."""
    answer_timeout_seconds: float = Field(default=30.0, gt=0)
    connect_timeout_seconds: float = Field(default=10.0, gt=0)
    resolve_limit_seconds: float = Field(default=60.0, ge=0)
    worker: int = Field(default=0, ge=0)
    """Which of the workers this is; of the arrivals it sends every `workers`-th from this one on."""
    workers: int = Field(default=1, gt=0)


class Begin(Message):
    """The schedule begins at this moment of CLOCK_MONOTONIC."""

    order: Literal["begin"] = "begin"
    at: float


class Release(Message):
    """So many more requests are due at this moment: a closed loop."""

    order: Literal["release"] = "release"
    count: int = Field(gt=0)
    at: float


class Stop(Message):
    """Nothing that is due after this moment is sent; what is still open at `finish_by` is given up."""

    order: Literal["stop"] = "stop"
    at: float
    finish_by: float


Order = Begin | Release | Stop

_ORDER: TypeAdapter[Order] = TypeAdapter(Annotated[Order, Field(discriminator="order")])


def write_message(message: Message) -> bytes:
    """The line that says it."""
    return message.model_dump_json().encode() + b"\n"


def read_order(line: bytes) -> Order:
    """The order of a line; ValueError where it is none."""
    return _ORDER.validate_json(line)


@dataclass(frozen=True, slots=True)
class Pulse:
    """How a worker itself is doing."""

    open: int
    """HTTP requests without an end."""
    unresolved: int
    """Requests with an unclear end that wait to be sent again."""
    sent: int
    """Requests that were sent, each counted once, since it began."""
    cpu_seconds: float
    """Its CPU time since the process began."""
    loop_lag_seconds: float
    """By how much its loop was late at most, since the last batch."""


@dataclass(frozen=True, slots=True)
class WorkerBatch:
    """What a worker tells, about twenty times a second."""

    worker: int
    at: float
    """When it was told."""
    submits: tuple[Submit, ...]
    lateness: Histogram
    """From intended to sent, of what was sent since the last batch."""
    pulse: Pulse
    is_last: bool
    """Whether the worker has told everything."""

    def pack(self) -> Iterator[bytes]:
        """The lines that say it; several where there are very many submits."""
        most = MAX_SUBMITS_PER_LINE
        pieces = [self.submits[place : place + most] for place in range(0, len(self.submits), most)] or [()]
        for place, piece in enumerate(pieces, 1):
            is_end = place == len(pieces)
            yield orjson.dumps(
                (
                    self.worker,
                    self.at,
                    [submit.pack() for submit in piece],
                    self.lateness.pack() if is_end else (),
                    _pack_pulse(self.pulse),
                    self.is_last and is_end,
                ),
                option=orjson.OPT_APPEND_NEWLINE,
            )

    @classmethod
    def unpack(cls, line: bytes) -> WorkerBatch:
        """The batch of a line; ValueError where it is none."""
        worker, at, rows, lateness, pulse, is_last = orjson.loads(line)
        submits = tuple(map(Submit.unpack, rows))
        return cls(worker, at, submits, Histogram.unpack(lateness), Pulse(*pulse), is_last)


def _pack_pulse(pulse: Pulse) -> Sequence[float]:
    return (pulse.open, pulse.unresolved, pulse.sent, pulse.cpu_seconds, pulse.loop_lag_seconds)


def write_ready() -> bytes:
    """The first line of a worker: it can begin."""
    return orjson.dumps({"ready": True, "pid": os.getpid()}, option=orjson.OPT_APPEND_NEWLINE)
