"""The providers and their keys: what is said of them."""

from collections.abc import Callable
from typing import Any

import pytest

from llmctl.doctor.asking import Reply
from llmctl.doctor.checks import Check, Unknown
from llmctl.doctor.providers import judge_providers
from llmctl.doctor.service import ServiceFacts
from tests.unit.llmctl.doctor.conftest import PROVIDER, SNAPSHOT, find, good, read, refusal

Make = Callable[..., ServiceFacts]


def answer(status: str, *, usable: bool) -> Reply:
    """What the service says of a key."""
    return good({"name": "openai", "status": status, "usable": usable, "message": "So it is."})


@pytest.fixture
def judge(service: Make) -> Callable[..., list[Check]]:
    """The checks of these providers, whose keys are accepted."""

    def run(*providers: dict[str, Any]) -> list[Check]:
        keys = {each["name"]: answer("accepted", usable=True) for each in providers}
        return judge_providers(service(providers=good({"providers": list(providers)})), keys)

    return run


Judge = Callable[..., list[Check]]


def test_a_provider_in_order_passes(judge: Judge) -> None:
    """Its state and its key."""
    assert read(judge(PROVIDER)) == {"usable": "pass", "state": "pass", "key": "pass"}


def test_operators_may_not_be_callers(service: Make) -> None:
    """The snapshot tells of them too."""
    facts = service(providers=refusal(403), snapshot=good(SNAPSHOT | {"providers": [PROVIDER]}))

    assert read(judge_providers(facts, {})) == {"usable": "pass", "state": "pass", "key": "skip"}


def test_without_an_answer_nothing_is_said(service: Make, silent: ServiceFacts) -> None:
    """Neither of a service that is away nor of one that lets us see nothing."""
    closed = service(providers=refusal(401), snapshot=refusal(401))

    assert read(judge_providers(silent, {})) == read(judge_providers(closed, {})) == {"usable": "skip"}


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
def test_what_holds_a_provider_is_told(
    judge: Judge, changes: dict[str, Any], usable: str, state: str
) -> None:
    """Where it is the only one, nothing is answered."""
    checks = judge(PROVIDER | changes)

    assert (find(checks, "usable").verdict, find(checks, "state").verdict) == (usable, state)


def test_a_default_that_is_held_is_a_warning_where_others_go_on(judge: Judge) -> None:
    """Requests that name none wait."""
    held = PROVIDER | {"held": True, "hold_reason": "operator"}

    check = judge(held, PROVIDER | {"name": "google", "default": False})[0]

    assert (check.verdict, check.seen) == ("warn", "google, but not the default, openai")


def test_no_provider_at_all_fails(judge: Judge) -> None:
    """Nobody could judge."""
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
def test_a_key_is_judged_by_what_its_vendor_says(service: Make, reply: Reply | Unknown, verdict: str) -> None:
    """A limit says nothing against it."""
    assert find(judge_providers(service(), {"openai": reply}), "key").verdict == verdict
