"""The screens that are about one thing: callbacks, providers, queue, topics, events, a load run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from textual.app import ComposeResult
from textual.containers import Horizontal

from llmctl.render.tables import NOTHING
from llmctl.tui.model.reading import LATENCIES, Reading
from llmctl.tui.screens.columns import (
    ALERT_COLUMNS,
    CALLBACKS,
    EVENTS,
    FAULTS,
    GROUPS,
    PROVIDERS,
    THRESHOLDS,
    TOPICS,
)
from llmctl.tui.screens.figures import (
    read_depth_traces,
    read_flow_traces,
    read_latency_traces,
    read_ledger,
)
from llmctl.tui.screens.overview import title_callbacks
from llmctl.tui.screens.pane import Pane, View
from llmctl.tui.widgets.panels import Chart, Facts, Line, Trace
from llmctl.tui.widgets.rows import RowList
from llmctl.tui.widgets.words import (
    BAD,
    DIM,
    PLAIN,
    WARNING,
    say_count,
    say_phase,
    say_rate,
    say_seconds,
    say_window,
)

Fact = tuple[str, str, str]


class CallbacksPane(Pane):
    """Every callback that is kept and passes the filter."""

    def compose(self) -> ComposeResult:
        """A title and the list."""
        yield Line(id="callbacks-title")
        yield RowList(CALLBACKS, empty="no callback yet", id="callbacks")

    def present(self, view: View) -> None:
        """Shows this view."""
        rows = self.query_one("#callbacks", RowList)
        feed = view.store.feed
        rows.present(feed.newest(view.store.sizes.callbacks), feed.passed_total, follows=True)
        self.query_one("#callbacks-title", Line).present(*title_callbacks(view, rows))


class ProvidersPane(Pane):
    """Every provider, and how long they take."""

    DEFAULT_CSS = "ProvidersPane RowList { height: auto; min-height: 6; max-height: 12; }"

    def compose(self) -> ComposeResult:
        """The list above a chart."""
        yield RowList(PROVIDERS, empty="no provider is configured", id="providers")
        yield Chart("seconds", id="chart")

    def present(self, view: View) -> None:
        """Shows this view."""
        reading = view.store.reading
        self.query_one(RowList).present(() if reading is None else reading.providers)
        title = f"provider calls, {say_window(view.window_seconds)}"
        self.query_one(Chart).present(title, read_latency_traces(view, "provider"))


class QueuePane(Pane):
    """The queue and everything around it."""

    DEFAULT_CSS = """
    QueuePane #facts { height: auto; }
    QueuePane Facts { width: 1fr; height: 12; }
    """

    def compose(self) -> ComposeResult:
        """Facts above two charts."""
        with Horizontal(id="facts"):
            yield Facts("queue", id="queue")
            yield Facts("latency p50 · p99", id="latency")
            yield Facts("ledger", id="ledger")
        yield Chart(id="depth")
        yield Chart(id="flow")

    def present(self, view: View) -> None:
        """Shows this view."""
        window = say_window(view.window_seconds)
        reading = view.store.reading
        self.query_one("#queue", Facts).present(() if reading is None else _read_queue(view, reading))
        self.query_one("#latency", Facts).present(_read_latencies(view))
        self.query_one("#ledger", Facts).present(read_ledger(view))
        self.query_one("#depth", Chart).present(window, read_depth_traces(view))
        self.query_one("#flow", Chart).present(window, read_flow_traces(view))


def _read_queue(view: View, reading: Reading) -> Sequence[Fact]:
    growth = view.store.growth()
    drain = reading.drain
    grows = NOTHING if growth is None else f"{growth:+.1f}/s"
    return (
        ("phase", *say_phase(reading.phase)),
        ("accepting", "yes" if reading.accepting else "no", PLAIN if reading.accepting else WARNING),
        ("Kafka", reading.broker, BAD if reading.broker == "down" else PLAIN),
        ("depth", f"{say_count(reading.queue_depth)} of {say_count(reading.queue_capacity)}", PLAIN),
        ("grows by", grows, PLAIN),
        ("oldest", say_seconds(reading.oldest_age_seconds), PLAIN),
        ("in flight", say_count(reading.in_flight), PLAIN),
        ("outbox", say_count(reading.outbox_depth), PLAIN),
        ("refused", f"{say_count(reading.totals.get('rejected'))}", PLAIN),
        ("drain", drain.state.replace("_", " "), PLAIN if drain.state == "none" else WARNING),
    )


def _read_latencies(view: View) -> Sequence[Fact]:
    def say(name: str) -> str:
        both = (view.store.percentile(name, which, view.window_seconds) for which in ("p50", "p99"))
        return " · ".join(say_seconds(each) for each in both)

    facts = [(name.replace("_", " "), say(name), PLAIN) for name in LATENCIES]
    return (("over", say_window(view.window_seconds), DIM), *facts)


class TopicsPane(Pane):
    """The callback topics, and how far behind those who read them are."""

    DEFAULT_CSS = "TopicsPane #topics { height: 40%; min-height: 4; }"

    def compose(self) -> ComposeResult:
        """Topics above groups."""
        yield RowList(TOPICS, empty="no topic was read yet", id="topics")
        yield Line(id="groups-title")
        yield RowList(GROUPS, empty="no consumer group has committed here", id="groups")

    def present(self, view: View) -> None:
        """Shows this view."""
        store = view.store
        told = store.topics or {}
        self.query_one("#topics", RowList).present(told.get("topics", ()))
        problem = store.problems.get("topics") or told.get("groups_problem")
        age = (
            ""
            if store.topics_at is None
            else f"as of {say_seconds(max(0.0, view.now - store.topics_at))} ago"
        )
        left = [("CONSUMER GROUPS ", "bold"), (problem, WARNING) if problem else ("lag in records", DIM)]
        self.query_one("#groups-title", Line).present(left, ((age, DIM),))
        self.query_one("#groups", RowList).present(told.get("groups", ()))


class EventsPane(Pane):
    """What happened, and the alerts."""

    DEFAULT_CSS = "EventsPane #alerts { height: auto; max-height: 40%; min-height: 3; }"

    def compose(self) -> ComposeResult:
        """Alerts above events."""
        yield RowList(
            ALERT_COLUMNS, empty="no alert is set; --alert 'e2e:p99 > 5s for 20s' sets one", id="alerts"
        )
        yield Line(id="events-title")
        yield RowList(EVENTS, empty="nothing happened yet", id="events")

    def present(self, view: View) -> None:
        """Shows this view."""
        store = view.store
        self.query_one("#alerts", RowList).present(tuple(store.alerts))
        rows = self.query_one("#events", RowList)
        rows.present(tuple(reversed(store.events)), store.events_total, follows=True)
        kept = f"{store.events_total:,} in all" if store.events_total > len(store.events) else ""
        self.query_one("#events-title", Line).present((("EVENTS ", "bold"), (kept, DIM)))


class RunPane(Pane):
    """A load run that drives the service."""

    SCOPED_CSS = False  # the classes of the screen's size are above
    DEFAULT_CSS = """
    RunPane #top { height: 12; }
    RunPane Facts { width: 1fr; height: 12; }
    RunPane #thresholds { height: 1fr; min-height: 3; }
    RunPane #faults { height: 1fr; min-height: 3; }
    RunPane Chart { height: 2fr; }
    .-low RunPane Chart { display: none; }
    """

    def compose(self) -> ComposeResult:
        """Facts, the rates, thresholds and faults."""
        with Horizontal(id="top"):
            yield Facts("run", id="run")
            yield Facts("ledger", id="ledger")
        yield Chart(id="rates")
        yield RowList(THRESHOLDS, empty="no threshold", id="thresholds")
        yield RowList(FAULTS, empty="no fault", id="faults")

    def present(self, view: View) -> None:
        """Shows this view."""
        run = view.store.run
        if run is None:
            self.query_one("#run", Facts).present((("no run is attached", "--attach FILE", DIM),))
            return
        self.query_one("#run", Facts).present(_read_run(run))
        counts = run.get("counts", {})
        self.query_one("#ledger", Facts).present(
            [(name.replace("_", " "), say_count(count), PLAIN) for name, count in list(counts.items())[:10]]
        )
        rates = (Trace("sent/s", view.series("sent")), Trace("called back/s", view.series("published")))
        self.query_one(Chart).present(say_window(view.window_seconds), rates)
        self.query_one("#thresholds", RowList).present(run.get("thresholds", ()))
        self.query_one("#faults", RowList).present(run.get("faults", ()))


def _read_run(run: Mapping[str, Any]) -> Sequence[Fact]:
    lateness = run.get("lateness_p99")
    late = isinstance(lateness, int | float) and lateness > 0.01
    return (
        ("run", str(run.get("run_id", NOTHING)), PLAIN),
        ("phase", str(run.get("phase", NOTHING)), PLAIN),
        ("shape", str(run.get("shape", NOTHING)), PLAIN),
        ("since the first", say_seconds(run.get("seconds")), PLAIN),
        ("asked per s", say_rate(run.get("intended_per_second")), PLAIN),
        ("sent per s", say_rate(run.get("sent_per_second")), PLAIN),
        ("sent late by, p99", say_seconds(lateness), WARNING if late else PLAIN),
        ("outstanding", say_count(run.get("outstanding")), PLAIN),
    )
