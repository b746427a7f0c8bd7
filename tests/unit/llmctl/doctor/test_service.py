"""Checks of the service's responses."""

from typing import Any

import pytest

from llmctl.doctor.asking import Reply
from llmctl.doctor.checks import Check, Section, Unknown
from llmctl.doctor.service import ServiceFacts, judge_clock, judge_service
from tests.unit.llmctl.doctor.conftest import (
    AT,
    SNAPSHOT,
    find,
    good,
    make_service,
    make_silent,
    read,
    refusal,
)


def judge(facts: ServiceFacts) -> list[Check]:
    return judge_service(facts, "1.2.3")


def test_a_service_in_order_passes() -> None:
    assert set(read(judge(make_service())).values()) == {"pass"}


def test_a_service_that_is_not_there_is_one_failure() -> None:
    checks = judge(make_silent())
    assert find(checks, "ready").verdict == "fail"
    assert {check.verdict for check in checks[1:]} == {"skip"}
    assert {check.seen for check in checks[1:]} == {"the service is out of reach"}


def test_an_address_that_makes_no_sense_is_no_second_failure() -> None:
    unknown = Unknown("'x' is no URL")
    checks = judge(make_service(readiness=unknown, snapshot=unknown, providers=unknown, metrics=unknown))
    assert {(check.verdict, check.seen) for check in checks} == {("skip", "'x' is no URL")}


@pytest.mark.parametrize(
    ("readiness", "advice"),
    [
        (refusal(503, "The service is draining.", phase="draining", broker="up"), "llmctl drain --resume"),
        (refusal(503, "The service is starting.", phase="starting", broker="up"), "Wait"),
        (refusal(503, "The durable queue cannot be written.", phase="ready", broker="up"), "log"),
        (Reply(200), "Correct --url."),
        (Reply(503), "Correct --url."),
        (Reply(404, {"detail": "Not Found"}), "Correct --url."),
    ],
)
def test_a_service_that_takes_nothing_fails_with_the_way_out(readiness: Reply, advice: str) -> None:
    check = find(judge(make_service(readiness=readiness)), "ready")
    assert check.verdict == "fail"
    assert advice in (check.advice or "")


def test_the_services_own_broker_is_looked_at_apart() -> None:
    ready = judge(make_service(readiness=good({"status": "ready", "broker": "down"})))
    draining = judge(make_service(readiness=refusal(503, phase="draining", broker="down")))
    old = judge(make_service(readiness=good({"status": "ready"})))
    assert (find(ready, "ready").verdict, find(ready, "its broker").verdict) == ("pass", "fail")
    assert find(draining, "its broker").verdict == "fail"
    assert find(old, "its broker").verdict == "skip"


@pytest.mark.parametrize(
    ("status", "token", "verdict", "said"),
    [
        (401, True, "fail", "our token is not known"),
        (401, False, "fail", "a token is asked for, and we have none"),
        (403, True, "warn", "our token is {other}"),
        (404, True, "fail", "not this service"),
    ],
)
def test_callers_and_operators_that_are_refused_learn_why(
    status: int, token: bool, verdict: str, said: str
) -> None:
    """What needs an operator's figures is skipped, not failed as well."""
    check = find(judge(make_service(providers=refusal(status), caller_token=token)), "callers")
    assert (check.verdict, said.format(other="an operator's") in check.seen) == (verdict, True)
    checks = judge(make_service(snapshot=refusal(status), operator_token=token))
    check = find(checks, "operators")
    assert (check.verdict, said.format(other="a caller's") in check.seen) == (verdict, True)
    assert (find(checks, "version").verdict, find(checks, "clock").verdict) == ("skip", "skip")


def test_open_operators_routes_are_a_warning_beyond_this_machine() -> None:
    open_ = find(judge(make_service(url="https://far.example")), "operators")
    guarded = find(judge(make_service(url="https://far.example", operator_token=True)), "operators")
    assert (open_.verdict, guarded.verdict) == ("warn", "pass")


def test_another_release_is_a_warning() -> None:
    check = find(judge_service(make_service(), "2.0.0"), "version")
    assert (check.verdict, check.seen) == ("warn", "the service is 1.2.3, this llmctl 2.0.0")


@pytest.mark.parametrize("snapshot", [SNAPSHOT | {"time": "noon"}, {"version": "1.2.3"}])
def test_a_time_that_cannot_be_read_is_left_out(snapshot: dict[str, Any]) -> None:
    assert find(judge(make_service(snapshot=good(snapshot))), "clock").verdict == "skip"


@pytest.mark.parametrize(
    ("theirs", "verdict", "said"),
    [
        (AT + 5, "pass", "as ours"),  # it was asked 10 s long: any moment in between may be it
        (AT - 1.5, "pass", "as ours"),
        (AT - 3, "warn", "3.0 s behind ours"),
        (AT + 13, "warn", "3.0 s ahead of ours"),
        (AT - 61, "fail", "61.0 s behind ours"),
        (AT + 4000, "fail", "3,990.0 s ahead of ours"),
    ],
)
def test_a_clock_is_off_by_what_lies_outside_of_the_question(theirs: float, verdict: str, said: str) -> None:
    """The duration of the call is not a fault of the clock."""
    check = judge_clock(Section("service"), "clock", theirs, AT, AT + 10)
    assert (check.verdict, said in check.seen) == (verdict, True)


@pytest.mark.parametrize(
    ("metrics", "verdict"), [(Reply(200), "pass"), (Reply(403), "warn"), (Unknown("gone"), "skip")]
)
def test_metrics_are_looked_for(metrics: Reply | Unknown, verdict: str) -> None:
    assert find(judge(make_service(metrics=metrics)), "metrics").verdict == verdict
