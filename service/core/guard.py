"""One provider's guard: decides which calls may begin, and learns from how they end. Pure; told the time.

Reasons why a call may not begin now: an operator holds the provider; it asked us to wait; its quota is used
up; its circuit is open; as many calls are under way as it can take; the requests or tokens of this minute are
used up. In each case its requests stay in the queue, with their order and deadlines, and cost no attempt.
"""

from dataclasses import dataclass
from enum import StrEnum

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import ProviderFailure
from service.core.outcome import RateWindow
from service.core.pacing import AdaptiveLimit, Circuit, CircuitBreaker, Rates

FIRST_RATE_PAUSE_SECONDS = 1.0
LONGEST_RATE_PAUSE_SECONDS = 30.0
FIRST_QUOTA_PAUSE_SECONDS = 60.0
LONGEST_QUOTA_PAUSE_SECONDS = 900.0
OVERLOADED_STATUSES = frozenset({429, 503, 529})
FOREVER = float("inf")


class HoldReason(StrEnum):
    """Why a provider is not asked until a moment."""

    OPERATOR = "operator"
    RATE_LIMIT = "rate_limit"
    QUOTA = "quota"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a provider may be asked, as configured; None is no limit."""

    max_concurrency: int
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave for one call; ends with `settle` or `release`."""

    tokens: int
    probe: bool


@dataclass(frozen=True, slots=True)
class GuardState:
    """How a guard stands, for operators."""

    circuit: Circuit
    held_seconds: float | None
    """How long it is still held: infinite until released, None where it is not."""
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
        self._told = RateWindow()
        """What the provider said last of its limits."""
        self._told_rates: Rates | None = None
        """Its own rates, kept to once it has refused a call for them."""
        self._breaker = CircuitBreaker()
        self._under_way = 0
        self._operator_until: float | None = None
        self._paused_until = 0.0
        self._pause_reason = HoldReason.RATE_LIMIT
        self._pauses = 0
        """How many refusals for the same reason came in a row."""

    def admit(self, tokens: int, now: float) -> Grant | None:
        """Leave for a call that is estimated at so many tokens, or None where it has to wait."""
        if self._held_until(now) > now or not self._breaker.may_call(now):
            return None
        if self._under_way >= self._concurrency.current:
            return None
        rates = self._all_rates()
        if not all(one.may_take(now) for one in rates):
            return None
        for one in rates:
            one.take(tokens, now)
        self._under_way += 1
        return Grant(tokens, self._breaker.begin(now))

    def still_grants(self, grant: Grant, now: float) -> bool:
        """Whether the call may begin even now: a refusal may have come since it was admitted."""
        if self._held_until(now) > now:
            return False
        return grant.probe or self._breaker.circuit is Circuit.CLOSED

    def release(self, grant: Grant, now: float) -> None:
        """The call was not made, or cut off without an outcome."""
        self._under_way -= 1
        if grant.probe:
            self._breaker.abandon_probe()
        for one in self._all_rates():
            one.give_back(grant.tokens, now)

    def succeed(self, grant: Grant, tokens: int, window: RateWindow | None, now: float) -> None:
        """The call was answered and took so many tokens; `window` is what the provider says of its limits."""
        self._end(grant, tokens or grant.tokens, now)
        self._pauses = 0
        self._concurrency.succeed()
        if self._breaker.succeed(probe=grant.probe):
            self._concurrency.restart()
        if window is not None:
            self._obey(window, now)

    def fail(self, grant: Grant, failure: ProviderFailure, now: float, jitter: float) -> bool:
        """The call failed; returns whether that is the provider's trouble and none of the request's.

        `jitter` is in [0, 1).
        """
        under_way = self._under_way
        self._end(grant, failure.usage.total_tokens or grant.tokens, now)
        if failure.code is LLMErrorCode.PROVIDER_RATE_LIMIT:
            if grant.probe:
                self._breaker.close()  # it answers: from here on the pause is what holds it
            self._pause(failure, now, jitter)
            self._keep_to_told(now)
            self._concurrency.overload(under_way, now)
            return True
        if failure.code in _OUT_OF_ORDER:
            if failure.details.get("status") in OVERLOADED_STATUSES:
                self._concurrency.overload(under_way, now)
                if failure.retry_after_seconds:
                    self._pause(failure, now, jitter)
            self._breaker.fail(now, jitter, probe=grant.probe)
            return self._breaker.circuit is not Circuit.CLOSED
        # Any other answer is a sign of life, whatever it says of this one request.
        if self._breaker.succeed(probe=grant.probe):
            self._concurrency.restart()
        return False

    def hold(self, until: float) -> None:
        """An operator's word: no call until then, `FOREVER` until released."""
        self._operator_until = until

    def free(self) -> None:
        """An operator's word: calls may begin, whatever held them; the circuit is closed."""
        self._operator_until = None
        self._paused_until = 0.0
        self._pauses = 0
        if self._breaker.circuit is not Circuit.CLOSED:
            self._breaker.close()
            self._concurrency.restart()

    def seconds_until_change(self, now: float) -> float | None:
        """When `admit` may say yes by the mere passing of time; None where that does not help."""
        waits = [
            self._held_until(now) - now,
            self._breaker.opens_at - now if self._breaker.circuit is Circuit.OPEN else 0.0,
            *(one.seconds_until_open(now) for one in self._all_rates()),
        ]
        wait = max(waits)
        return wait if 0.0 < wait < FOREVER else None

    @property
    def circuit(self) -> Circuit:
        """Whether calls are made at all."""
        return self._breaker.circuit

    def state(self, now: float) -> GuardState:
        """How it stands."""
        held_seconds = self._held_until(now) - now
        operator = self._operator_until is not None and self._operator_until > now
        reason = HoldReason.OPERATOR if operator else self._pause_reason
        return GuardState(
            circuit=self._breaker.circuit,
            held_seconds=held_seconds if held_seconds > 0 else None,
            hold_reason=reason if held_seconds > 0 else None,
            under_way=self._under_way,
            concurrency_limit=self._concurrency.current,
            limits=self._limits,
        )

    def _held_until(self, now: float) -> float:
        operator = self._operator_until if self._operator_until is not None else now
        return max(operator, self._paused_until)

    def _end(self, grant: Grant, tokens: int, now: float) -> None:
        self._under_way -= 1
        for one in self._all_rates():
            one.settle(grant.tokens, tokens, now)

    def _all_rates(self) -> tuple[Rates, ...]:
        return (self._rates,) if self._told_rates is None else (self._rates, self._told_rates)

    def _keep_to_told(self, now: float) -> None:
        """From here on no faster than the provider says, so that it need not refuse again."""
        told = self._told
        if self._told_rates is None and (told.requests_per_minute or told.tokens_per_minute):
            self._told_rates = Rates(told.requests_per_minute, told.tokens_per_minute, now)

    def _pause(self, failure: ProviderFailure, now: float, jitter: float) -> None:
        quota = bool(failure.details.get("quota_used_up"))
        reason = HoldReason.QUOTA if quota else HoldReason.RATE_LIMIT
        if self._paused_until > now and failure.retry_after_seconds is None and reason is self._pause_reason:
            return  # one of many that were under way together: the pause that the first began stands
        first, longest = (
            (FIRST_QUOTA_PAUSE_SECONDS, LONGEST_QUOTA_PAUSE_SECONDS)
            if quota
            else (FIRST_RATE_PAUSE_SECONDS, LONGEST_RATE_PAUSE_SECONDS)
        )
        asked = failure.retry_after_seconds
        seconds = min(longest, first * 2.0 ** min(self._pauses, 16)) * (0.5 + 0.5 * jitter)
        self._pauses += 1
        self._pause_reason = reason
        self._paused_until = max(self._paused_until, now + (seconds if asked is None else asked))

    def _obey(self, window: RateWindow, now: float) -> None:
        """What the provider says is used up is not asked for before it is reset."""
        if self._told_rates is not None and (_is_ample(window) or _tells_other_rates(window, self._told)):
            self._told_rates = None
        self._told = window
        for remaining, reset_seconds in (
            (window.remaining_requests, window.requests_reset_seconds),
            (window.remaining_tokens, window.tokens_reset_seconds),
        ):
            if remaining == 0 and reset_seconds is not None:
                self._pause_reason = HoldReason.RATE_LIMIT
                self._paused_until = max(self._paused_until, now + reset_seconds)
                self._keep_to_told(now)


_OUT_OF_ORDER = frozenset({LLMErrorCode.PROVIDER_UNAVAILABLE, LLMErrorCode.PROVIDER_TIMEOUT})


def _is_ample(window: RateWindow) -> bool:
    """Whether more than half of each limit is left: then a minute's worth may go out at once again."""
    limits = (
        (window.remaining_requests, window.requests_per_minute),
        (window.remaining_tokens, window.tokens_per_minute),
    )
    return all(limit is None or (remaining or 0) > limit / 2 for remaining, limit in limits)


def _tells_other_rates(window: RateWindow, before: RateWindow) -> bool:
    return (window.requests_per_minute, window.tokens_per_minute) != (
        before.requests_per_minute,
        before.tokens_per_minute,
    )
