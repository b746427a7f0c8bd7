"""The store derives rates, growth, percentiles, alerts and advice from what was observed."""

import json
from typing import Any

import pytest

from llmctl.tui.model.alerts import MEASURED, parse_alert
from llmctl.tui.model.events import Event, Level
from llmctl.tui.model.frames import Bookmark, Callbacks, Figures, RunFigures, SourceState, TopicFigures
from llmctl.tui.model.rows import CallbackRow
from llmctl.tui.model.store import STALE_SECONDS, Sizes, Store, add_paces

NAMED = {"delivery": "delivery:max"}
"""Metrics that need their aggregate named."""

BEGIN = 1_000_000.0


def make_document(**changes: Any) -> dict[str, Any]:
    return {"phase": "ready", "accepting": True, "broker": "up", "version": "1.0", **changes}


def feed(store: Store, second: float, **changes: Any) -> None:
    """Feeds figures of so many seconds after the beginning."""
    store.take(Figures(BEGIN + second, "stream", make_document(**changes)))


def say_texts(store: Store) -> list[str]:
    return [event.text for event in store.events]


def make_row(written: float, read: float, **changes: Any) -> CallbackRow:
    """A callback that was written and read at these seconds after the beginning."""
    values: dict[str, Any] = {"status": "success", "event_id": f"e-{written}", **changes}
    return CallbackRow(
        at=BEGIN + read, topic="t", partition=0, offset=0, written_at=BEGIN + written, **values
    )


def test_an_empty_store_knows_nothing() -> None:
    store = Store()
    assert (store.age(BEGIN), store.is_stale(BEGIN), store.growth(), store.rate("accepted")) == (
        None,
        True,
        None,
        None,
    )
    assert store.percentile("accept", "p99", 60) is None
    assert [store.read_metric(parse_alert("queue.depth > 1")), store.firing, store.advice] == [None, (), ()]


def test_figures_become_old() -> None:
    store = Store()
    feed(store, 0)
    assert store.age(BEGIN + 2) == 2
    assert store.age(BEGIN - 2) == 0
    assert not store.is_stale(BEGIN + STALE_SECONDS)
    assert store.is_stale(BEGIN + STALE_SECONDS + 0.1)


def test_gauges_are_kept_as_they_were() -> None:
    store = Store()
    feed(store, 0, queue={"depth": 4}, in_flight=2, outbox={"depth": 1})
    feed(store, 0.5, queue={"depth": 9})
    feed(store, 2, queue={"depth": 6})
    depths = store.series("queue_depth", BEGIN + 2, 3)
    assert (depths[0], depths[2]) == (9.0, 6.0)
    assert depths[1] != depths[1]
    assert store.series("in_flight", BEGIN, 1) == [2.0]
    assert store.series("outbox_depth", BEGIN, 1) == [1.0]


def test_totals_become_rates() -> None:
    store = Store()
    feed(store, 0, totals={"accepted": 1000})
    feed(store, 1, totals={"accepted": 1030})
    feed(store, 3, totals={"accepted": 1050})
    rates = store.series("accepted", BEGIN + 3, 3)
    assert (rates[0], rates[2]) == (30.0, 10.0)
    assert store.rate("accepted") == 20.0


def test_a_rate_that_the_service_tells_comes_first() -> None:
    store = Store()
    for second in range(3):
        feed(
            store, second, totals={"accepted": 10 * second, "succeeded": 5 * second}, rates={"accepted": 7.5}
        )
    assert (store.rate("accepted"), store.rate("succeeded")) == (7.5, 5.0)


def test_a_restart_makes_no_rate_negative() -> None:
    store = Store()
    feed(store, 0, totals={"accepted": 1000})
    feed(store, 1, totals={"accepted": 1010})
    feed(store, 2, totals={"accepted": 6})
    assert store.series("accepted", BEGIN + 2, 2) == [10.0, 6.0]
    assert "the service started anew: its counters begin at zero" in say_texts(store)


def test_growth_is_that_of_the_last_ten_seconds() -> None:
    store = Store()
    feed(store, 0, queue={"depth": 500})
    assert store.growth() is None
    feed(store, 4, queue={"depth": 512})
    assert store.growth() == pytest.approx(3.0)
    for second in range(5, 31):
        feed(store, second, queue={"depth": 500 + 3 * second})
    assert store.growth() == pytest.approx(3.0)
    for second in range(31, 45):
        feed(store, second, queue={"depth": 590 - 2 * (second - 30)})
    assert store.growth() == pytest.approx(-2.0)


def feed_latency(store: Store, second: float, fast: int, slow: int, **exact: float) -> None:
    """Feeds figures with so many accept times up to 0.1 s, and from there to 1 s, since the start."""
    buckets = {"0.1": fast, "1": fast + slow, "+Inf": fast + slow}
    feed(store, second, latency={"accept": {**exact, "buckets": buckets}})


def test_percentiles_of_a_minute_are_the_services_own() -> None:
    store = Store()
    feed_latency(store, 0, 0, 0)
    feed_latency(store, 30, 100, 0, p99=0.042)
    assert store.percentile("accept", "p99", 60) == 0.042
    assert store.percentile("accept", "p99", 300) == pytest.approx(0.099)


def test_percentiles_that_the_service_does_not_tell_come_from_buckets() -> None:
    store = Store()
    feed_latency(store, 0, 0, 0)
    feed_latency(store, 40, 100, 0)
    feed_latency(store, 100, 100, 100)
    assert store.percentile("accept", "p50", 60) == pytest.approx(0.55)
    assert store.percentile("accept", "p50", 300) == pytest.approx(0.1)
    assert store.percentile("publish", "p50", 60) is None


def test_percentiles_are_kept_by_the_second() -> None:
    store = Store()
    feed_latency(store, 0, 0, 0, p50=0.01, p99=0.5)
    assert store.series("accept:p50", BEGIN, 1) == [0.01]
    assert store.series("accept:p99", BEGIN, 1) == [0.5]


def test_what_a_later_version_measures_is_left_out() -> None:
    store = Store()
    feed(store, 0, latency={"thinking": {"p50": 1.0, "buckets": {"+Inf": 3}}}, totals={"thoughts": 4})
    assert store.reading is not None


def make_busy_store() -> Store:
    store = Store()
    names = ("accept", "queue_wait", "provider", "publish", "end_to_end")
    for second, count in ((0, 0), (10, 50)):
        latency = {
            name: {"p99": place + 0.99, "max": place + 0.5, "buckets": {"1": count, "+Inf": count}}
            for place, name in enumerate(names)
        }
        feed(
            store,
            second,
            queue={"depth": 70},
            outbox={"depth": 80},
            latency=latency,
            totals={
                "accepted": 100 + 9 * count,
                "succeeded": 6 * count,
                "failed": 2 * count,
                "rejected": count,
            },
        )
    store.take(Callbacks(BEGIN + 9, (make_row(8.75, 9), make_row(8.5, 9))))
    copies = [make_row(3, 9)] * 3
    store.take(Callbacks(BEGIN + 10, (*copies, make_row(9.875, 10), make_row(9, 9, status="invalid"))))
    return store


@pytest.mark.parametrize(
    ("condition", "value"),
    [
        ("accept:p99 > 1s", 0.99),
        ("queue_wait:p99 > 1s", 1.99),
        ("provider:p99 > 1s", 2.99),
        ("publish:max > 1s", 3.5),
        ("e2e:p99 > 1s", 4.99),
        ("e2e:max > 1s", 4.5),
        ("accept:p50 > 1s", 0.5),
        ("delivery:max > 1s", 6.0),
        ("queue.depth > 1", 70.0),
        ("outbox.depth > 1", 80.0),
        ("rate.accepted > 1/s", 45.0),
        ("error_rate > 1%", 0.25),
        ("ledger.ok > 1", 300.0),
        ("ledger.ok:rate > 1/s", 30.0),
        ("ledger.failed > 1", 100.0),
        ("ledger.failed:rate > 1/s", 10.0),
        ("ledger.rejected > 1", 50.0),
        ("ledger.duplicate > 1", 2.0),
        ("ledger.corrupt > 1", 1.0),
    ],
)
def test_each_metric_is_read(condition: str, value: float) -> None:
    assert make_busy_store().read_metric(parse_alert(condition)) == pytest.approx(value)


def test_every_metric_of_an_alert_has_a_value() -> None:
    store = make_busy_store()
    for metric in MEASURED:
        unit = {"error_rate": "1%", "rate.accepted": "5/s"}.get(metric, "5" if "." in metric else "5s")
        alert = parse_alert(f"{NAMED.get(metric, metric)} > {unit}")
        assert alert.metric == metric
        assert store.read_metric(alert) is not None, metric


def test_the_rate_of_a_latency_counts_its_values() -> None:
    store = Store()
    feed_latency(store, 0, 0, 0)
    feed_latency(store, 10, 30, 20)
    assert store.read_metric(parse_alert("accept:rate > 1/s")) == 5.0


def test_without_outcomes_there_is_no_share_of_errors() -> None:
    store = Store()
    feed(store, 0, totals={"succeeded": 5, "failed": 0})
    feed(store, 1, totals={"succeeded": 5, "failed": 0})
    assert store.read_metric(parse_alert("error_rate > 1%")) is None


def test_alerts_ring_in_the_events() -> None:
    store = Store([parse_alert("queue.depth > 100 for 2s")])
    for second in range(4):
        feed(store, second, queue={"depth": 200})
    assert say_texts(store)[-1] == "ALERT queue.depth:max > 100 for 2s"
    assert [alert.value for alert in store.firing] == [200.0]


def test_advice_follows_the_figures() -> None:
    store = Store()
    feed(store, 0, broker="down")
    assert [each.level for each in store.advice] == [Level.BAD]
    feed(store, 1)
    assert store.advice == ()


def test_callbacks_are_fed_and_measured() -> None:
    store = Store()
    store.take(Callbacks(BEGIN, (make_row(-0.5, 0), make_row(-0.25, 0))))
    store.take(Callbacks(BEGIN + 1, (make_row(3, 1),)))
    store.take(Callbacks(BEGIN + 2, ()))
    assert store.series("delivery", BEGIN + 1, 2) == [0.5, 0.0]
    assert store.feed.total == 3


def test_topics_have_a_pace() -> None:
    store = Store()
    for second, end, lag in ((0, 100, 50), (4, 140, 30)):
        topics = [{"topic": "t", "end_total": end}]
        groups = [{"group": "g", "topic": "t", "lag": lag}, {"group": "h", "topic": "t", "lag": None}]
        store.take(TopicFigures(BEGIN + second, {"topics": topics, "groups": groups, "groups_problem": None}))
    assert store.topics is not None
    assert [row["per_second"] for row in store.topics["topics"]] == [10.0]
    assert [row["per_second"] for row in store.topics["groups"]] == [-5.0, None]
    assert store.topics_at == BEGIN + 4


def test_paces_are_unknown_where_there_is_nothing_to_compare() -> None:
    row = {"topic": "t", "end_total": 5}
    assert add_paces([], [row], "end_total", 1.0) == [{**row, "per_second": None}]
    assert add_paces([row], [row], "end_total", 0.0)[0]["per_second"] is None
    assert add_paces([{"topic": "t"}], [row], "end_total", 1.0)[0]["per_second"] is None
    assert add_paces([row], [{**row, "end_total": None}], "end_total", 1.0)[0]["per_second"] is None
    assert add_paces([row], [{**row, "topic": "u"}], "end_total", 1.0)[0]["per_second"] is None


def test_a_load_run_is_followed() -> None:
    store = Store()
    fault = {"text": "outage 8s at 10s", "state": "ahead"}
    run: dict[str, Any] = {"run_id": "r", "phase": "load", "shape": "40/s", "sent_per_second": 39.5}
    for second in (0, 1):
        store.take(RunFigures(BEGIN + second, {**run, "lateness_p99": 0.002, "faults": [fault]}))
    for second, state in ((2, "on"), (3, "on"), (4, "over")):
        store.take(RunFigures(BEGIN + second, {**run, "faults": [{**fault, "state": state}]}))
    store.take(RunFigures(BEGIN + 5, {**run, "phase": "drain", "sent_per_second": None}))
    store.take(RunFigures(BEGIN + 6, {**run, "run_id": "s"}))
    assert say_texts(store) == [
        "load run r: 40/s",
        "fault on: outage 8s at 10s",
        "fault over: outage 8s at 10s",
        "load run: drain",
        "load run s: 40/s",
    ]
    assert store.series("sent", BEGIN + 1, 2) == [39.5, 39.5]
    assert store.series("lateness", BEGIN + 1, 2) == [0.002, 0.002]
    assert (store.run or {})["run_id"] == "s"
    assert store.run_at == BEGIN + 6


def test_a_lost_source_is_told_once() -> None:
    store = Store()
    store.take(SourceState(BEGIN, "kafka", None))
    for second in (1, 2):
        store.take(SourceState(BEGIN + second, "kafka", "it is away"))
    assert store.problems == {"kafka": "it is away"}
    store.take(SourceState(BEGIN + 3, "kafka", "it refuses us"))
    store.take(SourceState(BEGIN + 4, "kafka", None))
    assert store.problems == {}
    assert list(store.events) == [
        Event(BEGIN + 1, Level.BAD, "kafka: it is away"),
        Event(BEGIN + 3, Level.BAD, "kafka: it refuses us"),
        Event(BEGIN + 4, Level.GOOD, "kafka: there again"),
    ]


def test_events_are_a_ring() -> None:
    store = Store(sizes=Sizes(events=2))
    for number in range(3):
        store.take(Bookmark(BEGIN + number, str(number)))
    assert say_texts(store) == ["bookmark: 1", "bookmark: 2"]
    assert store.events_total == 3


def test_a_bad_snapshot_changes_nothing() -> None:
    store = Store()
    feed(store, 0)
    with pytest.raises(ValueError, match="no snapshot"):
        store.take(Figures(BEGIN + 1, "stream", {"detail": "Not Found"}))
    assert store.age(BEGIN + 1) == 1.0


@pytest.mark.parametrize("store", [Store(), make_busy_store()], ids=["empty", "busy"])
def test_everything_can_be_said_as_json(store: Store) -> None:
    document = json.loads(json.dumps(store.describe(BEGIN + 11), allow_nan=False))
    assert document["stale"] == (store.reading is None)
    assert set(document["latency"]) == {"accept", "queue_wait", "provider", "publish", "end_to_end"}


def test_the_description_says_what_the_screen_shows() -> None:
    store = Store([parse_alert("queue.depth > 5")])
    feed(
        store,
        0,
        queue={"depth": 10, "capacity": 10},
        in_flight=3,
        providers=[{"name": "openai", "circuit": "open", "calls": 4}],
        totals={"accepted": 20},
    )
    store.take(SourceState(BEGIN, "kafka", "it is away"))
    store.take(Callbacks(BEGIN, (make_row(0, 0), make_row(0, 0))))
    told = store.describe(BEGIN + 1)
    assert (told["age_seconds"], told["source"], told["problems"]) == (1.0, "stream", {"kafka": "it is away"})
    service = told["service"]
    assert (service["queue"]["depth"], service["in_flight"], service["outstanding"]) == (10, 3, 13)
    assert service["providers"][0]["circuit"] == "open"
    assert told["callbacks"] == {"seen": 2, "duplicates": 1, "invalid": 0}
    assert told["alerts"] == [{"condition": "queue.depth:max > 5", "state": "firing", "value": 10.0}]
    assert {each["level"] for each in told["advice"]} == {"bad"}
    assert told["events"][-1] == {"time": BEGIN, "level": "bad", "text": "kafka: it is away"}
