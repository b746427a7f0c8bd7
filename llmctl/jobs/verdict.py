"""What a demonstration found: the comparisons as a table, the ledger as one line, both as one document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from llmctl.client.callbacks import CallbackRecord
from llmctl.jobs.views import read_e2e_seconds
from llmctl.render.tables import BAD, DIM, GOOD, cell, format_cost, make_table, mark
from llmctl.render.terminal import Terminal
from service.contracts.enums import EssayComparisonWinner
from service.contracts.events import LLMComparisonResultV1
from simulator.load.ledger import LedgerReport
from simulator.quantities import format_duration


@dataclass(frozen=True)
class Comparison:
    """One pair: its essays and their known ranks (1 is best), and the callback about it."""

    pair_id: str
    essays: tuple[str, str]
    ranks: tuple[int, int]
    record: CallbackRecord

    @property
    def data(self) -> LLMComparisonResultV1:
        """What the callback says."""
        assert self.record.envelope is not None
        return self.record.envelope.data

    @property
    def winner(self) -> str | None:
        """The essay that won, None where the comparison ended in an error."""
        if self.data.winner is None:
            return None
        return self.essays[0 if self.data.winner is EssayComparisonWinner.ESSAY_A else 1]

    @property
    def agrees(self) -> bool:
        """Whether the better ranked essay won."""
        return self.winner == self.essays[0 if self.ranks[0] < self.ranks[1] else 1]

    @property
    def latency_seconds(self) -> float:
        """From acceptance to the moment at which Kafka had the callback."""
        return max(0.0, read_e2e_seconds(self.record) or 0.0)


@dataclass(frozen=True)
class Demonstration:
    """The outcome of a demonstration."""

    report: LedgerReport
    comparisons: tuple[Comparison, ...]
    seconds: float
    exit_code: int

    def describe(self) -> dict[str, Any]:
        """The same as one JSON document."""
        latencies = sorted(each.latency_seconds for each in self.comparisons)
        providers = sorted(each.data.response_time_ms / 1000 for each in self.comparisons)
        return {
            "ledger": self.report.totals,
            "latency": {"e2e": _percentiles(latencies), "provider": _percentiles(providers)},
            "thresholds": [],
            "exit_code": self.exit_code,
            "agreement": sum(each.agrees for each in self.comparisons),
            "seconds": round(self.seconds, 3),
            "results": [_describe(each) for each in self.comparisons],
        }


def show_demonstration(shown: Demonstration, terminal: Terminal) -> None:
    """The table and the verdict for people, one document for programs."""
    if terminal.as_json:
        terminal.write(shown.describe())
        terminal.say(_say_ledger(shown.report).plain)
        return
    terminal.show(_make_table(shown.comparisons, roomy=terminal.out.width >= 100))
    terminal.show(Text("\n").append_text(_say_ledger(shown.report)))
    terminal.show(_say_rest(shown))


def _make_table(comparisons: Sequence[Comparison], *, roomy: bool) -> Table:
    figures = ("conf", "tokens", "cost", "latency")
    loser = ("over",) if roomy else ()
    table = make_table(
        ("pair", "winner", *loser, "", "conf", "model", "tokens", "cost", "latency"),
        right=figures,
        flexible=("model",),
    )
    for each in comparisons:
        data = each.data
        if each.winner is None:
            said = str(data.error_detail.error_code) if data.error_detail else ""
            judged = [cell(said, BAD), *([cell(None)] if roomy else []), mark(good=False), cell(None)]
        else:
            other = each.essays[0] if each.winner == each.essays[1] else each.essays[1]
            judged = [
                cell(each.winner, "bold"),
                *([cell(other, DIM)] if roomy else []),
                mark(each.agrees),
                cell(f"{data.confidence:.2f}"),
            ]
        model = f"{data.provider.value}/{data.model}" if roomy else data.model
        table.add_row(
            cell(each.pair_id, DIM),
            *judged,
            cell(model),
            cell(data.token_usage.total_tokens),
            cell(format_cost(data.cost_estimate)),
            cell(format_duration(each.latency_seconds)),
        )
    return table


def _say_ledger(report: LedgerReport) -> Text:
    """`accepted 28 = called back 28 · 0 lost · 0 duplicated`, and whatever else there is to say."""
    called_back = report.accepted - report.missing
    sign = "=" if report.accepted == called_back else "≠"
    said = Text(f"accepted {report.accepted} {sign} called back {called_back}", style="bold")
    for count, word in (
        (report.missing, "lost"),
        (report.duplicate, "duplicated"),
    ):
        said.append(f" · {count} {word}", style=BAD if count else GOOD)
    for count, word in (
        (report.failed, "failed"),
        (report.rejected, "refused"),
        (report.late, "late"),
        (report.orphan, "orphaned"),
        (report.wrong_topic, "on a wrong topic"),
        (report.wrong_key, "with a wrong key"),
        (report.corrupt, "corrupt"),
    ):
        if count:
            said.append(f" · {count} {word}", style=BAD)
    return said


def _say_rest(shown: Demonstration) -> Text:
    agreeing = sum(each.agrees for each in shown.comparisons)
    cost = sum(each.data.cost_estimate for each in shown.comparisons)
    latency = _percentiles(sorted(each.latency_seconds for each in shown.comparisons))
    said = [
        f"agrees with the known rank {agreeing}/{len(shown.comparisons)}",
        f"cost {format_cost(cost)} (faked)",
        *([f"p50 {format_duration(latency['p50'])}"] if latency else []),
        f"{shown.seconds:.1f} s",
    ]
    return Text(" · ".join(said), style=DIM)


def _percentiles(ordered: Sequence[float]) -> dict[str, float]:
    """Nearest-rank percentiles of ascending values, in seconds; nothing where there are none."""
    if not ordered:
        return {}
    places = {"p50": 50, "p90": 90, "p99": 99, "max": 100}
    return {name: round(ordered[-(-len(ordered) * at // 100) - 1], 6) for name, at in places.items()}


def _describe(each: Comparison) -> dict[str, Any]:
    return {
        "pair_id": each.pair_id,
        "essay_a_id": each.essays[0],
        "essay_b_id": each.essays[1],
        "winner": each.winner,
        "agrees": each.agrees,
        "latency_seconds": round(each.latency_seconds, 6),
        "result": each.data.model_dump(mode="json"),
    }
