"""One provider's guard: what it admits, what it learns, and that every grant ends once."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import ProviderFailure
from service.core.guard import FOREVER, Limits, Permit, ProviderGuard
from service.core.outcome import RateWindow
from service.core.pacing import Circuit
from service.core.pause import HoldReason

REQUESTS = itertools.count()


def guard(**limits: float) -> ProviderGuard:
    return ProviderGuard(Limits(**{"max_concurrency": 10, **limits}), 0.0)


def refused(
    code: LLMErrorCode = LLMErrorCode.PROVIDER_RATE_LIMIT, after: float | None = None, **details: object
) -> ProviderFailure:
    return ProviderFailure(code, "no", retryable=True, retry_after_seconds=after, details=dict(details))


def admit(guarded: ProviderGuard, now: float = 0.0, tokens: int = 1) -> Permit:
    """A permit for another request each time."""
    permit = guarded.admit(next(REQUESTS), "m", tokens, now)
    assert permit is not None
    return permit


def refuse(
    guarded: ProviderGuard, failure: ProviderFailure, now: float, jitter: float, times: int = 2
) -> None:
    """Refuses so many requests at once: enough for it to concern more than one."""
    for permit in [admit(guarded, now) for _ in range(times)]:
        assert guarded.fail(permit, failure, now, jitter)


def open_circuit(guarded: ProviderGuard) -> None:
    """Opens the circuit at time 0, for a second."""
    for _ in range(6):
        guarded.fail(admit(guarded), refused(LLMErrorCode.PROVIDER_UNAVAILABLE), 0.0, 1.0)
    assert guarded.state(0.0).circuit is Circuit.OPEN


def test_no_more_calls_at_once_than_configured() -> None:
    guarded = guard(max_concurrency=2)
    first, second = admit(guarded), admit(guarded)
    assert guarded.admit(0, "m", 1, 0.0) is None

    guarded.succeed(first, 1, None, 0.0)
    third = admit(guarded)
    guarded.release(second, 0.0)
    admit(guarded)
    assert guarded.admit(0, "m", 1, 0.0) is None
    guarded.fail(third, refused(LLMErrorCode.INVALID_RESPONSE), 0.0, 0.0)
    admit(guarded)


def test_retry_after_holds_all_calls() -> None:
    """Also those that were admitted before the refusal."""
    guarded = guard()
    waiting = admit(guarded)
    assert guarded.still_permits(waiting, 1.0)
    refuse(guarded, refused(after=7.0), 1.0, 0.0)

    assert guarded.admit(0, "m", 1, 7.9) is None
    assert not guarded.still_permits(waiting, 7.9)
    assert guarded.still_permits(waiting, 8.1)
    guarded.release(waiting, 8.1)
    assert guarded.seconds_until_change("m", 1.0) == pytest.approx(7.0)
    assert guarded.state(2.0).hold_reason is HoldReason.RATE_LIMIT
    admit(guarded, 8.1)


def test_open_circuit_revokes_all_permits_but_the_probe() -> None:
    guarded = guard()
    waiting = admit(guarded)
    open_circuit(guarded)
    assert not guarded.still_permits(waiting, 0.0)

    guarded.release(waiting, 0.0)
    probe = admit(guarded, 5.0)

    assert probe.probe
    assert guarded.still_permits(probe, 5.0)


def test_rate_limit_without_a_time_pauses_longer_each_time() -> None:
    """Exponential with jitter; calls that were under way together count once."""
    guarded = guard()
    together = [admit(guarded) for _ in range(5)]
    for grant in together:
        guarded.fail(grant, refused(), 0.0, 1.0)
    assert guarded.seconds_until_change("m", 0.0) == pytest.approx(1.0)

    guarded.fail(admit(guarded, 1.0), refused(), 1.0, 1.0)
    assert guarded.seconds_until_change("m", 1.0) == pytest.approx(2.0)


def test_used_up_quota_holds_longer_and_costs_no_attempt() -> None:
    guarded = guard()
    refuse(guarded, refused(quota_used_up=True), 0.0, 1.0)

    assert guarded.state(1.0).hold_reason is HoldReason.QUOTA
    assert guarded.admit(0, "m", 1, 59.0) is None
    guarded.fail(admit(guarded, 61.0), refused(quota_used_up=True), 61.0, 1.0)
    assert guarded.admit(0, "m", 1, 180.0) is None
    admit(guarded, 182.0)


@pytest.mark.parametrize("status", [429, 503, 529])
def test_overload_halves_the_calls_at_once(status: int) -> None:
    code = LLMErrorCode.PROVIDER_RATE_LIMIT if status == 429 else LLMErrorCode.PROVIDER_UNAVAILABLE
    guarded = guard()
    grants = [admit(guarded) for _ in range(10)]
    for grant in grants[:2]:
        guarded.fail(grant, refused(code, status=status), 0.0, 0.0)
    assert guarded.state(0.0).concurrency_limit == (4 if status == 429 else 5)


def test_attempts_count_until_the_circuit_opens() -> None:
    """Six failures of the last twenty calls, and half of them."""
    guarded = guard()
    grants = [admit(guarded) for _ in range(10)]
    down = refused(LLMErrorCode.PROVIDER_UNAVAILABLE)
    verdicts = [guarded.fail(grant, down, 0.0, 1.0) for grant in grants]

    assert verdicts == [False] * 5 + [True] * 5
    assert guarded.state(0.0).circuit is Circuit.OPEN
    assert guarded.admit(0, "m", 1, 0.5) is None
    probe = admit(guarded, 1.1)
    assert guarded.admit(0, "m", 1, 1.1) is None
    assert guarded.fail(probe, down, 1.2, 1.0)
    back = admit(guarded, 3.3)
    guarded.succeed(back, 1, None, 3.4)
    assert guarded.state(3.4).circuit is Circuit.CLOSED
    assert guarded.state(3.4).concurrency_limit == 4


@pytest.mark.parametrize(
    "code", [LLMErrorCode.INVALID_RESPONSE, LLMErrorCode.PROVIDER_API_ERROR, LLMErrorCode.CONTENT_TOO_LONG]
)
def test_failure_of_one_request_counts_and_closes_a_circuit(code: LLMErrorCode) -> None:
    guarded = guard()
    open_circuit(guarded)
    probe = admit(guarded, 1.1)
    assert not guarded.fail(probe, refused(code), 1.2, 0.0)
    assert guarded.state(1.2).circuit is Circuit.CLOSED


def test_used_up_window_is_waited_for() -> None:
    guarded = guard()
    guarded.succeed(admit(guarded), 1, RateWindow(remaining_requests=0, requests_reset_seconds=3.0), 0.0)
    assert guarded.admit(0, "m", 1, 2.9) is None
    guarded.succeed(
        admit(guarded, 3.1), 1, RateWindow(remaining_requests=5, requests_reset_seconds=60.0), 3.1
    )
    admit(guarded, 3.2)


def test_tokens_are_reserved_and_settled_on_what_was_used() -> None:
    """An estimate that was too high gives its rest back; a failed call without usage keeps its estimate."""
    guarded = guard(tokens_per_minute=600.0)
    generous = admit(guarded, tokens=500)
    assert guarded.admit(0, "m", 1, 1.0) is None
    guarded.succeed(generous, 2, None, 1.0)
    failed = admit(guarded, 1.0, tokens=100)
    guarded.fail(failed, refused(LLMErrorCode.PROVIDER_TIMEOUT), 1.0, 0.0)
    assert guarded.admit(0, "m", 1, 2.0) is None


def test_operator_holds_and_releases() -> None:
    guarded = guard()
    guarded.hold(FOREVER)
    assert guarded.admit(0, "m", 1, 1e9) is None
    assert (guarded.seconds_until_change("m", 0.0), guarded.state(0.0).hold_reason) == (
        None,
        HoldReason.OPERATOR,
    )
    guarded.free()
    admit(guarded)

    guarded.hold(5.0)
    assert guarded.admit(0, "m", 1, 4.0) is None
    admit(guarded, 5.1)


def test_release_ends_every_hold() -> None:
    guarded = guard()
    open_circuit(guarded)
    guarded.free()
    assert guarded.state(0.0).circuit is Circuit.CLOSED
    guarded.fail(admit(guarded), refused(after=1000.0), 0.0, 0.0)
    guarded.free()
    admit(guarded)


@given(
    st.lists(st.tuples(st.sampled_from(("admit", "succeed", "fail", "limit", "release")), st.floats(0, 3)))
)
def test_any_sequence_keeps_the_count_and_leaves_a_way_out(steps: list[tuple[str, float]]) -> None:
    guarded, now, open_grants = guard(requests_per_minute=600.0, tokens_per_minute=60000.0), 0.0, []
    for what, seconds in steps:
        now += seconds
        if what == "admit":
            grant = guarded.admit(0, "m", 100, now)
            if grant is not None:
                open_grants.append(grant)
        elif open_grants:
            grant = open_grants.pop()
            match what:
                case "succeed":
                    guarded.succeed(grant, 120, None, now)
                case "fail":
                    guarded.fail(grant, refused(LLMErrorCode.PROVIDER_UNAVAILABLE), now, 0.5)
                case "limit":
                    guarded.fail(grant, refused(after=2.0), now, 0.5)
                case "release":
                    guarded.release(grant, now)
        assert guarded.state(now).under_way == len(open_grants)
    for grant in open_grants:
        guarded.release(grant, now)
    assert guarded.admit(0, "m", 100, now + 1000.0) is not None


def told(remaining: int, per_minute: float = 600.0) -> RateWindow:
    return RateWindow(remaining_requests=remaining, requests_per_minute=per_minute)


def count_admitted(guarded: ProviderGuard, begins: float, ends: float) -> int:
    """Counts the calls of a caller that asks every 10 ms and whose calls take no time."""
    admitted = 0
    for step in range(round((ends - begins) * 100)):
        now = begins + step / 100
        grant = guarded.admit(0, "m", 1, now)
        if grant is not None:
            guarded.succeed(grant, 1, told(3), now)
            admitted += 1
    return admitted


def test_stated_rate_is_kept_once_the_provider_has_refused() -> None:
    guarded = guard()
    guarded.succeed(admit(guarded), 1, told(3), 0.0)
    assert count_admitted(guarded, 0.0, 1.0) > 90, "what it has not refused is not slowed down"
    refuse(guarded, refused(after=0.5), 1.0, 0.5, times=6)

    assert guarded.admit(0, "m", 1, 1.4) is None
    count_admitted(guarded, 1.5, 3.0)
    assert count_admitted(guarded, 3.0, 9.0) == pytest.approx(60, abs=1)


def test_stated_rate_allows_a_burst_when_much_is_left() -> None:
    """A raised rate counts at once."""
    for window in (told(500), told(0, 60_000.0)):
        guarded = guard()
        guarded.succeed(admit(guarded), 1, told(3), 0.0)
        refuse(guarded, refused(after=0.5), 0.0, 0.5)
        count_admitted(guarded, 0.5, 3.0)
        grant = admit(guarded, 3.1)
        guarded.succeed(grant, 1, window, 3.1)
        assert count_admitted(guarded, 3.1, 4.1) > 90


def test_calls_that_may_be_billed_do_not_count_in_an_outage() -> None:
    guarded = guard()
    lost = ProviderFailure(LLMErrorCode.PROVIDER_TIMEOUT, "lost", retryable=True, may_be_billed=True)
    verdicts = [guarded.fail(admit(guarded), lost, 0.0, 1.0) for _ in range(6)]
    assert verdicts == [False] * 5 + [True]
    assert guarded.state(0.0).circuit is Circuit.OPEN
