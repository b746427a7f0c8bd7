"""Who won in which callback, by the names that metadata gives the texts; and what does not count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from llmctl.client.callbacks import CallbackRecord
from llmctl.filters import Filter, RecordView
from llmctl.jobs.swaps import NameKeys
from llmctl.render.tables import shorten
from service.contracts.enums import EssayComparisonWinner
from service.contracts.events import LLMComparisonResultV1

NO_CALLBACK, OTHER_RUN, FILTERED, DUPLICATE = "no_callback", "other_run", "filtered", "duplicate"
ERROR, UNNAMED, SAME_TEXT = "error", "unnamed", "same_text"
REASONS: Mapping[str, str] = {
    NO_CALLBACK: "no callback",
    OTHER_RUN: "of other runs (--all-runs counts them)",
    FILTERED: "filtered out",
    DUPLICATE: "copies of a callback already counted",
    ERROR: "errors",
    UNNAMED: "without names of texts",
    SAME_TEXT: "of a text against itself",
}
"""Why a record is left out, and how that is said."""
KEYS_SHOWN, KEY_WIDTH = 6, 40


@dataclass(frozen=True)
class Selection:
    """Which callbacks count, and where they name their texts."""

    names: NameKeys = field(default_factory=NameKeys)
    filter: Filter = field(default_factory=Filter)
    run_id: str | None = None
    all_runs: bool = False

    def wants_run(self, record: CallbackRecord) -> bool:
        """Whether the record belongs to the traffic that counts: real, of one run, or any."""
        return self.all_runs or record.run_id == self.run_id


@dataclass
class WinCount:
    """Who won against whom, and what was left out and why."""

    selection: Selection
    wins: Counter[tuple[str, str]] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    first_problem: str | None = None
    """Where the first record stands that is no callback, and why it is none."""
    unnamed_keys: tuple[str, ...] = ()
    """What the metadata holds of the first callback that names no texts."""
    _seen: set[UUID] = field(default_factory=set)

    def take(self, record: CallbackRecord, view: RecordView, place: str) -> None:
        """Counts one record, whatever it is."""
        reason = self._judge(record, view, place)
        if reason is not None:
            self.left_out[reason] += 1

    def _judge(self, record: CallbackRecord, view: RecordView, place: str) -> str | None:
        """Counts it, or says why it is left out."""
        if not self.selection.wants_run(record):
            return OTHER_RUN
        if record.envelope is None:
            self.first_problem = self.first_problem or f"{place}: {record.problem}"
            return NO_CALLBACK
        if not self.selection.filter.matches(view):
            return FILTERED
        if record.envelope.event_id in self._seen:
            return DUPLICATE
        self._seen.add(record.envelope.event_id)
        return self._count(record.envelope.data)

    def _count(self, result: LLMComparisonResultV1) -> str | None:
        if result.winner is None:
            return ERROR
        names = read_names(result.request_metadata, self.selection.names)
        if names is None:
            self.unnamed_keys = self.unnamed_keys or tuple(sorted(result.request_metadata))
            return UNNAMED
        if names[0] == names[1]:
            return SAME_TEXT
        self.wins[names if result.winner is EssayComparisonWinner.ESSAY_A else names[::-1]] += 1
        return None

    def describe_left_out(self) -> dict[str, int]:
        """How many were left out, by reason."""
        return {reason: self.left_out[reason] for reason in REASONS}

    def say_left_out(self) -> str:
        """How many were left out for which reason; empty where none was."""
        counted = ((self.left_out[reason], words) for reason, words in REASONS.items())
        return ", ".join(f"{number} {words}" for number, words in counted if number)

    def advise_names(self) -> str | None:
        """What to do about callbacks that name no texts; None where all do."""
        number, names = self.left_out[UNNAMED], self.selection.names
        if not number:
            return None
        keys = [shorten(key, KEY_WIDTH) for key in self.unnamed_keys[:KEYS_SHOWN]]
        rest = " and others" if len(self.unnamed_keys) > KEYS_SHOWN else ""
        there = f"the first has {', '.join(keys)}{rest}" if keys else "the first has none at all"
        without = "1 callback does" if number == 1 else f"{number} callbacks do"
        return (
            f"{without} not name both texts under {names.a} and {names.b} in the metadata "
            f"({there}); --names says which two keys hold them."
        )


def parse_name_keys(text: str) -> NameKeys:
    """The two keys that `a,b` says; ValueError with what is right."""
    keys = [key.strip() for key in text.split(",")]
    if len(keys) != 2 or keys[0] == keys[1] or not all(keys):
        usual = NameKeys()
        raise ValueError(
            f"{text!r} is no pair of keys; write two of them with a comma, such as {usual.a},{usual.b}"
        )
    return NameKeys(*keys)


def read_names(metadata: Mapping[str, Any], keys: NameKeys) -> tuple[str, str] | None:
    """The names of the texts that stood as essay A and as essay B; None where one has none."""
    first, second = _read_name(metadata.get(keys.a)), _read_name(metadata.get(keys.b))
    return None if first is None or second is None else (first, second)


def _read_name(value: object) -> str | None:
    """A text's name: a string that is not blank, or a whole number."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    try:
        name = str(value)
    except ValueError:  # a number of thousands of digits, which Python does not write
        return None
    return name if name.strip() else None
