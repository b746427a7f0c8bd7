"""A recording as a source: it plays in its own time, at any speed, forwards and from any moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from llmctl.tui.feeds.recording import Recording
from llmctl.tui.model.frames import RunFigures, Sink
from simulator.quantities import parse_duration

CHUNK_FRAMES = 500
LOOK_EVERY_SECONDS = 0.5


class ReplayClock:
    """The recording's time: `speed` times as fast as ours; it stands while held, and ends with the file."""

    def __init__(
        self, begin: float, end: float, speed: float, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self.begin = begin
        self.end = end
        self._speed = speed
        self._steady = steady
        self._at = begin
        self._since = steady()
        self.held = False

    @property
    def speed(self) -> float:
        """How many seconds of the recording pass in one of ours."""
        return self._speed

    def now(self) -> float:
        """The moment that is shown, in seconds since 1970."""
        if self.held:
            return self._at
        return min(self.end, self._at + (self._steady() - self._since) * self._speed)

    def set_speed(self, speed: float) -> None:
        """Plays faster or slower from here on."""
        self._rebase()
        self._speed = speed

    def hold(self, held: bool) -> None:
        """Stands still, or goes on."""
        self._rebase()
        self.held = held

    def move_to(self, moment: float) -> None:
        """Goes on from another moment."""
        self._at = min(max(moment, self.begin), self.end)
        self._since = self._steady()

    def _rebase(self) -> None:
        self._at = self.now()
        self._since = self._steady()


class Replay:
    """Feeds a sink with what a recording holds up to its clock's moment."""

    def __init__(self, recording: Recording, clock: ReplayClock) -> None:
        self._recording = recording
        self.clock = clock
        self._number = 0

    def advance(self, sink: Sink) -> None:
        """Gives the sink everything up to the clock's moment that it does not have yet."""
        for number, frame in self._recording.read(self._number, self.clock.now()):
            self._number = number
            sink.take(frame)

    async def seek(self, moment: float, fresh: Sink) -> None:
        """Goes to another moment: a fresh sink gets everything from the beginning up to it."""
        self.clock.move_to(moment)
        self._number = 0
        for count, (number, frame) in enumerate(self._recording.read(0, self.clock.now())):
            self._number = number
            fresh.take(frame)
            if count % CHUNK_FRAMES == 0:
                await asyncio.sleep(0)


class RunFollower:
    """The load run in a recording that is being written: its frames as they come, and no others."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    async def run(self, sink: Sink) -> None:
        """Runs until cancelled."""
        last = 0
        while True:
            for number, frame in self._recording.read(last):
                last = number
                if isinstance(frame, RunFigures):
                    sink.take(frame)
            await asyncio.sleep(LOOK_EVERY_SECONDS)


def read_moment(text: str, begin: float) -> float:
    """The moment that a person named: a time of day (UTC), or so long after the beginning; or ValueError."""
    written = text.strip()
    if ":" not in written:
        return begin + parse_duration(written)
    for form in ("%H:%M:%S", "%H:%M"):
        try:
            told = datetime.strptime(written, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        start = datetime.fromtimestamp(begin, UTC)
        moment = start.replace(hour=told.hour, minute=told.minute, second=told.second, microsecond=0)
        return (moment if moment >= start - timedelta(seconds=1) else moment + timedelta(days=1)).timestamp()
    raise ValueError(f"{written!r} is no time; write for example 14:03:27 or 90s")
