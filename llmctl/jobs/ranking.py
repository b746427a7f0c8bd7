"""`rank`: reads the callbacks of a topic or a file, has the order of their texts computed, and shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import BinaryIO

from llmctl.client.callbacks import Start, open_callbacks
from llmctl.exits import CliError, Failed, UsageProblem
from llmctl.jobs.callback_lines import read_callback_lines
from llmctl.jobs.views import view_record
from llmctl.jobs.win_count import Selection, WinCount
from llmctl.render.progress import progress_line
from llmctl.render.tables import DIM
from llmctl.render.terminal import Terminal
from simulator.kafka_address import KafkaAddress


@dataclass(frozen=True)
class RankPlan:
    """What to rank, and how many pairs to propose."""

    selection: Selection = field(default_factory=Selection)
    next_count: int = 5
    across: bool = False
    """Whether pairs that join groups are proposed too."""


async def rank_topic(plan: RankPlan, topic: str, kafka: KafkaAddress, terminal: Terminal) -> None:
    """Ranks by what stands on a topic now, read without a group; a CliError where nothing can be ranked."""
    _need_libraries()
    count = WinCount(plan.selection)
    with progress_line(terminal, counted=False) as progress:
        progress.begin(f"reading {topic}")
        async with open_callbacks(kafka, [topic], Start(from_beginning=True)) as stream:
            async for batch in stream.read_standing():
                for record in batch:
                    place = f"{record.topic}/{record.partition}@{record.offset}"
                    count.take(record, view_record(record), place)
    _rank(count, plan, f"topic {topic}", terminal)


def rank_file(plan: RankPlan, file: BinaryIO, terminal: Terminal) -> None:
    """Ranks by the callbacks of a file of JSON lines; a CliError where nothing can be ranked."""
    _need_libraries()
    count = WinCount(plan.selection)
    with progress_line(terminal, counted=False) as progress:
        progress.begin("reading the file")
        for line in read_callback_lines(file):
            count.take(line.record, line.view(), f"line {line.number}")
    _rank(count, plan, "file", terminal)


def _rank(count: WinCount, plan: RankPlan, source: str, terminal: Terminal) -> None:
    from llmctl.jobs.ranking_views import describe_ranking, explain_ranking, show_ranking
    from llmctl.ranking.order import rank
    from llmctl.ranking.wins import count_wins

    if not count.wins:
        raise _refuse_nothing(count, source)
    wins = count_wins(count.wins)
    with progress_line(terminal, counted=False) as progress:
        progress.begin(f"ranking {len(wins.texts)} texts")
        try:
            ranking = rank(wins, plan.next_count, across=plan.across)
        except ValueError as problem:
            raise UsageProblem(f"{problem}; rank some of them with --where.") from None
    if terminal.as_json:
        terminal.write(describe_ranking(ranking) | {"left_out": count.describe_left_out()})
    else:
        show_ranking(ranking, terminal)
    explain_ranking(ranking, terminal)
    _explain_left_out(count, terminal)


def _explain_left_out(count: WinCount, terminal: Terminal) -> None:
    """Says on stderr what did not count, and what can be done about it."""
    if said := count.say_left_out():
        first = f" ({count.first_problem})" if count.first_problem else ""
        terminal.say(f"Left out: {said}{first}.", DIM)
    if advice := count.advise_names():
        terminal.say(advice, "yellow")


def _refuse_nothing(count: WinCount, source: str) -> CliError:
    """Why there is nothing to rank. Where it is only the names that are missing, the usage is wrong."""
    said = count.say_left_out()
    if not said:
        return Failed(f"There is no callback in the {source}, so there is nothing to rank.")
    if advice := count.advise_names():
        return UsageProblem(f"Nothing in the {source} can be ranked: {advice}")
    first = f" ({count.first_problem})" if count.first_problem else ""
    return Failed(f"Nothing in the {source} can be ranked; there are {said}{first}.")


def _need_libraries() -> None:
    """UsageProblem where the extra `rank` is not installed, before anything is read."""
    try:
        import llmctl.ranking.order  # noqa: F401
    except ImportError as missing:
        if (missing.name or "").partition(".")[0] not in {"numpy", "scipy"}:
            raise
        raise UsageProblem("Ranking needs an extra; install it with `pip install 'llmctl[rank]'`.") from None
