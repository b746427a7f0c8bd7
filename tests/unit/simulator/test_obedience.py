"""Callers are blamed for what they could have known, and for nothing else."""

from typing import Any

import pytest

from simulator.provider.obedience import MAX_EXAMPLES, Obedience
from simulator.provider.scenario import Expectations

NONE = Expectations()
OWNER = ("openai", "key", "gpt-4o-mini")


class Calls:
    def __init__(self, expected: Expectations = NONE) -> None:
        self.obedience = Obedience()
        self._expected = expected

    def come(self, now: float, name: str = "r", *, outage: bool = False, owner: Any = OWNER) -> None:
        self.obedience.arrive("openai", owner, name, now, expected=self._expected, outage=outage)

    def fail(self, now: float) -> None:
        self.obedience.leave("openai")
        self.obedience.fail("openai", now, expected=self._expected, outage=True)

    def count(self, kind: str) -> int:
        return int(self.obedience.report()[kind]["count"])


@pytest.mark.parametrize(
    ("now", "early"), [(10.04, 0), (10.06, 1), (11.99, 1), (11.996, 0), (12.0, 0), (13.0, 0)]
)
def test_a_call_before_retry_after_is_over_counts(now: float, early: int) -> None:
    """It counts from a round trip (0.05 s) after the refusal until Retry-After, less a timer's resolution."""
    calls = Calls()
    calls.obedience.advise(OWNER, 2.0, 10.0)
    calls.come(now, "hasty")
    assert calls.count("before_retry_after") == early
    assert calls.obedience.report()["before_retry_after"]["examples"] == ["hasty"] * early


def test_the_longest_advice_binds_and_only_whom_it_was_given() -> None:
    """A later, shorter one does not shorten it; another key or model is free; the round trip is set."""
    calls = Calls(Expectations(round_trip_seconds=0.5))
    calls.obedience.advise(OWNER, 10.0, 0.0)
    calls.obedience.advise(OWNER, 1.0, 0.01)
    calls.come(0.4)
    assert calls.count("before_retry_after") == 0
    calls.come(5.0)
    calls.come(5.0, owner=("openai", "other", "gpt-4o-mini"))
    assert calls.count("before_retry_after") == 1


def test_a_breaker_must_open_in_an_outage() -> None:
    """After three failures in a row one probe a second is right, and everything beyond is a storm."""
    calls = Calls(Expectations(breaker_after_failures=3, probes_per_second=1.0))
    for moment in range(3):
        calls.come(moment * 0.01, outage=True)
        calls.fail(moment * 0.01)
    calls.come(0.05, "under way", outage=True)
    assert calls.count("while_breaker_open") == 0
    for second in range(1, 6):
        calls.come(second + 0.1, "probe", outage=True)
    assert calls.count("while_breaker_open") == 0
    for number in range(4):
        calls.come(5.2, f"storm-{number}", outage=True)
    assert calls.obedience.report()["while_breaker_open"] == {
        "count": 3, "examples": ["storm-1", "storm-2", "storm-3"],
    }  # fmt: skip


def test_the_end_of_an_outage_frees_everybody() -> None:
    """Calls after the outage are not a storm, and the next outage counts from 0."""
    calls = Calls(Expectations(breaker_after_failures=1, probes_per_second=0.0))
    calls.come(0.0, outage=True)
    calls.fail(0.0)
    for _ in range(50):
        calls.come(1.0)
    calls.come(2.0, outage=True)
    assert calls.count("while_breaker_open") == 0


def test_concurrency_above_the_cap_counts() -> None:
    calls = Calls(Expectations(max_concurrency=2))
    for name in ("a", "b", "c"):
        calls.come(0.0, name)
    calls.obedience.leave("openai")
    calls.obedience.leave("openai")
    calls.come(1.0, "d")
    report = calls.obedience.report()
    assert report["above_concurrency"] == {"count": 1, "examples": ["c"]}
    assert report["peak_concurrency"] == {"openai": 3}


def test_two_usable_answers_to_one_request_are_paid_twice() -> None:
    calls = Calls()
    for number in range(2 * MAX_EXAMPLES):
        calls.obedience.deliver(f"request-{number}")
        calls.obedience.deliver(f"request-{number}")
    report = calls.obedience.report()
    assert report["paid_twice"]["count"] == report["violations"] == 2 * MAX_EXAMPLES
    assert len(report["paid_twice"]["examples"]) == MAX_EXAMPLES


def test_clearing_forgets_all_but_who_is_under_way() -> None:
    """A call that came before still counts as one."""
    calls = Calls(Expectations(max_concurrency=1))
    calls.come(0.0)
    calls.obedience.deliver("r")
    calls.obedience.clear()
    calls.obedience.deliver("r")
    calls.come(1.0)
    assert calls.count("paid_twice") == 0
    assert calls.count("above_concurrency") == 1
