"""The discrete events of the system on paper: an event list, and what happens at each of them.

Between two events nothing changes, so the time jumps from one to the next. An event is a moment, a running
number that keeps the order of equal moments, what happens, and to which request.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf, nextafter
from random import Random

from simulator.capacity.model import System, longest_rest
from simulator.provider.limits import MINUTE_SECONDS, Bucket


@dataclass(slots=True)
class _Request:
    """One request, and what has become of it so far."""

    number: int
    """In the order of arrival; negative while the system warms up, which is not measured."""
    arrived: float
    owner: _Replica
    accepted: float = 0.0
    started: float = 0.0
    """When its first call began."""
    called: float = 0.0
    """Seconds in calls."""
    attempts: int = 0
    fails: bool = False
    """Whether the call under way is going to fail."""


class _Gauge:
    """A number that goes up and down, and its integral over time."""

    __slots__ = ("_area", "_since", "value")

    def __init__(self) -> None:
        self.value = 0
        self._area = 0.0
        self._since = 0.0

    def add(self, change: int, now: float) -> None:
        """Goes up or down at this moment."""
        self._area += self.value * (now - self._since)
        self._since = now
        self.value += change

    def area(self, now: float) -> float:
        """The integral up to now."""
        return self._area + self.value * (now - self._since)


class _Replica:
    """One process: a core that works first come, first served, and a queue of requests."""

    __slots__ = ("calls", "in_line", "queue", "worked", "works_until")

    def __init__(self) -> None:
        self.queue: deque[_Request] = deque()
        self.calls = _Gauge()
        self.in_line = False
        """Whether it is among those that could begin a call."""
        self.worked = 0.0
        self.works_until = 0.0

    def work(self, seconds: float, now: float) -> float:
        """Takes on so much work and returns when it will be done."""
        self.worked += seconds
        self.works_until = max(self.works_until, now) + seconds
        return self.works_until

    def worked_by(self, now: float) -> float:
        """The seconds for which the core has been at work."""
        return self.worked - max(0.0, self.works_until - now)


@dataclass(frozen=True)
class Use:
    """What was in use between two moments, on average; shares are of what there is."""

    seconds: float
    provider_calls: float
    """Calls under way."""
    calls_per_second: float
    """Calls that began."""
    service_calls: float
    """Calls under way in the replica that has the most, answers that wait for its core included."""
    service_cpu: float
    """The share of time for which the core of the busiest replica works."""
    waiting: float
    """Requests that were accepted and are not under way."""
    growth: int
    """By how much the requests that are not finished became more."""


@dataclass(frozen=True)
class Trace:
    """What a simulation came to: seconds for every measured request, in the order of arrival."""

    accept: array[float]
    """Arrival → accepted."""
    queue_wait: array[float]
    """Accepted → first call."""
    provider: array[float]
    """All calls."""
    end_to_end: array[float]
    """Arrival → callback."""
    lost: int
    """Of the measured: those whose attempts all failed."""
    peak_waiting: int
    use: Use
    """From the first measured arrival to the last."""
    drain_seconds: float
    """From the last arrival until all was done."""


@dataclass(frozen=True)
class _Look:
    """All sums at one moment."""

    at: float
    provider_calls: float
    waiting: float
    service_calls: tuple[float, ...]
    worked: tuple[float, ...]
    calls: int
    unfinished: int


_Act = Callable[[_Request, float], None]


class Simulation:
    """One run. The same seed gives the same run; each kind of chance has a stream of its own."""

    def __init__(self, system: System, seed: int) -> None:
        provider, service = system.provider, system.service
        self._provider = provider
        self._service = service
        self._latency, self._luck, self._routes = (
            Random(f"{seed}/{stream}")  # noqa: S311 - to be repeated, not to be secret
            for stream in ("latency", "luck", "routes")
        )
        self._replicas = [_Replica() for _ in range(service.replicas)]
        self._most_calls = inf if provider.concurrency is None else provider.concurrency
        self._allowances = _open_allowances(system)
        self._events: list[tuple[float, int, _Act, _Request]] = []
        self._scheduled = 0
        self._line: list[tuple[int, int, _Replica]] = []
        """The replicas that could begin a call, by the age of the request that is first there."""
        self._stood = 0
        self._wakes = False
        self._calls = _Gauge()
        self._waiting = _Gauge()
        self._peak_waiting = 0
        self._calls_begun = self._arrivals = self._finished = self._lost = 0
        self._figures: tuple[array[float], ...] = ()

    def run(self, arrivals: Iterable[float], warm_up: int, count: int) -> Trace:
        """Lives through `warm_up` arrivals that are not measured and `count` that are, until all is done.

        `arrivals` are ascending seconds, exactly so many; `count` is at least 1.
        """
        self._figures = tuple(array("d", bytes(8 * count)) for _ in range(4))
        begin = end = self._look(0.0)
        events = self._events
        for number, arrival in enumerate(arrivals, -warm_up):
            while events and events[0][0] <= arrival:
                now, _, act, request = heappop(events)
                act(request, now)
            if number == 0:
                begin, self._peak_waiting = self._look(arrival), self._waiting.value
            self._arrive(number, arrival)
            now = arrival
        end = self._look(now)
        while events:
            now, _, act, request = heappop(events)
            act(request, now)
        accept, queue_wait, provider, end_to_end = self._figures
        return Trace(
            accept=accept,
            queue_wait=queue_wait,
            provider=provider,
            end_to_end=end_to_end,
            lost=self._lost,
            peak_waiting=self._peak_waiting,
            use=_compare(begin, end),
            drain_seconds=now - end.at,
        )

    def _schedule(self, moment: float, act: _Act, request: _Request) -> None:
        self._scheduled += 1
        heappush(self._events, (moment, self._scheduled, act, request))

    def _arrive(self, number: int, now: float) -> None:
        """The load balancer takes turns; with shared partitions chance says whose the request is."""
        service, replicas = self._service, self._replicas
        door = owner = replicas[self._arrivals % len(replicas)]
        self._arrivals += 1
        if service.partitions is not None:
            owner = replicas[int(self._routes.random() * service.partitions) % len(replicas)]
        request = _Request(number, now, owner)
        self._do_when_worked(door, service.acceptance_seconds, self._accept, request, now)

    def _accept(self, request: _Request, now: float) -> None:
        request.accepted = now
        self._waiting.add(1, now)
        request.owner.queue.append(request)
        self._stand_in_line(request.owner)
        self._begin_calls(now)
        self._peak_waiting = max(self._peak_waiting, self._waiting.value)

    def _do_when_worked(
        self, replica: _Replica, seconds: float, act: _Act, request: _Request, now: float
    ) -> None:
        done = replica.work(seconds, now)
        if done > now:
            self._schedule(done, act, request)
        else:
            act(request, now)

    def _stand_in_line(self, replica: _Replica) -> None:
        if replica.queue and not replica.in_line and replica.calls.value < self._service.concurrency:
            replica.in_line = True
            self._stood += 1
            heappush(self._line, (replica.queue[0].number, self._stood, replica))

    def _begin_calls(self, now: float) -> None:
        """Begins as many as may begin now; where only time stands in the way, looks again later."""
        while self._line and self._calls.value < self._most_calls and not self._wakes:
            replica = self._line[0][2]
            wait = self._find_wait(now) if self._allowances else 0.0
            if wait > 0:
                self._wakes = True
                # A wait too short to be told from none would come to the same moment for ever.
                self._schedule(max(now + wait, nextafter(now, inf)), self._wake, replica.queue[0])
                return
            for bucket, units, _, _ in self._allowances:
                bucket.take(units)
            heappop(self._line)
            replica.in_line = False
            self._call(replica.queue.popleft(), now)
            self._stand_in_line(replica)

    def _find_wait(self, now: float) -> float:
        return max(
            bucket.wait_for(units, rate, capacity, now) for bucket, units, rate, capacity in self._allowances
        )

    def _wake(self, request: _Request, now: float) -> None:  # noqa: ARG002 - every event has one
        self._wakes = False
        self._begin_calls(now)

    def _call(self, request: _Request, now: float) -> None:
        provider, calls = self._provider, self._calls
        if request.attempts == 0:
            request.started = now
        request.attempts += 1
        self._waiting.add(-1, now)
        calls.add(1, now)
        request.owner.calls.add(1, now)
        self._calls_begun += 1
        chance = self._luck.random()
        seconds = 0.0 if chance < provider.refused else provider.latency.sample(self._latency)
        request.fails = chance < provider.failing
        if provider.concurrency is not None:
            seconds *= 1.0 + (provider.slowdown_when_full - 1.0) * calls.value / provider.concurrency
        request.called += seconds
        self._schedule(now + seconds, self._answer, request)

    def _answer(self, request: _Request, now: float) -> None:
        """The provider is done with it; the replica has still to work on what came."""
        self._calls.add(-1, now)
        self._do_when_worked(request.owner, self._service.answer_seconds, self._settle, request, now)
        self._begin_calls(now)

    def _settle(self, request: _Request, now: float) -> None:
        request.owner.calls.add(-1, now)
        if request.fails and request.attempts < self._service.max_attempts:
            self._waiting.add(1, now)
            rest = self._luck.random() * longest_rest(request.attempts)
            self._schedule(now + rest, self._return, request)
        else:
            self._finish(request, now)
        self._stand_in_line(request.owner)
        self._begin_calls(now)
        self._peak_waiting = max(self._peak_waiting, self._waiting.value)

    def _return(self, request: _Request, now: float) -> None:
        request.owner.queue.appendleft(request)
        self._stand_in_line(request.owner)
        self._begin_calls(now)

    def _finish(self, request: _Request, now: float) -> None:
        self._finished += 1
        number = request.number
        if number < 0:
            return
        self._lost += request.fails
        accept, queue_wait, provider, end_to_end = self._figures
        accept[number] = request.accepted - request.arrived
        queue_wait[number] = request.started - request.accepted
        provider[number] = request.called
        end_to_end[number] = now - request.arrived

    def _look(self, now: float) -> _Look:
        return _Look(
            at=now,
            provider_calls=self._calls.area(now),
            waiting=self._waiting.area(now),
            service_calls=tuple(replica.calls.area(now) for replica in self._replicas),
            worked=tuple(replica.worked_by(now) for replica in self._replicas),
            calls=self._calls_begun,
            unfinished=self._arrivals - self._finished,
        )


def _open_allowances(system: System) -> list[tuple[Bucket, float, float, float]]:
    """For each limit by the minute a full bucket, what a call takes, its refill a second and its size."""
    provider = system.provider
    limits = (
        (provider.requests_per_minute, 1.0, provider.burst_requests),
        (provider.tokens_per_minute, float(system.call.tokens), provider.burst_tokens),
    )
    allowances = []
    for per_minute, units, burst in limits:
        if per_minute is not None:
            per_second = per_minute / MINUTE_SECONDS
            size = max(1.0, per_second) if burst is None else burst
            allowances.append((Bucket(size, 0.0), units, per_second, size))
    return allowances


def _compare(begin: _Look, end: _Look) -> Use:
    seconds = end.at - begin.at

    def average(later: float, earlier: float) -> float:
        return (later - earlier) / seconds if seconds > 0 else 0.0

    return Use(
        seconds=seconds,
        provider_calls=average(end.provider_calls, begin.provider_calls),
        calls_per_second=average(end.calls, begin.calls),
        service_calls=max(map(average, end.service_calls, begin.service_calls)),
        service_cpu=max(map(average, end.worked, begin.worked)),
        waiting=average(end.waiting, begin.waiting),
        growth=end.unfinished - begin.unfinished,
    )
