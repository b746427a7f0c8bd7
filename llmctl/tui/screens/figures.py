"""What the cards, charts and facts of the monitor say, out of a view of the store."""

from __future__ import annotations

from llmctl.render.tables import NOTHING
from llmctl.tui.model.reading import Reading
from llmctl.tui.screens.pane import View
from llmctl.tui.widgets.panels import Reading as CardReading
from llmctl.tui.widgets.panels import Trace
from llmctl.tui.widgets.words import (
    BAD,
    GOOD,
    PLAIN,
    WARNING,
    say_count,
    say_rate,
    say_seconds,
    say_share,
)

CARDS = ("queue", "in-flight", "accepted", "called-back", "publish", "end-to-end")
"""The cards' ids, in their order."""
GROWING = 0.5
"""A queue that grows or shrinks by less a second is steady."""


def read_cards(view: View) -> tuple[CardReading, ...]:
    """The cards' figures, in the order of `CARDS`."""
    store = view.store
    reading = store.reading
    if reading is None:
        return tuple(CardReading(name.replace("-", " "), NOTHING, "", (), "") for name in CARDS)
    published, rejected = store.rate("published"), store.rate("rejected")
    return (
        CardReading(
            "queue depth",
            say_count(reading.queue_depth),
            _say_growth(store.growth()),
            view.series("queue_depth"),
            _say_age(view, reading),
            WARNING if (store.growth() or 0.0) > GROWING else PLAIN,
        ),
        CardReading(
            "in flight",
            say_count(reading.in_flight),
            f"outbox {say_count(reading.outbox_depth)}",
            view.series("in_flight"),
            f"wait p99 {_say_percentile(view, 'queue_wait', 'p99')}",
        ),
        CardReading(
            "accepted",
            say_count(reading.totals.get("accepted")),
            f"{say_rate(store.rate('accepted'))}/s",
            view.series("accepted"),
            f"refused {say_rate(rejected)}/s",
            WARNING if rejected else PLAIN,
        ),
        CardReading(
            "called back",
            say_count(reading.totals.get("published")),
            f"{say_rate(published)}/s",
            view.series("published"),
            _say_failed_share(view),
        ),
        CardReading(
            "publish p99",
            _say_percentile(view, "publish", "p99"),
            f"p50 {_say_percentile(view, 'publish', 'p50')}",
            view.series("publish:p99"),
            f"parked {say_count(reading.parked)}",
            BAD if reading.parked else PLAIN,
        ),
        CardReading(
            "end to end p99",
            _say_percentile(view, "end_to_end", "p99"),
            f"p50 {_say_percentile(view, 'end_to_end', 'p50')}",
            view.series("end_to_end:p99"),
            f"provider {_say_percentile(view, 'provider', 'p99')}",
        ),
    )


def _say_percentile(view: View, latency: str, which: str) -> str:
    return say_seconds(view.store.percentile(latency, which, view.window_seconds))


def _say_growth(growth: float | None) -> str:
    if growth is None or abs(growth) < GROWING:
        return "steady"
    return f"{'▲' if growth > 0 else '▼'} {growth:+.1f}/s"


def _say_age(view: View, reading: Reading) -> str:
    """How long until the queue is empty, at the pace of the last seconds; where it grows, how old it is."""
    growth = view.store.growth()
    if growth is not None and growth < -GROWING and reading.queue_depth:
        return f"empty in {say_seconds(reading.queue_depth / -growth)}"
    return f"oldest {say_seconds(reading.oldest_age_seconds)}"


def _say_failed_share(view: View) -> str:
    succeeded, failed = view.store.rate("succeeded"), view.store.rate("failed")
    if succeeded is None or failed is None or not succeeded + failed:
        return "no outcomes"
    return f"{say_share(succeeded / (succeeded + failed))} ok"


def read_ledger(view: View) -> tuple[tuple[str, str, str], ...]:
    """Accepted and called back, side by side, and what a promise would be broken by."""
    store, reading = view.store, view.store.reading
    if reading is None:
        return (
            ("accepted", NOTHING, PLAIN),
            ("called back", NOTHING, PLAIN),
            ("outstanding", NOTHING, PLAIN),
        )
    feed = store.feed
    return (
        ("accepted", say_count(reading.totals.get("accepted")), PLAIN),
        ("called back", say_count(reading.totals.get("published")), PLAIN),
        ("outstanding", say_count(reading.outstanding), PLAIN),
        ("undelivered", *_judge(reading.parked)),
        ("seen on Kafka", say_count(feed.total), PLAIN),
        ("copies", *_judge(feed.duplicates, WARNING)),
        ("invalid", *_judge(feed.invalid)),
    )


def _judge(count: int, colour: str = BAD) -> tuple[str, str]:
    return (f"✖ {count:,}", colour) if count else ("✔ 0", GOOD)


def read_flow_traces(view: View) -> tuple[Trace, ...]:
    """Accepted and called back, a second."""
    return (Trace("accepted/s", view.series("accepted")), Trace("called back/s", view.series("published")))


def read_depth_traces(view: View) -> tuple[Trace, ...]:
    """Waiting and under way."""
    return (Trace("queue depth", view.series("queue_depth")), Trace("in flight", view.series("in_flight")))


def read_latency_traces(view: View, latency: str = "end_to_end") -> tuple[Trace, ...]:
    """A latency's p99 and median."""
    return (Trace("p99", view.series(f"{latency}:p99")), Trace("p50", view.series(f"{latency}:p50")))
