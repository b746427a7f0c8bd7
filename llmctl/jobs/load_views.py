"""How a load run looks: live while it goes on, and its verdicts at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.text import Text

from llmctl.render.tables import BAD, DIM, GOOD, NOTHING, cell, make_table, mark
from llmctl.render.terminal import Terminal
from simulator.load.plan import LoadPlan
from simulator.load.referee import Phase, Referee
from simulator.load.run_document import Distribution, RunDocument, ThresholdResult
from simulator.quantities import format_duration

REFRESHES_PER_SECOND = 4
SPARK_SLICES = 40
_BARS = "▁▂▃▄▅▆▇█"
_ROWS = (
    ("accept", "accept", "accept_corrected"),
    ("queue wait", "queue_wait", None),
    ("provider", "provider", None),
    ("publish", "publish", None),
    ("delivery", "delivery", None),
    ("end to end", "e2e", "e2e_corrected"),
)
_BESIDE = ("ambiguous", "early", "unreachable", "skipped")
"""Counts that stand beside the published ledger."""
_WRONG = ("missing", "duplicate", "orphan", "wrong_topic", "wrong_key", "corrupt")


@contextmanager
def live_view(referee: Referee, plan: LoadPlan, terminal: Terminal) -> Iterator[None]:
    """Shows rates, counts and thresholds on stderr while the run goes on, where a person looks on."""
    if not terminal.err.is_terminal:
        yield
        return
    with Live(
        console=terminal.err,
        get_renderable=lambda: _render_live(referee, plan),
        refresh_per_second=REFRESHES_PER_SECOND,
        transient=True,
    ):
        yield


def _render_live(referee: Referee, plan: LoadPlan) -> Group:
    figures = referee.figures
    at = referee.seconds
    left = (
        f"{format_duration(max(0.0, plan.shape.seconds - at))} left" if referee.phase is Phase.ACTIVE else ""
    )
    head = Text.assemble((f"{referee.phase.value:<9}", "bold"), f"{max(0.0, at):5.0f}s  ", (left, DIM))
    counts = Text(
        f"accepted {figures.total('accepted'):,} · called back {figures.total('called_back'):,} · "
        f"outstanding {referee.outstanding:,} · failed {figures.total('failed'):,} · "
        f"rejected {figures.total('rejected'):,}"
    )
    lines = [head, counts]
    slices = figures.slices(SPARK_SLICES)[:-1]  # the last one is not full yet
    if slices:
        values = [each.called_back / figures.slice_seconds for each in slices]
        lines.append(Text.assemble("callbacks/s ", (_spark(values), "cyan"), f" {values[-1]:,.0f}"))
    for threshold in plan.thresholds:
        if threshold.metric.startswith("ledger.") or threshold.metric == "cpu_per_request":
            continue  # they are known at the end alone
        value = figures.read(threshold.metric, threshold.aggregate)
        if value is not None:
            said = f" {threshold}  now {say_value(value, threshold.unit)}"
            lines.append(mark(threshold.holds(value)).append_text(Text(said, style="default")))
    lines.append(Text("Ctrl-C ends the run early and still reports.", style=DIM))
    return Group(*lines)


def _spark(values: Sequence[float]) -> str:
    highest = max(values) or 1.0
    return "".join(_BARS[min(len(_BARS) - 1, int(value / highest * len(_BARS)))] for value in values)


def show_run(document: RunDocument, terminal: Terminal, report: Path | None) -> None:
    """The verdicts: tables for people, one document for programs."""
    if terminal.as_json:
        terminal.write(_describe(document))
        return
    terminal.show(_make_latency_table(document))
    for threshold in document.thresholds:
        terminal.show(_say_threshold(threshold))
    terminal.show(Text())
    terminal.show(_say_ledger(document))
    terminal.show(_say_rest(document))
    if report is not None:
        terminal.show(cell(f"Report: {report / 'report.html'}", DIM), whole=True)


def _describe(document: RunDocument) -> dict[str, Any]:
    latency = {name: each.model_dump(exclude={"buckets"}) for name, each in document.latency.items()}
    ledger = {name: count for name, count in document.ledger.totals.items() if name not in _BESIDE}
    return {
        "ledger": ledger,
        "latency": latency,
        "thresholds": [each.model_dump() for each in document.thresholds],
        "exit_code": document.exit_code,
        "run_id": document.run_id,
        "seed": document.seed,
        **{name: document.ledger.totals[name] for name in _BESIDE},
        "examples": document.ledger.examples,
        "offered_per_second": document.offered_per_second,
        "achieved_per_second": document.achieved_per_second,
        "goodput": document.goodput,
        "error_rate": document.error_rate,
        "service": document.service.model_dump(),
        "validity": document.validity.model_dump(),
        "faults": [each.model_dump() for each in document.faults],
    }


def _make_latency_table(document: RunDocument) -> Any:
    columns = ("", "p50", "p90", "p99", "p99.9", "max", "p99 from intended")
    table = make_table(columns, right=columns[1:])
    for title, name, corrected in _ROWS:
        found = document.latency.get(name)
        if found is None:
            continue
        other = document.latency.get(corrected) if corrected else None
        table.add_row(
            cell(title), *(cell(text) for text in _spread(found)), cell(other and say_time(other.p99))
        )
    return table


def _spread(found: Distribution) -> tuple[str, ...]:
    return tuple(say_time(value) for value in (found.p50, found.p90, found.p99, found.p999, found.max))


def say_time(seconds: float) -> str:
    return f"{seconds * 1000:.1f}ms" if seconds < 0.1 else format_duration(seconds)


def _say_threshold(threshold: ThresholdResult) -> Text:
    value = NOTHING if threshold.value is None else say_value(threshold.value, threshold.unit)
    return mark(threshold.met).append_text(Text(f" {threshold.threshold}  was {value}", style="default"))


def say_value(value: float, unit: str) -> str:
    """A threshold's value in its unit, as in `ThresholdResult`."""
    match unit:
        case "s":
            return say_time(value)
        case "%":
            return f"{value:.2%}"
        case "/s":
            return f"{value:,.1f}/s"
        case _:
            return f"{value:,g}"


def _say_ledger(document: RunDocument) -> Text:
    totals = document.ledger.totals
    called_back = totals["accepted"] - totals["missing"]
    sign = "=" if called_back == totals["accepted"] else "≠"
    said = Text(f"accepted {totals['accepted']:,} {sign} called back {called_back:,}", style="bold")
    for name in _WRONG:
        if totals[name] or name in {"missing", "duplicate"}:
            said.append(f" · {totals[name]:,} {name.replace('_', ' ')}", style=BAD if totals[name] else GOOD)
    for name in ("failed", "late", "rejected", *_BESIDE):
        if totals[name]:
            said.append(f" · {totals[name]:,} {name}", style="yellow")
    return said


def _say_rest(document: RunDocument) -> Text:
    service = document.service
    said = [
        f"{document.achieved_per_second:,.1f} of {document.offered_per_second:,.1f} requests/s sent in time",
        f"goodput {document.goodput:.2%}",
    ]
    if service.peak_queue_depth is not None:
        said.append(f"deepest queue {service.peak_queue_depth:,}")
    if service.drain_seconds is not None:
        said.append(f"drained in {say_time(service.drain_seconds)}")
    if service.cpu_seconds_per_request is not None:
        said.append(f"service {service.cpu_seconds_per_request * 1000:.2f} ms CPU a request")
    if document.faults:
        count = len(document.faults)
        said.append(f"{count} fault{'' if count == 1 else 's'} injected")
    return Text(" · ".join(said), style=DIM)
