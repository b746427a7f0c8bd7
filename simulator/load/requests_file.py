"""`requests.jsonl.gz`: a line about each request of a run, written while it goes on."""

from __future__ import annotations

import gzip
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import orjson

from simulator.load.submits import Submit
from simulator.load.watch import Reading

COMPRESSION = 1
"""The lines are alike: more effort saves little, and the run has other work."""


@dataclass(frozen=True, slots=True)
class Story:
    """A request from its intended send to its callback."""

    submit: Submit
    reading: Reading | None
    due_at: float
    """When its verdict is final: until then a second callback is waited for."""


class RequestsFile:
    """Writes each story once it is over; then it is forgotten, so that long runs take no more memory."""

    def __init__(self, path: Path | None, begin: float, begin_wall: float) -> None:
        """`begin` is second 0 of the run, of CLOCK_MONOTONIC; `begin_wall` the same since 1970.

        Without a path nothing is written. OSError where the file cannot be made.
        """
        self._file = None if path is None else gzip.open(path, "wb", COMPRESSION)  # noqa: SIM115 - closed by `close`
        self._begin = begin
        self._begin_wall = begin_wall
        self._waiting: deque[Story] = deque()

    def add(self, story: Story) -> None:
        """Keeps a story until it is due."""
        if self._file is not None:
            self._waiting.append(story)

    def take_due(self, now: float) -> list[Story]:
        """The stories that are over, which the caller judges and writes."""
        due = []
        while self._waiting and self._waiting[0].due_at <= now:
            due.append(self._waiting.popleft())
        return due

    def write(self, story: Story, verdict: str | None) -> None:
        """Adds its line; moments are seconds of the run."""
        if self._file is None:
            return
        submit, reading = story.submit, story.reading
        line = {
            "number": submit.number,
            "end": submit.end,
            "verdict": verdict,
            "queue_id": submit.queue_id,
            "correlation_id": submit.correlation_id,
            "callback_topic": submit.callback_topic,
            "intended": self._relate(submit.intended),
            "sent": self._relate(submit.sent),
            "accepted": self._relate(submit.ended) if submit.queue_id else None,
            "appended": self._relate_wall(reading.appended_wall) if reading else None,
            "received": self._relate(reading.fact.received_at) if reading else None,
            "attempts": submit.attempts,
            "status": submit.status,
            "error_code": submit.error_code,
        }
        self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        """Ends the file."""
        if self._file is not None:
            self._file.close()

    def _relate(self, moment: float | None) -> float | None:
        return None if moment is None else round(moment - self._begin, 6)

    def _relate_wall(self, moment: float | None) -> float | None:
        return None if moment is None else round(moment - self._begin_wall, 6)
