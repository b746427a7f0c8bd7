"""Limits the calls to one model of a provider, because vendors count rates by model.

Pure; the time is an argument.
"""

from collections import deque

from service.core.errors import ProviderFailure
from service.core.outcome import RateWindow
from service.core.pacing import AdaptiveLimit, Rates
from service.core.pause import HoldReason, Pause

RECENT_CALLS = 20
LEAST_SHARE_REFUSED = 0.2


class ModelLimits:
    """Learns a model's limits from how its calls end.

    A refusal holds back only its own request until another request is refused too: some are about the size or
    the cost of a single request, and vendors rarely say so. From then on the model is paused.
    """

    def __init__(self, max_concurrency: int) -> None:
        self.concurrency = AdaptiveLimit(max_concurrency)
        self.under_way = 0
        self.pause = Pause()
        self.rates: Rates | None = None
        """The rates that the provider reports, kept to once it has refused calls for them."""
        self._reported = RateWindow()
        self._recent: deque[int | None] = deque(maxlen=RECENT_CALLS)
        """The requests that were refused among the last calls; None for a call that was answered."""

    def may_begin(self, now: float) -> bool:
        """Whether a call may begin now."""
        if self.pause.until > now or self.under_way >= self.concurrency.current:
            return False
        return self.rates is None or self.rates.may_take(now)

    def seconds_until_change(self, now: float) -> float:
        """How long the pause or the rates still hold calls back."""
        rates = 0.0 if self.rates is None else self.rates.seconds_until_open(now)
        return max(self.pause.until - now, rates)

    def succeed(self, window: RateWindow | None, now: float) -> None:
        """Records a call that was answered; `window` is what the provider reports of its limits."""
        self._recent.append(None)
        self.pause.note_success()
        self.concurrency.succeed()
        if window is not None:
            self._obey(window, now)

    def refuse(
        self, request: int, failure: ProviderFailure, under_way: int, now: float, jitter: float
    ) -> None:
        """Records a refusal for a rate or a quota, with so many calls under way when it came."""
        self._recent.append(request)
        if not self._concerns_all():
            return
        self.pause.begin(failure, now, jitter)
        self._keep_to_reported(now)
        self.concurrency.overload(under_way, now)

    def reset(self) -> None:
        """Ends the pause and forgets the refusals."""
        self.pause.end()
        self._recent.clear()

    def _concerns_all(self) -> bool:
        refused = {request for request in self._recent if request is not None}
        return len(refused) >= max(2, LEAST_SHARE_REFUSED * len(self._recent))

    def _keep_to_reported(self, now: float) -> None:
        reported = self._reported
        if self.rates is None and (reported.requests_per_minute or reported.tokens_per_minute):
            self.rates = Rates(reported.requests_per_minute, reported.tokens_per_minute, now)

    def _obey(self, window: RateWindow, now: float) -> None:
        """Doesn't call again before the reset what the provider reports as used up."""
        if self.rates is not None and (_is_ample(window) or _has_other_rates(window, self._reported)):
            self.rates = None
        self._reported = window
        for remaining, reset_seconds in (
            (window.remaining_requests, window.requests_reset_seconds),
            (window.remaining_tokens, window.tokens_reset_seconds),
        ):
            if remaining == 0 and reset_seconds is not None:
                self.pause.extend(now + reset_seconds, HoldReason.RATE_LIMIT)
                self._keep_to_reported(now)


def _is_ample(window: RateWindow) -> bool:
    """Whether more than half of each limit is left: then a minute's worth may go out at once again."""
    limits = (
        (window.remaining_requests, window.requests_per_minute),
        (window.remaining_tokens, window.tokens_per_minute),
    )
    return all(limit is None or (remaining or 0) > limit / 2 for remaining, limit in limits)


def _has_other_rates(window: RateWindow, before: RateWindow) -> bool:
    return (window.requests_per_minute, window.tokens_per_minute) != (
        before.requests_per_minute,
        before.tokens_per_minute,
    )
