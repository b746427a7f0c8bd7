"""`simulate sweep`: looks for the highest rate that still meets the thresholds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from llmctl.exits import CallbackProblem, GeneratorLimited, Interrupted, LimitNotMet
from llmctl.jobs.load_views import say_time
from llmctl.jobs.loading import LoadOrder, obey_signals, run_load
from llmctl.render.tables import BAD, GOOD, cell, make_table, mark
from llmctl.render.terminal import Terminal
from simulator.load.run_document import RunDocument
from simulator.load.shape import from_rate
from simulator.quantities import format_duration

WAITED_FOR = "missing"
"""Callbacks that had not come when the settling ended are a backlog here, not yet a loss."""
_WRONG = ("duplicate", "orphan", "wrong_topic", "wrong_key", "corrupt")


@dataclass(frozen=True)
class SweepOrder:
    """What to look for: between two rates, a second, to within a share of the result."""

    load: LoadOrder
    seconds: float
    """Of each step."""
    lowest: float
    highest: float
    precision: float


@dataclass
class Search:
    """Doubles the rate until a step fails, then halves the gap; pure."""

    lowest: float
    highest: float
    precision: float
    best: float | None = None
    worst: float | None = None
    _next: float = field(init=False)

    def __post_init__(self) -> None:
        self._next = self.lowest

    def steps(self) -> Iterator[float]:
        """The rates to try; `note` has to be told of each before the next is asked for."""
        while True:
            yield self._next
            if self.best is None or self.best >= self.highest:
                return
            if self.worst is None:
                self._next = min(self.highest, 2 * self.best)
                continue
            if self.worst <= self.best * (1 + self.precision):
                return
            self._next = (self.best + self.worst) / 2

    def note(self, *, good: bool) -> None:
        """How the step went that was yielded last."""
        if good:
            self.best = self._next
        else:
            self.worst = self._next


async def sweep_and_report(order: SweepOrder, terminal: Terminal) -> None:
    """Tries rates and says the highest that holds; the exception that ends it carries the exit code."""
    ending = obey_signals(terminal)
    search = Search(order.lowest, order.highest, order.precision)
    rows: list[tuple[float, RunDocument]] = []
    limited = False
    for rate in search.steps():
        terminal.say(f"Trying {rate:,.0f}/s for {format_duration(order.seconds)}.")
        document = await run_load(_make_step(order, rate), ending, terminal)
        if document.interrupted:
            raise Interrupted(f"Interrupted while trying {rate:,.0f}/s; {_say_best(search)}.")
        _check_sound(document)
        rows.append((rate, document))
        if terminal.as_json:
            terminal.write(_describe(rate, document))
        limited = _carries(document) and not document.validity.valid
        search.note(good=_holds(document))
    _conclude(order, search, rows, terminal, limited=limited)


def _make_step(order: SweepOrder, rate: float) -> LoadOrder:
    plan = replace(
        order.load.plan,
        run_id=f"sweep-{uuid4().hex[:12]}",
        shape=from_rate(rate, order.seconds),
        callback_topics=(),
    )
    report = None if order.load.report is None else order.load.report / f"{rate:g}"
    return replace(order.load, plan=plan, report=report)


def _holds(document: RunDocument) -> bool:
    """Whether a rate is carried, and that was really measured."""
    return _carries(document) and document.validity.valid


def _carries(document: RunDocument) -> bool:
    """Whether every callback came in time and every threshold was met, as far as was measured."""
    met = all(threshold.met for threshold in document.thresholds)
    return met and not document.ledger.totals[WAITED_FOR]


def _check_sound(document: RunDocument) -> None:
    wrong = {name: document.ledger.totals[name] for name in _WRONG if document.ledger.totals[name]}
    if wrong:
        named = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in wrong.items())
        raise CallbackProblem(f"Callbacks are not as they must be in run {document.run_id}: {named}.")


def _conclude(
    order: SweepOrder,
    search: Search,
    rows: list[tuple[float, RunDocument]],
    terminal: Terminal,
    *,
    limited: bool,
) -> None:
    wanted = ", ".join(str(threshold) for threshold in order.load.plan.thresholds)
    if terminal.as_json:
        terminal.write({"highest_per_second": search.best, "failed_per_second": search.worst})
    else:
        terminal.show(_make_table(rows))
    if search.best is None:
        if limited:
            raise GeneratorLimited(f"Even at {order.lowest:,.0f}/s the generator could not keep up.")
        raise LimitNotMet(f"Not even {order.lowest:,.0f}/s meets {wanted}; begin lower with --from.")
    if not terminal.as_json:
        terminal.show(cell(f"{_say_best(search)}: {wanted}.", GOOD, wrap=True))
    if limited:
        raise GeneratorLimited(
            "What gave out last was the generator, not the service; use more --workers to look further."
        )


def _say_best(search: Search) -> str:
    if search.best is None:
        return "no rate has held so far"
    beyond = "" if search.worst is None else f", and {search.worst:,.0f}/s did not"
    return f"{search.best:,.0f}/s held{beyond}"


def _make_table(rows: list[tuple[float, RunDocument]]) -> Any:
    columns = ("rate", "", "goodput", "e2e p99", "deepest queue", "CPU a request")
    table = make_table(columns, right=(columns[0], *columns[2:]))
    for rate, document in sorted(rows, key=lambda row: row[0]):
        e2e, service = document.latency.get("e2e"), document.service
        cpu = service.cpu_seconds_per_request
        table.add_row(
            cell(f"{rate:,.0f}/s"),
            mark(_holds(document)),
            cell(f"{document.goodput:.1%}", "" if document.goodput > 0.99 else BAD),
            cell(None if e2e is None else say_time(e2e.p99)),
            cell(service.peak_queue_depth),
            cell(None if cpu is None else f"{cpu * 1000:.2f} ms"),
        )
    return table


def _describe(rate: float, document: RunDocument) -> dict[str, Any]:
    e2e = document.latency.get("e2e")
    return {
        "rate_per_second": rate,
        "holds": _holds(document),
        "goodput": document.goodput,
        "e2e_p99": None if e2e is None else e2e.p99,
        "thresholds": [each.model_dump() for each in document.thresholds],
        "validity": document.validity.model_dump(),
        "service": document.service.model_dump(),
    }
