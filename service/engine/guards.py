"""The guards of all providers: who may be asked now, and who wakes the pool when that changes."""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from service.contracts.enums import LLMProviderType
from service.core.errors import ProviderFailure
from service.core.guard import FOREVER, Grant, GuardState, Limits, ProviderGuard
from service.core.outcome import ProviderReply
from service.core.pacing import Circuit
from service.core.ports import Clock

_log = structlog.get_logger("service.guard")


@dataclass(frozen=True, slots=True)
class HeldUntil:
    """Until when a provider is not asked, and why."""

    until: datetime | None
    """None until an operator releases it."""
    reason: str


class Guards:
    """Gives leave for calls, one grant a claim, and takes back each grant exactly once."""

    def __init__(
        self,
        limits: Mapping[LLMProviderType, Limits],
        default: LLMProviderType,
        clock: Clock,
        on_change: Callable[[], None],
    ) -> None:
        now = clock.monotonic()
        self._guards = {name: ProviderGuard(one, now) for name, one in limits.items()}
        self._default = default
        self._clock = clock
        self._on_change = on_change
        self._grants: dict[int, tuple[LLMProviderType, Grant]] = {}
        self._timers: dict[LLMProviderType, tuple[float, asyncio.TimerHandle]] = {}

    def admit(self, sequence: int, provider: str | None, tokens: int) -> bool:
        """Whether a call for this request may begin now; a yes must be followed by an end of its grant."""
        name = self._default if provider is None else LLMProviderType(provider)
        guard = self._guards.get(name)
        if guard is None:
            return True  # not configured any more: the processor says so to the caller
        now = self._clock.monotonic()
        grant = guard.admit(tokens, now)
        if grant is None:
            self._wake_later(name, guard.seconds_until_change(now))
            return False
        self._grants[sequence] = (name, grant)
        return True

    def confirm(self, sequence: int) -> bool:
        """Whether an admitted call may still begin, now that its claim is durable; else release it."""
        name, grant = self._grants.get(sequence, (None, None))
        if name is None or grant is None:
            return True  # nobody guards it
        return self._guards[name].still_grants(grant, self._clock.monotonic())

    def release(self, sequence: int) -> None:
        """The request's call was not made, or has no outcome; nothing where its grant has ended already."""
        name, grant = self._grants.pop(sequence, (None, None))
        if name is None or grant is None:
            return
        self._guards[name].release(grant, self._clock.monotonic())
        self._on_change()

    def succeed(self, sequence: int, reply: ProviderReply) -> None:
        """The request's call was answered."""
        name, grant = self._grants.pop(sequence, (None, None))
        if name is None or grant is None:
            return
        guard = self._guards[name]
        before = guard.circuit
        guard.succeed(grant, reply.usage.total_tokens, reply.window, self._clock.monotonic())
        self._tell(name, guard, before)
        self._on_change()

    def fail(self, sequence: int, failure: ProviderFailure) -> bool:
        """The request's call failed; returns whether that is the provider's trouble and not the request's."""
        name, grant = self._grants.pop(sequence, (None, None))
        if name is None or grant is None:
            return False
        guard = self._guards[name]
        now = self._clock.monotonic()
        before = guard.circuit
        trouble = guard.fail(grant, failure, now, random.random())  # noqa: S311 - jitter, not a secret
        self._tell(name, guard, before)
        self._on_change()
        return trouble

    def hold(self, name: LLMProviderType, seconds: float | None) -> None:
        """An operator's word: its requests wait, for so long or until released."""
        until = FOREVER if seconds is None else self._clock.monotonic() + seconds
        self._guards[name].hold(until)
        _log.warning("provider held by an operator", provider=name.value, seconds=seconds)

    def free(self, name: LLMProviderType) -> None:
        """An operator's word: its requests go on, whatever held them."""
        self._guards[name].free()
        _log.warning("provider released by an operator", provider=name.value)
        self._on_change()

    def state(self, name: LLMProviderType) -> GuardState:
        """How the guard of a configured provider stands."""
        return self._guards[name].state(self._clock.monotonic())

    def held_until(self, name: LLMProviderType) -> HeldUntil | None:
        """Until when a provider is not asked; None where it is."""
        state = self.state(name)
        if state.held_seconds is None or state.hold_reason is None:
            return None
        endless = state.held_seconds == FOREVER
        until = None if endless else self._clock.now() + timedelta(seconds=state.held_seconds)
        return HeldUntil(until, state.hold_reason.value)

    def _wake_later(self, name: LLMProviderType, seconds: float | None) -> None:
        if seconds is None:
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + seconds
        pending = self._timers.get(name)
        if pending is not None:
            due, timer = pending
            if due <= at:
                return
            timer.cancel()
        self._timers[name] = at, loop.call_at(at, self._wake, name)

    def _wake(self, name: LLMProviderType) -> None:
        # Timers may run a little early: whoever is refused then must be able to set the next one.
        del self._timers[name]
        self._on_change()

    def _tell(self, name: LLMProviderType, guard: ProviderGuard, before: Circuit) -> None:
        circuit = guard.circuit
        if circuit is not before and circuit is not Circuit.HALF_OPEN:
            opened = circuit is Circuit.OPEN and before is Circuit.CLOSED
            if opened:
                _log.error("provider fails, its requests wait", provider=name.value, circuit="open")
            elif circuit is Circuit.CLOSED:
                _log.info("provider answers again", provider=name.value, circuit="closed")
