"""One run of the fake provider: a scenario that unfolds in time, and all that remembers earlier calls.

What happens to a call is the scenario's pure decision (`behaviour.py`). What depends on time and on other
calls by its nature is kept here: allowances, capacity, the timeline, the journal and the callers' obedience.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2b

from starlette.types import Send

from simulator.provider.api import Api, Ask, Call, Completion, Refusal, Trouble, Wire
from simulator.provider.behaviour import Behaviour, Tokens, read_attempt, read_request_id
from simulator.provider.capacity import Slots
from simulator.provider.completion import bend, complete
from simulator.provider.connection import CallerLeft, Connection
from simulator.provider.delivery import send_half, send_in_drops, send_whole
from simulator.provider.draws import Draws
from simulator.provider.faults import ADVISES_WAITING, Breakage, Fault
from simulator.provider.journal import Entry, Journal
from simulator.provider.judge import Judge
from simulator.provider.limits import Advice, Allowances, RetryAfterStyle, advise, write_advice
from simulator.provider.obedience import Obedience
from simulator.provider.pauses import Pauses
from simulator.provider.scenario import Scenario
from simulator.provider.schema import SchemaProblem

HANG_SECONDS = 3600.0
"""A connection on which nothing comes is reset then, if its caller is so patient."""
MAX_REQUESTS_COUNTED = 100_000
"""Attempts are counted for so many requests that do not number them."""
REFUSED = "refused"
"""The outcome of a call that the API itself does not accept."""
RATE_LIMITED = "rate_limited"
OVER_CAPACITY = "over_capacity"
ABANDONED = "abandoned"


@dataclass(slots=True)
class _Visit:
    """A call under way, and what is known of its end so far."""

    api: Api
    ask: Ask
    behaviour: Behaviour
    connection: Connection
    send: Send
    draws: Draws
    luck: Draws
    """What goes wrong is drawn from here."""
    attempt: int
    request_id: str
    identity: str
    """Of the request, for finding one that is answered twice."""
    outcome: str = "ok"
    status: int | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    billed: bool = False

    @property
    def owner(self) -> tuple[str, str, str]:
        """Whose allowance it uses."""
        return self.api.name, self.ask.key_digest, self.ask.model.name


class Simulation:
    """Answers calls for a completion, whatever API they speak."""

    def __init__(
        self,
        scenario: Scenario,
        judge: Judge,
        pauses: Pauses,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.journal = Journal()
        self.obedience = Obedience()
        self.pauses = pauses
        self._judge = judge
        self._clock = clock
        self._wall = wall
        self._slots: dict[str, Slots] = {}
        self._attempts: OrderedDict[bytes, int] = OrderedDict()
        self.start(scenario)

    def start(self, scenario: Scenario) -> None:
        """Another scenario, from its beginning, with all allowances whole."""
        self.scenario = scenario
        self._started = self._clock()
        self._allowances = Allowances()

    def change(self, scenario: Scenario) -> None:
        """The same scenario with something changed: time goes on, and so do the allowances."""
        passed = self.seconds_passed()
        self.scenario = scenario
        self._started = self._clock() - passed * scenario.time_scale

    def clear(self) -> None:
        """Forgets what was asked and how callers behaved."""
        self.journal.clear()
        self.obedience.clear()

    def seconds_passed(self) -> float:
        """Since the scenario began, in its own time."""
        return (self._clock() - self._started) / self.scenario.time_scale

    def behaviour(self) -> Behaviour:
        """What holds at this moment."""
        return self.scenario.behaviour_at(self.seconds_passed())

    async def attend(self, api: Api, call: Call, connection: Connection, send: Send) -> None:
        """Answers a call for a completion, or does what the scenario wants instead."""
        arrived, came = self._clock(), self._wall()
        behaviour = self.behaviour()
        try:
            ask = api.read(call)
        except Refusal as refusal:
            if not await self.meet_outage(api, call, connection, send):
                await self._refuse_unread(api, refusal.wire, arrived, came, send)
            return
        visit = self._open_visit(api, call, ask, behaviour, connection, send)
        expected, down = self.scenario.expectations, behaviour.outage is not None
        self.obedience.arrive(
            api.name, visit.owner, visit.request_id, arrived, expected=expected, outage=down
        )
        try:
            await self._serve(visit)
        except CallerLeft:
            visit.outcome = ABANDONED
        finally:
            now = self._clock()
            self.obedience.leave(api.name)
            if down:
                self.obedience.fail(api.name, now, expected=expected, outage=True)
            elif visit.outcome == "ok":
                self.obedience.deliver(visit.identity)
            self.journal.add(
                Entry(
                    number=self.journal.next_number,
                    time=came,
                    seconds=now - arrived,
                    api=api.name,
                    model=ask.model.name,
                    key=ask.key_digest,
                    request_id=visit.request_id,
                    attempt=visit.attempt,
                    outcome=visit.outcome,
                    status=visit.status,
                    prompt_tokens=visit.prompt_tokens,
                    completion_tokens=visit.completion_tokens,
                    billed=visit.billed,
                )
            )

    async def meet_outage(self, api: Api, call: Call, connection: Connection, send: Send) -> bool:
        """Does to a call that asks no model what an outage does to all; False where there is none."""
        outage = self.behaviour().outage
        if outage is None:
            return False
        if outage.trouble is not None:
            wire = api.refuse(outage.trouble, status=outage.status, request_id=call.digest)
            await send_whole(send, wire)
            return True
        if outage.breakage is Breakage.HANG:
            try:
                await self.pauses.pause(HANG_SECONDS, connection)
            except CallerLeft:
                return True
        connection.reset()
        return True

    def _open_visit(
        self, api: Api, call: Call, ask: Ask, behaviour: Behaviour, connection: Connection, send: Send
    ) -> _Visit:
        digest = blake2b(ask.canonical, digest_size=16).digest()
        told, given_id = read_attempt(call.headers), read_request_id(call.headers)
        attempt = self._count_attempt(digest) if told is None else told
        draws = luck = Draws(self.scenario.seed, ask.canonical, told or 0)
        if told is None and attempt > 0:
            # Who asks the same again gets the same answer, but may have better luck this time.
            luck = Draws(self.scenario.seed, ask.canonical, attempt)
        return _Visit(
            api=api,
            ask=ask,
            behaviour=behaviour,
            connection=connection,
            send=send,
            draws=draws,
            luck=luck,
            attempt=attempt,
            request_id=given_id or digest.hex(),
            identity=f"{given_id or ''}/{digest.hex()}",
        )

    def _count_attempt(self, digest: bytes) -> int:
        """How often this was asked before, by callers that do not number their attempts."""
        before = self._attempts.pop(digest, 0)
        self._attempts[digest] = before + 1
        if len(self._attempts) > MAX_REQUESTS_COUNTED:
            self._attempts.popitem(last=False)
        return before

    async def _serve(self, visit: _Visit) -> None:
        behaviour, api = visit.behaviour, visit.api
        if behaviour.outage is not None:
            await self._strike(visit, behaviour.outage)
            return
        try:
            completion = complete(visit.ask, self._judge, visit.draws)
        except SchemaProblem as problem:
            visit.outcome = REFUSED
            await self._send(visit, api.refuse_schema(visit.ask, str(problem)))
            return
        completion = _count(completion, behaviour.tokens, visit.ask)
        rate_headers: dict[str, str] = {}
        if behaviour.limits is not None:
            verdict = self._allowances.ask(
                visit.owner,
                completion.prompt_tokens + completion.completion_tokens,
                behaviour.limits,
                self.seconds_passed(),
                scale=self.scenario.time_scale,
                wall=self._wall(),
            )
            rate_headers = api.rate_headers(verdict.state)
            if verdict.wait_seconds > 0:
                visit.outcome = RATE_LIMITED
                wait = verdict.wait_seconds * self.scenario.time_scale
                await self._refuse(visit, Trouble.RATE_LIMITED, None, wait, rate_headers)
                return
        capacity = behaviour.capacity
        if capacity is not None and self._slots_of(api).is_full(capacity):
            await self._strike(visit, capacity.overflow)
            visit.outcome = OVER_CAPACITY
            return
        fault = behaviour.pick_fault(visit.luck, visit.attempt)
        if fault is not None and (fault.trouble or fault.breakage in (Breakage.RESET, Breakage.HANG)):
            await self._strike(visit, fault)
            return
        await self._work(visit, completion, fault, rate_headers)

    async def _work(
        self, visit: _Visit, completion: Completion, fault: Fault | None, rate_headers: dict[str, str]
    ) -> None:
        """The model writes its answer, and something may happen to that."""
        if fault is not None:
            visit.outcome = fault.name
            if fault.ending is not None:
                completion = bend(completion, fault.ending)
        visit.prompt_tokens = completion.prompt_tokens
        visit.completion_tokens = completion.completion_tokens
        visit.billed = True  # from here on the work is done, whether its caller stays or not
        seconds = await self._take_time(visit, completion)
        if visit.connection.is_gone:
            raise CallerLeft
        completion = replace(completion, processing_ms=round(seconds * 1000))
        wire = visit.api.answer(visit.ask, completion, completion.ending, int(self._wall()))
        wire.headers.update(rate_headers)
        match fault.breakage if fault is not None else None:
            case Breakage.AMBIGUOUS:
                visit.connection.reset()
            case Breakage.RESET_IN_BODY:
                visit.status = wire.status
                await send_half(visit.send, wire, visit.connection)
            case Breakage.DRIP:
                visit.status = wire.status
                rate = visit.behaviour.faults.drip_bytes_per_second / self.scenario.time_scale
                await send_in_drops(visit.send, wire, rate, self.pauses, visit.connection)
                visit.outcome = "ok"
            case _:
                await self._send(visit, wire)

    async def _take_time(self, visit: _Visit, completion: Completion) -> float:
        """Waits for a slot and then for the model; returns the model's real seconds."""
        latency, capacity = visit.behaviour.latency, visit.behaviour.capacity
        seconds = latency.sample(visit.draws, completion.prompt_tokens, completion.completion_tokens)
        seconds *= self.scenario.time_scale
        if capacity is None:
            await self.pauses.pause(seconds, visit.connection)
            return seconds
        slots = self._slots_of(visit.api)
        seconds *= await slots.enter(capacity)
        try:
            await self.pauses.pause(seconds, visit.connection)
        finally:
            slots.leave(self.behaviour().capacity)
        return seconds

    async def _strike(self, visit: _Visit, fault: Fault) -> None:
        """A fault in place of any work."""
        visit.outcome = fault.name
        if fault.trouble is not None:
            wait = visit.behaviour.faults.retry_after_seconds
            advised = None if wait is None or fault.trouble not in ADVISES_WAITING else wait
            if advised is not None:
                advised *= self.scenario.time_scale
            await self._refuse(visit, fault.trouble, fault.status, advised, {})
            return
        if fault.breakage is Breakage.HANG:
            await self.pauses.pause(HANG_SECONDS, visit.connection)
        visit.connection.reset()

    async def _refuse(
        self,
        visit: _Visit,
        trouble: Trouble,
        status: int | None,
        wait_seconds: float | None,
        headers: dict[str, str],
    ) -> None:
        """The vendor's error, with when to come back if that is known (in real seconds)."""
        limits = visit.behaviour.limits
        style = RetryAfterStyle.VENDOR if limits is None else limits.retry_after
        advice = Advice(None, None) if wait_seconds is None else advise(style, wait_seconds, self._wall())
        wire = visit.api.refuse(
            trouble,
            status=status,
            retry_after_seconds=advice.seconds,
            request_id=visit.draws.identifier("request", 32),
        )
        wire = write_advice(wire, advice)
        wire.headers.update(headers)
        await self._send(visit, wire)
        if advice.seconds is not None:
            self.obedience.advise(visit.owner, advice.seconds, self._clock())

    async def _send(self, visit: _Visit, wire: Wire) -> None:
        visit.status = wire.status
        await send_whole(visit.send, wire)
        if visit.connection.is_gone:
            raise CallerLeft

    async def _refuse_unread(self, api: Api, wire: Wire, arrived: float, came: float, send: Send) -> None:
        await send_whole(send, wire)
        self.journal.add(
            Entry(
                self.journal.next_number, came, self._clock() - arrived, api.name, "", "", "", 0, REFUSED,
                wire.status, 0, 0, billed=False,
            )
        )  # fmt: skip

    def _slots_of(self, api: Api) -> Slots:
        return self._slots.setdefault(api.name, Slots())


def _count(completion: Completion, tokens: Tokens, ask: Ask) -> Completion:
    """The completion with the scenario's counts, as far as the caller's limit allows them."""
    if tokens.prompt is None and tokens.completion is None:
        return completion
    written = completion.completion_tokens
    if tokens.completion is not None:
        written = tokens.completion + completion.reasoning_tokens
        written = min(written, ask.max_tokens or written)
    prompt = completion.prompt_tokens if tokens.prompt is None else tokens.prompt
    return replace(
        completion,
        prompt_tokens=prompt,
        cached_tokens=min(completion.cached_tokens, prompt),
        completion_tokens=written,
    )
