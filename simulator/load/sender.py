"""Sends what is due when it is due, and never drops a send silently.

The schedule is absolute: a send that is late delays none after it, and by how much each was late is recorded.
Whether an answer comes, and when, moves nothing: the loop is open.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import ceil, inf
from random import Random
from typing import Final

from simulator.load.bodies import BodySource
from simulator.load.connection import Outcome
from simulator.load.histogram import Histogram
from simulator.load.outcomes import Judgement, judge_outcome
from simulator.load.submits import Submit, SubmitEnd
from simulator.load.transport import Poster
from simulator.load.turns import Arrivals

BATCH: Final = 32
"""Sends in a row before answers are read again; a burst is so many at a time."""
FIRST_WAIT_SECONDS: Final = 0.25
LONGEST_WAIT_SECONDS: Final = 5.0
TIMER_STEPS_PER_SECOND: Final = 1000
"""What uvloop's timers resolve; it rounds, and what is rounded down to nothing would spin."""


@dataclass(frozen=True, slots=True)
class SendLimits:
    """How much may be open, and how long what is unclear may stay so."""

    max_outstanding: int
    """Open HTTP requests; what is due beyond that is skipped and counted."""
    resolve_limit_seconds: float = 60.0
    """How long an unclear request is sent again, from its first unclear end on."""


class Sender:
    """Paces, sends, and records how each request ended: once for each that was taken from the arrivals."""

    def __init__(
        self,
        poster: Poster,
        bodies: BodySource,
        arrivals: Arrivals,
        record: Callable[[Submit], None],
        limits: SendLimits,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._poster = poster
        self._bodies = bodies
        self._arrivals = arrivals
        self._record = record
        self._limits = limits
        self._open = 0
        self._unresolved: set[_Request] = set()
        self._resting: asyncio.Future[None] | None = None
        self._stop_at = inf
        self._is_abandoned = False
        self._is_closing = False
        self._sent = 0
        self._lateness = Histogram()

    @property
    def open(self) -> int:
        """HTTP requests that have no end yet."""
        return self._open

    @property
    def unresolved(self) -> int:
        """Requests with an unclear end that wait to be sent again."""
        return len(self._unresolved)

    @property
    def sent(self) -> int:
        """Requests that were sent, each counted once."""
        return self._sent

    def take_lateness(self) -> Histogram:
        """From intended to sent, of the requests sent since the last call."""
        lateness, self._lateness = self._lateness, Histogram()
        return lateness

    async def run(self) -> None:
        """Sends; returns when nothing more will be due and every request has its end."""
        while True:
            due = self._arrivals.next_due()
            if not self._may_come(due):
                if not self._open and not self._unresolved:
                    return
                self._is_closing = True
                if self._is_abandoned:
                    await self._poster.close()
                    continue
            if due is None or due > self._stop_at:
                await self._rest(None)
            elif (ahead := due - time.monotonic()) > 0:
                await self._rest(ahead)
            else:
                self._send_due(time.monotonic())
                await asyncio.sleep(0)

    def wake(self) -> None:
        """Looks again at what is due."""
        if self._resting is not None and not self._resting.done():
            self._resting.set_result(None)

    def stop(self, at: float, finish_by: float) -> None:
        """Sends nothing that is due after that moment; what is open then is given up at `finish_by`."""
        self._stop_at = min(self._stop_at, at)
        self._loop.call_later(max(0.0, finish_by - time.monotonic()), self._abandon)
        self.wake()

    def _may_come(self, due: float | None) -> bool:
        if self._is_abandoned:
            return False
        return self._arrivals.is_open and self._stop_at == inf if due is None else due <= self._stop_at

    async def _rest(self, seconds: float | None) -> None:
        """Until then, or until somebody wakes it."""
        self._resting = self._loop.create_future()
        timer = None
        if seconds is not None:
            steps = ceil(seconds * TIMER_STEPS_PER_SECOND)
            timer = self._loop.call_later(steps / TIMER_STEPS_PER_SECOND, self.wake)
        try:
            await self._resting
        finally:
            self._resting = None
            if timer is not None:
                timer.cancel()

    def _send_due(self, now: float) -> None:
        """A batch at most, so that answers are heard between two of them."""
        until = min(now, self._stop_at)
        for _ in range(BATCH):
            due = self._arrivals.next_due()
            if due is None or due > until:
                return
            self._start(self._arrivals.take(), due)

    def _start(self, number: int, intended: float) -> None:
        now = time.monotonic()
        if self._open >= self._limits.max_outstanding:
            skipped = Submit(number, SubmitEnd.SKIPPED, intended, None, now, 0, False, None, None)
            self._record(skipped)
            return
        self._sent += 1
        self._lateness.record(now - intended)
        self._send(_Request(number, intended, now))

    def _send(self, request: _Request) -> None:
        body = self._bodies.build(request.number)
        request.attempts += 1
        request.correlation_id, request.callback_topic = body.correlation_id, body.callback_topic
        self._open += 1
        self._poster.post(body.headers, body.content, partial(self._end, request))

    def _end(self, request: _Request, outcome: Outcome) -> None:
        self._open -= 1
        judgement = judge_outcome(outcome, doubtful=request.is_ambiguous)
        if judgement.end is SubmitEnd.AMBIGUOUS:
            self._doubt(request, judgement)
        else:
            self._finish(request, judgement)

    def _doubt(self, request: _Request, judgement: Judgement) -> None:
        """Sends an unclear request again after a while, or gives it up."""
        now = time.monotonic()
        if not request.is_ambiguous:
            request.give_up_at = now + self._limits.resolve_limit_seconds
        wait = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** (request.attempts - 1))
        # Those of one outage do not all come back at once.
        wait *= Random(f"{request.number}/{request.attempts}").uniform(0.75, 1.25)  # noqa: S311
        wait = max(wait, judgement.retry_after_seconds or 0.0)
        if self._is_abandoned or now + wait > request.give_up_at:
            self._finish(request, judgement)
            return
        request.last = judgement
        request.timer = self._loop.call_later(wait, self._send_again, request)
        self._unresolved.add(request)

    def _send_again(self, request: _Request) -> None:
        self._unresolved.discard(request)
        if self._open < self._limits.max_outstanding:
            self._send(request)
        else:
            self._doubt(request, request.last)

    def _abandon(self) -> None:
        self._is_abandoned = True
        for request in tuple(self._unresolved):
            assert request.timer is not None
            request.timer.cancel()
            self._unresolved.discard(request)
            self._finish(request, request.last)
        self.wake()

    def _finish(self, request: _Request, judgement: Judgement) -> None:
        self._record(
            Submit(
                number=request.number,
                end=judgement.end,
                intended=request.intended,
                sent=request.sent,
                ended=time.monotonic(),
                attempts=request.attempts,
                was_ambiguous=request.is_ambiguous,
                correlation_id=request.correlation_id,
                callback_topic=request.callback_topic,
                queue_id=judgement.queue_id,
                status=judgement.status,
                error_code=judgement.error_code,
                reason=judgement.reason,
            )
        )
        if self._is_closing and not self._open and not self._unresolved:
            self.wake()


class _Request:
    """A request on its way."""

    __slots__ = (
        "attempts",
        "callback_topic",
        "correlation_id",
        "give_up_at",
        "intended",
        "last",
        "number",
        "sent",
        "timer",
    )

    last: Judgement
    """Of an unclear one: the last that was heard of it."""

    def __init__(self, number: int, intended: float, sent: float) -> None:
        self.number = number
        self.intended = intended
        self.sent = sent
        self.attempts = 0
        self.correlation_id = ""
        self.callback_topic = ""
        self.give_up_at = inf
        self.timer: asyncio.TimerHandle | None = None

    @property
    def is_ambiguous(self) -> bool:
        """Whether an attempt had an unclear end."""
        return self.give_up_at < inf
