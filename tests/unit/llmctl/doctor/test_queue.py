"""Checks of the queue."""

from collections.abc import Mapping
from typing import Any

import pytest

from llmctl.doctor.checks import Check
from llmctl.doctor.queue import judge_queue
from tests.unit.llmctl.doctor.conftest import SNAPSHOT, find, good, make_service, make_silent, read, refusal


def judge(queue: Mapping[str, Any] | None = None, **other: Any) -> list[Check]:
    """Checks a healthy queue, except for the given parts of the snapshot and of its queue."""
    snapshot = SNAPSHOT | {"queue": SNAPSHOT["queue"] | (queue or {})} | other
    return judge_queue(make_service(snapshot=good(snapshot)))


def test_a_queue_in_order_passes() -> None:
    assert read(judge()) == dict.fromkeys(("waiting", "outbox", "undelivered", "unreadable", "disk"), "pass")


def test_without_figures_nothing_is_said() -> None:
    for facts in (
        make_silent(),
        make_service(snapshot=refusal(403)),
        make_service(snapshot=good({"queue": 7, "x": 1})),
    ):
        assert set(read(judge_queue(facts)).values()) == {"skip"}


@pytest.mark.parametrize(
    ("queue", "other", "verdict"),
    [
        ({"depth": 79, "oldest_age_seconds": 3}, {}, "pass"),
        ({"depth": 80}, {}, "warn"),
        ({"depth": 40}, {"in_flight": 20, "outbox": {"depth": 10, "parked": 10}}, "warn"),
        ({"depth": 100}, {}, "fail"),
        ({"depth": 0}, {"outbox": {"depth": 100, "parked": 0}}, "fail"),
        ({"depth": 1, "oldest_age_seconds": 601}, {}, "warn"),
    ],
)
def test_everything_that_takes_a_place_counts(
    queue: dict[str, Any], other: dict[str, Any], verdict: str
) -> None:
    assert find(judge(queue, **other), "waiting").verdict == verdict


@pytest.mark.parametrize(("published", "verdict"), [(0.0, "warn"), (0.1, "pass")])
def test_callbacks_that_wait_are_a_warning_only_where_none_goes_out(published: float, verdict: str) -> None:
    checks = judge(outbox={"depth": 3, "parked": 0}, rates={"published": published})
    assert find(checks, "outbox").verdict == verdict


def test_rows_that_cannot_be_read_are_named() -> None:
    check = find(judge({"quarantined": {"count": 2, "reason": "ValidationError"}}), "unreadable")
    assert check.verdict == "fail"
    assert check.seen == (
        "2 rows of the queue file cannot be read (ValidationError): set aside, and never called back"
    )


def test_undelivered_callbacks_are_a_warning_with_the_command() -> None:
    check = find(judge(outbox={"depth": 0, "parked": 1}), "undelivered")
    assert (check.verdict, "llmctl undelivered list" in (check.advice or "")) == ("warn", True)
    assert check.seen == "1 callback that the broker refused for good"


@pytest.mark.parametrize(
    ("free", "verdict"),
    [(2**26 * 10, "pass"), (2**26 * 10 - 1, "warn"), (2**26, "warn"), (2**26 - 1, "fail")],
)
def test_a_disk_is_judged_by_the_reserve(free: int, verdict: str) -> None:
    disk = {"folder": "/data", "free_bytes": free, "reserve_bytes": 2**26}
    assert find(judge({"disk": disk}), "disk").verdict == verdict


@pytest.mark.parametrize("queue", [{"backend": "kafka", "disk": None}, {"disk": None}])
def test_no_disk_is_left_out(queue: dict[str, Any]) -> None:
    assert find(judge(queue), "disk").verdict == "skip"
