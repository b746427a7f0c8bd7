"""What a refusal holds back: its request alone, its model, or the provider."""

import pytest

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import ProviderFailure
from service.core.guard import Limits, Permit, ProviderGuard
from service.core.outcome import RateWindow
from service.core.pause import HoldReason

NOTHING_LEFT = RateWindow(remaining_requests=0, requests_reset_seconds=40.0)


def refusal(after: float | None = None, *, of_account: bool = False) -> ProviderFailure:
    return ProviderFailure(
        LLMErrorCode.PROVIDER_RATE_LIMIT, "no", True, after, of_account=of_account, details={"status": 429}
    )


class Provider:
    """A guard whose calls begin and end at the same moment."""

    def __init__(self) -> None:
        self.guard = ProviderGuard(Limits(max_concurrency=100), 0.0)

    def admit(self, request: int, now: float = 0.0, model: str = "a") -> Permit | None:
        return self.guard.admit(request, model, 1, now)

    def refuse(self, request: int, now: float = 0.0, after: float | None = None, model: str = "a") -> None:
        permit = self.admit(request, now, model)
        assert permit is not None
        assert self.guard.fail(permit, refusal(after), now, 1.0)

    def answer(
        self, request: int, now: float = 0.0, model: str = "a", window: RateWindow | None = None
    ) -> None:
        permit = self.admit(request, now, model)
        assert permit is not None
        self.guard.succeed(permit, 1, window, now)


@pytest.mark.parametrize("after", [None, 0.0, 30.0])
def test_a_request_that_alone_is_refused_holds_back_no_other(after: float | None) -> None:
    provider = Provider()
    for other in range(100, 200):
        provider.refuse(1, after=after)
        provider.answer(other)
    assert provider.guard.state(0.0).held_seconds is None
    assert provider.guard.state(0.0).concurrency_limit == 100


@pytest.mark.parametrize(("after", "paused_seconds"), [(None, 1.0), (0.0, 1.0), (0.002, 1.0), (7.0, 7.0)])
def test_a_second_refused_request_pauses_the_model_and_an_asked_wait_is_a_floor(
    after: float | None, paused_seconds: float
) -> None:
    provider = Provider()
    provider.refuse(1, after=after)
    provider.refuse(2, after=after)
    assert provider.admit(3, paused_seconds - 0.001) is None
    assert provider.guard.seconds_until_change("a", 0.0) == pytest.approx(paused_seconds)
    assert provider.admit(3, paused_seconds) is not None


def test_refusals_without_a_wait_are_probed_ever_more_rarely() -> None:
    """However often a provider asks for a wait of nothing."""
    provider = Provider()
    now, calls = 0.0, 0
    while now < 12.0:
        if provider.admit(calls, now) is None:
            now += 0.01
            continue
        provider.guard.fail(Permit(calls, "a", 1, probe=False), refusal(0.0), now, 1.0)
        calls += 1
    assert calls <= 6


def test_a_refusal_of_one_model_leaves_the_others() -> None:
    provider = Provider()
    provider.answer(9, model="b")
    provider.refuse(1)
    provider.refuse(2)
    assert provider.admit(3) is None
    assert provider.admit(3, model="b") is not None
    assert provider.guard.state(0.0).held_seconds is None


def test_a_used_up_quota_of_the_account_holds_every_model_at_once() -> None:
    provider = Provider()
    provider.answer(9, model="b")
    permit = provider.admit(1)
    assert permit is not None
    provider.guard.fail(permit, refusal(of_account=True), 0.0, 1.0)
    assert provider.admit(2, model="b") is None
    assert provider.guard.state(0.0).hold_reason is HoldReason.RATE_LIMIT


def test_what_a_model_reports_as_used_up_waits_for_its_reset() -> None:
    provider = Provider()
    provider.answer(1, window=NOTHING_LEFT)
    assert provider.admit(2, 39.0) is None
    assert provider.admit(2, 39.0, model="b") is not None
    assert provider.admit(2, 40.0) is not None


def test_an_operator_frees_every_model() -> None:
    provider = Provider()
    provider.refuse(1, after=600.0)
    provider.refuse(2, after=600.0)
    provider.guard.free()
    assert provider.admit(3) is not None
