"""Admits the calls to one provider and learns from how they end. Pure; the time is an argument.

A call waits if an operator holds the provider, if the provider or the model is paused after refusals, if
the circuit is open, if as many calls are under way as it can take, or if this minute's requests or tokens are
used up. Its request stays in the queue, with its place and its deadline, and no attempt is counted.
"""

from collections import defaultdict
from dataclasses import dataclass

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import ProviderFailure
from service.core.model_limits import ModelLimits
from service.core.outcome import RateWindow
from service.core.pacing import AdaptiveLimit, Circuit, CircuitBreaker, Rates
from service.core.pause import HoldReason, Pause

OVERLOADED_STATUSES = frozenset({429, 503, 529})
FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class Limits:
    """The configured limits of a provider; None is no limit."""

    max_concurrency: int
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to make one call; ends with `succeed`, `fail` or `release`."""

    request: int
    """Names the request that the call is for."""
    model: str
    tokens: int
    probe: bool


@dataclass(frozen=True, slots=True)
class GuardState:
    """The state of a guard, for operators."""

    circuit: Circuit
    held_seconds: float | None
    """How long it is still held: infinite until released, None if it isn't."""
    hold_reason: HoldReason | None
    under_way: int
    concurrency_limit: int
    limits: Limits


class ProviderGuard:
    """Admits calls to one provider."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._concurrency = AdaptiveLimit(limits.max_concurrency)
        self._rates = Rates(limits.requests_per_minute, limits.tokens_per_minute, now)
        self._models: defaultdict[str, ModelLimits] = defaultdict(lambda: ModelLimits(limits.max_concurrency))
        """By name; admission knows every model, so they are few."""
        self._breaker = CircuitBreaker()
        self._under_way = 0
        self._operator_until: float | None = None
        self._pause = Pause()

    def admit(self, request: int, model: str, tokens: int, now: float) -> Permit | None:
        """Returns a permit for a call that is estimated at so many tokens, None if it has to wait."""
        of_model = self._models[model]
        if self._held_until(now) > now or not self._breaker.may_call(now):
            return None
        if self._under_way >= self._concurrency.current or not of_model.may_begin(now):
            return None
        if not self._rates.may_take(now):
            return None
        for rates in self._all_rates(of_model):
            rates.take(tokens, now)
        self._under_way += 1
        of_model.under_way += 1
        return Permit(request, model, tokens, self._breaker.begin(now))

    def still_permits(self, permit: Permit, now: float) -> bool:
        """Whether the call may begin even now: a refusal may have come since it was admitted."""
        if self._held_until(now) > now or self._models[permit.model].pause.until > now:
            return False
        return permit.probe or self._breaker.circuit is Circuit.CLOSED

    def release(self, permit: Permit, now: float) -> None:
        """Ends the permit of a call that was not made, or cut off without an outcome."""
        of_model = self._models[permit.model]
        self._under_way -= 1
        of_model.under_way -= 1
        if permit.probe:
            self._breaker.abandon_probe()
        for rates in self._all_rates(of_model):
            rates.give_back(permit.tokens, now)

    def succeed(self, permit: Permit, tokens: int, window: RateWindow | None, now: float) -> None:
        """Ends the permit of a call that was answered and used so many tokens, 0 if that is unknown.

        `window` is what the provider reports of its limits.
        """
        self._settle(permit, tokens or permit.tokens, now)
        self._pause.note_success()
        self._concurrency.succeed()
        if self._breaker.succeed(probe=permit.probe):
            self._concurrency.restart()
        self._models[permit.model].succeed(window, now)

    def fail(self, permit: Permit, failure: ProviderFailure, now: float, jitter: float) -> bool:
        """Ends the permit of a call that failed; returns whether it may not be the request's own fault.

        `jitter` is in [0, 1).
        """
        of_model = self._models[permit.model]
        under_way, under_way_of_model = self._under_way, of_model.under_way
        self._settle(permit, failure.usage.total_tokens or permit.tokens, now)
        if failure.code is LLMErrorCode.PROVIDER_RATE_LIMIT:
            if permit.probe:
                self._breaker.close()  # it answers: from here on the pause is what holds calls back
            if failure.of_account:
                self._pause.begin(failure, now, jitter)
            else:
                of_model.refuse(permit.request, failure, under_way_of_model, now, jitter)
            return True
        if failure.code in _OUT_OF_ORDER:
            if failure.details.get("status") in OVERLOADED_STATUSES:
                self._concurrency.overload(under_way, now)
                if failure.retry_after_seconds:
                    self._pause.begin(failure, now, jitter)
            self._breaker.fail(now, jitter, probe=permit.probe)
            return self._breaker.circuit is not Circuit.CLOSED
        # Any other answer is a sign of life, whatever it says of this one request.
        if self._breaker.succeed(probe=permit.probe):
            self._concurrency.restart()
        return False

    def hold(self, until: float) -> None:
        """Holds all calls until then, `FOREVER` until released."""
        self._operator_until = until

    def free(self) -> None:
        """Lets calls begin, whatever held them, and closes the circuit."""
        self._operator_until = None
        self._pause.end()
        for of_model in self._models.values():
            of_model.reset()
        if self._breaker.circuit is not Circuit.CLOSED:
            self._breaker.close()
            self._concurrency.restart()

    def paused_seconds(self, model: str, now: float) -> float:
        """How long no call to a model is made."""
        opens_at = self._breaker.opens_at if self._breaker.circuit is Circuit.OPEN else now
        return max(0.0, max(opens_at, self._pause.until, self._models[model].pause.until) - now)

    def seconds_until_change(self, model: str, now: float) -> float | None:
        """When `admit` may succeed by the mere passing of time; None if that doesn't help."""
        wait = max(
            self._held_until(now) - now,
            self._breaker.opens_at - now if self._breaker.circuit is Circuit.OPEN else 0.0,
            self._rates.seconds_until_open(now),
            self._models[model].seconds_until_change(now),
        )
        return wait if 0.0 < wait < FOREVER else None

    @property
    def circuit(self) -> Circuit:
        """Whether calls are made at all."""
        return self._breaker.circuit

    def state(self, now: float) -> GuardState:
        """Returns the state. The provider counts as held as soon as each model that was called is paused."""
        pauses = [of_model.pause for of_model in self._models.values()]
        shortest = min(pauses, key=lambda pause: pause.until, default=self._pause)
        pause = max(self._pause, shortest, key=lambda pause: pause.until)
        operator_until = self._operator_until or 0.0
        held_seconds = max(operator_until, pause.until) - now
        reason = HoldReason.OPERATOR if operator_until > now else pause.reason
        of_models = sum(of_model.concurrency.current for of_model in self._models.values())
        return GuardState(
            circuit=self._breaker.circuit,
            held_seconds=held_seconds if held_seconds > 0 else None,
            hold_reason=reason if held_seconds > 0 else None,
            under_way=self._under_way,
            concurrency_limit=min(self._concurrency.current, of_models or self._concurrency.current),
            limits=self._limits,
        )

    def _held_until(self, now: float) -> float:
        operator = self._operator_until if self._operator_until is not None else now
        return max(operator, self._pause.until)

    def _settle(self, permit: Permit, tokens: int, now: float) -> None:
        of_model = self._models[permit.model]
        self._under_way -= 1
        of_model.under_way -= 1
        for rates in self._all_rates(of_model):
            rates.settle(permit.tokens, tokens, now)

    def _all_rates(self, of_model: ModelLimits) -> tuple[Rates, ...]:
        return (self._rates,) if of_model.rates is None else (self._rates, of_model.rates)


_OUT_OF_ORDER = frozenset({LLMErrorCode.PROVIDER_UNAVAILABLE, LLMErrorCode.PROVIDER_TIMEOUT})
