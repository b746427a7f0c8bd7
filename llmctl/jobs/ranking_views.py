"""A ranking as people and programs see it."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from llmctl.ranking.bradley_terry import PRIOR_SD
from llmctl.ranking.order import INTERVAL_PERCENT, Group, ProposedPair, RankedText, Ranking
from llmctl.render.tables import DIM, cell, make_table
from llmctl.render.terminal import Terminal

GROUPS_SAID = 10
_FIGURES = ("rank", "strength", "± SE", f"{INTERVAL_PERCENT} %", "won", "lost", "chance", "gain", "asked")


def describe_ranking(ranking: Ranking) -> dict[str, Any]:
    """The ranking as one JSON document."""
    return {
        "texts": [_describe_text(each) for each in ranking.texts],
        "groups": [_describe_group(each) for each in ranking.groups],
        "comparisons": ranking.comparisons,
        "next_pairs": [_describe_pair(each) for each in ranking.next_pairs],
        "prior_sd": PRIOR_SD,
    }


def show_ranking(ranking: Ranking, terminal: Terminal) -> None:
    """The order, what holds for each group, and the pairs to ask next."""
    terminal.show(_make_order(ranking))
    for group in ranking.groups[:GROUPS_SAID]:
        terminal.show(cell(_say_group(group, ranking), DIM, wrap=True))
    if ranking.next_pairs:
        terminal.show(Text("\nPairs worth asking next", style="bold"))
        terminal.show(_make_next(ranking))


def explain_ranking(ranking: Ranking, terminal: Terminal) -> None:
    """What has to be known about the order, on stderr."""
    if len(ranking.groups) > 1:
        terminal.say(
            f"No comparison connects the {len(ranking.groups)} groups: ranks and strengths hold within "
            "one, and cannot be held against another's. --across also proposes pairs that join them; --where "
            "ranks some of the callbacks alone.",
            "yellow",
        )
    if open_ended := sum(not each.is_one_circle for each in ranking.groups):
        some = (
            f"{open_ended} of {len(ranking.groups)} groups have" if len(ranking.groups) > 1 else "There are"
        )
        terminal.say(
            f"{some} texts that won or lost everything against the rest: only the prior (normal, mean 0, "
            f"standard deviation {PRIOR_SD:g}) keeps their strengths finite.",
            DIM,
        )


def _make_order(ranking: Ranking) -> Table:
    grouped = len(ranking.groups) > 1
    columns = ("rank", "text", "strength", "± SE", f"{INTERVAL_PERCENT} %", "won", "lost")
    table = make_table((("group",) if grouped else ()) + columns, right=_FIGURES, flexible=("text",))
    for each in ranking.texts:
        low, high = each.interval
        table.add_row(
            *([cell(each.group, DIM)] if grouped else []),
            cell(each.rank),
            cell(each.text, "bold", wrap=True),
            cell(f"{each.strength:+.2f}"),
            cell(f"{each.standard_error:.2f}"),
            cell(f"{low:+.2f} … {high:+.2f}", DIM),
            cell(each.won),
            cell(each.lost),
        )
    return table


def _make_next(ranking: Ranking) -> Table:
    table = make_table(("text", "against", "chance", "gain", "asked"), right=_FIGURES)
    for each in ranking.next_pairs:
        table.add_row(
            cell(each.first),
            cell(each.second),
            cell(f"{each.chance:.0%}"),
            cell(f"{each.gain:.3f}"),
            cell(each.asked, DIM),
        )
    return table


def _say_group(group: Group, ranking: Ranking) -> str:
    name = f"group {group.number}: " if len(ranking.groups) > 1 else ""
    return (
        f"{name}{group.comparisons} comparisons of {group.texts} texts · reliability {group.reliability:.2f}"
    )


def _describe_text(text: RankedText) -> dict[str, Any]:
    low, high = text.interval
    return {
        "text": text.text,
        "group": text.group,
        "rank": text.rank,
        "strength": text.strength,
        "standard_error": text.standard_error,
        "low": low,
        "high": high,
        "won": text.won,
        "lost": text.lost,
    }


def _describe_group(group: Group) -> dict[str, Any]:
    return {
        "group": group.number,
        "texts": group.texts,
        "comparisons": group.comparisons,
        "reliability": group.reliability,
        "finite_without_prior": group.is_one_circle,
    }


def _describe_pair(pair: ProposedPair) -> dict[str, Any]:
    return {
        "first": pair.first,
        "second": pair.second,
        "chance": pair.chance,
        "gain": pair.gain,
        "asked": pair.asked,
    }
