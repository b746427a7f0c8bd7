"""An alert fires once if its condition lasts, and clears only if that lasts too."""

import pytest

from llmctl.tui.model.alerts import CLEAR_SECONDS, MEASURED, Alert, AlertState, find_firing, parse_alert
from llmctl.tui.model.events import Event, Level


def make_alert(text: str = "queue.depth > 100 for 20s") -> Alert:
    return Alert(parse_alert(text))


def test_a_condition_is_pending_until_it_lasted() -> None:
    alert = make_alert()
    assert alert.update(101.0, 10.0) is None
    assert (alert.state, alert.since) == (AlertState.PENDING, 10.0)
    assert alert.update(150.0, 29.9) is None
    assert alert.state is AlertState.PENDING
    assert alert.update(150.0, 30.0) == Event(30.0, Level.BAD, "ALERT queue.depth:max > 100 for 20s")
    assert (alert.state, alert.since, alert.fired) == (AlertState.FIRING, 30.0, 1)
    assert alert.update(150.0, 31.0) is None
    assert alert.fired == 1


def test_a_condition_without_a_time_fires_at_once() -> None:
    alert = make_alert("queue.depth > 100")
    assert alert.update(100.0, 9.0) is None
    event = alert.update(101.0, 10.0)
    assert event is not None
    assert alert.state is AlertState.FIRING


def test_a_break_begins_the_waiting_anew() -> None:
    alert = make_alert()
    alert.update(101.0, 10.0)
    alert.update(100.0, 20.0)
    assert (alert.state, alert.since) == (AlertState.OK, 20.0)
    alert.update(101.0, 25.0)
    assert alert.update(101.0, 44.0) is None
    assert alert.update(101.0, 45.0) is not None


def test_it_is_over_only_when_that_lasted() -> None:
    alert = make_alert("queue.depth > 100")
    alert.update(101.0, 10.0)
    assert alert.update(99.0, 11.0) is None
    assert alert.update(101.0, 11.0 + CLEAR_SECONDS - 1) is None
    assert alert.update(99.0, 20.0) is None
    assert alert.update(99.0, 20.0 + CLEAR_SECONDS - 0.1) is None
    assert alert.state is AlertState.FIRING
    over = alert.update(99.0, 20.0 + CLEAR_SECONDS)
    assert over == Event(20.0 + CLEAR_SECONDS, Level.GOOD, "over: queue.depth:max > 100")
    assert alert.state is AlertState.OK


def test_it_can_fire_again() -> None:
    alert = make_alert("queue.depth > 100")
    for begin in (10.0, 50.0):
        assert alert.update(101.0, begin) is not None
        assert alert.update(99.0, begin + 1) is None
        assert alert.update(99.0, begin + 1 + CLEAR_SECONDS) is not None
    assert alert.fired == 2


def test_what_cannot_be_read_changes_nothing() -> None:
    alert = make_alert("queue.depth > 100")
    assert alert.update(None, 10.0) is None
    assert (alert.state, alert.value) == (AlertState.OK, None)
    alert.update(101.0, 11.0)
    assert alert.update(None, 500.0) is None
    assert (alert.state, alert.value, alert.since) == (AlertState.FIRING, 101.0, 11.0)


def test_the_newest_that_fires_is_first() -> None:
    alerts = [
        make_alert("queue.depth > 1"),
        make_alert("queue.depth > 2"),
        make_alert("queue.depth > 3 for 9s"),
    ]
    for number, alert in enumerate(alerts):
        alert.update(10.0, 10.0 + number)
    assert find_firing(alerts) == (alerts[1], alerts[0])


@pytest.mark.parametrize("aggregate", ["p50", "p90", "p99", "max"])
def test_what_the_service_tells_of_a_latency_can_be_watched(aggregate: str) -> None:
    assert str(parse_alert(f"e2e:{aggregate} > 5s for 20s")) == f"e2e:{aggregate} > 5s for 20s"
    assert str(parse_alert("publish:rate < 2/s")) == "publish:rate < 2/s"


@pytest.mark.parametrize(
    "text", ["goodput < 98%", "cpu_per_request > 2ms", "e2e_corrected > 2s", "ledger.missing > 0"]
)
def test_what_only_a_referee_knows_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="known to a load run's referee alone") as refusal:
        parse_alert(text)
    said = str(refusal.value)
    assert said.startswith(f"{text.split()[0]} in {text!r} is")
    assert said.endswith(", ".join(MEASURED))


@pytest.mark.parametrize("aggregate", ["p999", "mean"])
def test_what_the_service_does_not_tell_is_refused(aggregate: str) -> None:
    with pytest.raises(ValueError) as refusal:
        parse_alert(f"e2e:{aggregate} > 5s")
    assert str(refusal.value) == (
        f"the service tells no {aggregate} of e2e; an alert can watch p50, p90, p99, max and rate"
    )


def test_what_is_no_condition_is_refused_as_a_threshold_is() -> None:
    with pytest.raises(ValueError, match="is no threshold"):
        parse_alert("queue is long")
