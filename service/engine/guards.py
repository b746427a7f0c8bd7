"""Admits calls to all providers, and wakes the pool when that changes."""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from service.contracts.enums import LLMProviderType
from service.core.errors import ProviderFailure
from service.core.guard import FOREVER, GuardState, Limits, Permit, ProviderGuard
from service.core.outcome import ProviderReply
from service.core.pacing import Circuit
from service.core.ports import Clock

_PROVIDERS = {name.value: name for name in LLMProviderType}

_log = structlog.get_logger("service.guard")


@dataclass(frozen=True, slots=True)
class HeldUntil:
    """Until when a provider is not asked, and why."""

    until: datetime | None
    """None until an operator releases it."""
    reason: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a failed call says beyond its own request."""

    paused_seconds: float = 0.0
    """How long no call of the same model is made."""


class Guards:
    """Grants permits for calls, one a claim, and ends each exactly once."""

    def __init__(
        self,
        limits: Mapping[LLMProviderType, Limits],
        default: LLMProviderType,
        clock: Clock,
        on_change: Callable[[], None],
        default_models: Mapping[LLMProviderType, str],
    ) -> None:
        now = clock.monotonic()
        self._guards = {name: ProviderGuard(one, now) for name, one in limits.items()}
        self._default = default
        self._default_models = default_models
        self._clock = clock
        self._on_change = on_change
        self._permits: dict[int, tuple[LLMProviderType, Permit]] = {}
        self._timers: dict[LLMProviderType, tuple[float, asyncio.TimerHandle]] = {}

    def admit(self, sequence: int, provider: str | None, model: str | None, tokens: int) -> bool:
        """Whether a call for this request may begin now; a yes must be followed by an end of its permit."""
        name = self._default if provider is None else _PROVIDERS.get(provider)
        guard = None if name is None else self._guards.get(name)
        if guard is None or name is None:
            return True  # not configured any more: the processor says so to the caller
        now = self._clock.monotonic()
        model = model or self._default_models[name]
        permit = guard.admit(sequence, model, tokens, now)
        if permit is None:
            self._wake_later(name, guard.seconds_until_change(model, now))
            return False
        self._permits[sequence] = (name, permit)
        return True

    def confirm(self, sequence: int) -> bool:
        """Whether an admitted call may still begin, now that its claim is durable; else release it."""
        name, permit = self._permits.get(sequence, (None, None))
        if name is None or permit is None:
            return True  # nobody guards it
        return self._guards[name].still_permits(permit, self._clock.monotonic())

    def release(self, sequence: int) -> None:
        """Ends the permit of a call that was not made, or has no outcome, if it hasn't ended already."""
        name, permit = self._permits.pop(sequence, (None, None))
        if name is None or permit is None:
            return
        self._guards[name].release(permit, self._clock.monotonic())
        self._on_change()

    def succeed(self, sequence: int, reply: ProviderReply) -> None:
        """Ends the permit of a call that was answered."""
        name, permit = self._permits.pop(sequence, (None, None))
        if name is None or permit is None:
            return
        guard = self._guards[name]
        before = guard.circuit
        guard.succeed(permit, reply.usage.total_tokens, reply.window, self._clock.monotonic())
        self._tell(name, guard, before)
        self._on_change()

    def fail(self, sequence: int, failure: ProviderFailure) -> Trouble | None:
        """Ends the permit of a call that failed; returns None if only the request itself can be at fault."""
        name, permit = self._permits.pop(sequence, (None, None))
        if name is None or permit is None:
            return None
        guard = self._guards[name]
        now = self._clock.monotonic()
        before = guard.circuit
        trouble = guard.fail(permit, failure, now, random.random())  # noqa: S311 - jitter, not a secret
        self._tell(name, guard, before)
        self._on_change()
        return Trouble(guard.paused_seconds(permit.model, now)) if trouble else None

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
