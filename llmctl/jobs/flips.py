"""What a swap check found: how often a judge's verdict went with the position instead of the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.table import Table

from llmctl.proportions import Proportion, estimate_proportion
from llmctl.render.tables import BAD, DIM, GOOD, cell, make_table
from llmctl.render.terminal import Terminal
from service.contracts.enums import EssayComparisonWinner
from service.contracts.events import LLMComparisonResultV1


@dataclass(frozen=True, slots=True)
class _Half:
    """One verdict of a pair."""

    provider: str
    model: str
    first_won: bool


@dataclass
class ModelFlips:
    """The pairs that one model judged both ways."""

    provider: str
    model: str
    pairs: int = 0
    flips: int = 0
    """The two verdicts name different texts."""
    first_wins: int = 0
    """Verdicts, of two for each pair, that name the essay that stood first."""

    @property
    def flip_rate(self) -> Proportion | None:
        """Flips in all pairs."""
        return estimate_proportion(self.flips, self.pairs)

    @property
    def first_share(self) -> Proportion | None:
        """How much of all verdicts the first position won; one half where the position plays no part.

        The two verdicts of a pair hang together, so the interval counts the pair once.
        """
        return estimate_proportion(self.first_wins / 2, self.pairs)

    def describe(self) -> dict[str, Any]:
        """The same as JSON."""
        document: dict[str, Any] = {"provider": self.provider, "model": self.model, "pairs": self.pairs}
        document["flips"] = self.flips
        for name, found in (("flip_rate", self.flip_rate), ("first_position_share", self.first_share)):
            document[name] = None if found is None else found.share
            document[f"{name}_low"] = None if found is None else found.low
            document[f"{name}_high"] = None if found is None else found.high
        return document


class FlipTally:
    """Brings the two verdicts of each line together; keeps no more than the lines that are half known."""

    def __init__(self) -> None:
        self._halves: dict[int, _Half | None] = {}
        self._models: dict[tuple[str, str], ModelFlips] = {}
        self._unusable = 0

    def take(self, line: int, result: LLMComparisonResultV1 | None) -> None:
        """One of the two requests of a line has ended; without a verdict the pair is left out."""
        half = None if result is None else _read_half(result)
        if line not in self._halves:
            self._halves[line] = half
            return
        other = self._halves.pop(line)
        if half is None or other is None or (half.provider, half.model) != (other.provider, other.model):
            self._unusable += 1
            return
        found = self._models.setdefault((half.provider, half.model), ModelFlips(half.provider, half.model))
        found.pairs += 1
        # The same position won both times: since the texts changed places, two different texts won.
        found.flips += half.first_won == other.first_won
        found.first_wins += half.first_won + other.first_won

    @property
    def left_out(self) -> int:
        """Pairs that were not judged both ways by one and the same model."""
        return self._unusable + len(self._halves)

    def models(self) -> tuple[ModelFlips, ...]:
        """What is known of each model, in alphabetical order."""
        return tuple(self._models[key] for key in sorted(self._models))

    def show(self, terminal: Terminal) -> None:
        """The report: as the last line of JSON, or as a table."""
        models = self.models()
        if terminal.as_json:
            terminal.write(
                {"swap_check": [each.describe() for each in models], "pairs_left_out": self.left_out}
            )
            return
        if models:
            terminal.show(_make_table(models))
        if self.left_out:
            said = f"Pairs left out, since no one model judged them both ways: {self.left_out}."
            terminal.show(cell(said, DIM, wrap=True))


def _make_table(models: tuple[ModelFlips, ...]) -> Table:
    columns = ("model", "pairs", "flips", "flip rate (95%)", "first won (95%)")
    table = make_table(columns, right=columns[1:], flexible=("model",))
    for each in models:
        first = each.first_share
        biased = first is not None and not first.low <= 0.5 <= first.high
        table.add_row(
            cell(f"{each.provider}/{each.model}", wrap=True),
            cell(each.pairs),
            cell(each.flips),
            cell(each.flip_rate),
            cell(first, BAD if biased else GOOD),
        )
    return table


def _read_half(result: LLMComparisonResultV1) -> _Half | None:
    if result.winner is None:
        return None
    return _Half(result.provider.value, result.model, result.winner is EssayComparisonWinner.ESSAY_A)
