"""Checks of the providers and their keys."""

from typing import Any

import pytest

from llmctl.doctor.asking import Reply
from llmctl.doctor.checks import Check, Unknown
from llmctl.doctor.providers import judge_providers
from tests.unit.llmctl.doctor.conftest import (
    PROVIDER,
    SNAPSHOT,
    find,
    good,
    make_service,
    make_silent,
    read,
    refusal,
)


def answer(status: str, *, usable: bool) -> Reply:
    return good({"name": "openai", "status": status, "usable": usable, "message": "So it is."})


def judge(*providers: dict[str, Any]) -> list[Check]:
    keys = {each["name"]: answer("accepted", usable=True) for each in providers}
    return judge_providers(make_service(providers=good({"providers": list(providers)})), keys)


def test_a_provider_in_order_passes() -> None:
    assert read(judge(PROVIDER)) == {"usable": "pass", "state": "pass", "key": "pass"}


def test_operators_may_not_be_callers() -> None:
    facts = make_service(providers=refusal(403), snapshot=good(SNAPSHOT | {"providers": [PROVIDER]}))
    assert read(judge_providers(facts, {})) == {"usable": "pass", "state": "pass", "key": "skip"}


def test_without_an_answer_nothing_is_said() -> None:
    closed = make_service(providers=refusal(401), snapshot=refusal(401))
    assert read(judge_providers(make_silent(), {})) == read(judge_providers(closed, {})) == {"usable": "skip"}


@pytest.mark.parametrize(
    ("changes", "usable", "state"),
    [
        ({"circuit": "open"}, "fail", "warn"),
        ({"held": True, "hold_reason": "operator", "held_until": None}, "fail", "warn"),
        ({"circuit": "half_open"}, "pass", "pass"),
        ({"name": "mock"}, "warn", "pass"),
        ({"calls": 1, "errors": 1, "last_error": {"error_code": "LLM_X"}}, "pass", "pass"),
    ],
)
def test_what_holds_a_provider_is_told(changes: dict[str, Any], usable: str, state: str) -> None:
    checks = judge(PROVIDER | changes)
    assert (find(checks, "usable").verdict, find(checks, "state").verdict) == (usable, state)


def test_a_default_that_is_held_is_a_warning_where_others_go_on() -> None:
    held = PROVIDER | {"held": True, "hold_reason": "operator"}
    check = judge(held, PROVIDER | {"name": "google", "default": False})[0]
    assert (check.verdict, check.seen) == ("warn", "google, but not the default, openai")


def test_no_provider_at_all_fails() -> None:
    assert read(judge()) == {"usable": "fail"}


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (answer("accepted", usable=True), "pass"),
        (answer("no_key", usable=True), "skip"),
        (answer("refused", usable=False), "fail"),
        (answer("quota", usable=False), "fail"),
        (answer("unreachable", usable=False), "fail"),
        (answer("unexpected", usable=False), "fail"),
        (answer("limited", usable=False), "warn"),
        (refusal(404, "There is no such route."), "skip"),
        (Unknown("no answer"), "skip"),
    ],
)
def test_a_key_is_judged_by_what_its_vendor_says(reply: Reply | Unknown, verdict: str) -> None:
    assert find(judge_providers(make_service(), {"openai": reply}), "key").verdict == verdict
