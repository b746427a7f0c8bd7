"""What was asked and what came of it: the last calls one by one, and all of them counted. Never a text."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

MAX_ENTRIES = 20_000
"""So many calls are kept, the newest ones; about 10 MB."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One call."""

    number: int
    """Counts the calls that ended, from 1."""
    time: float
    """When it came, in seconds since the epoch."""
    seconds: float
    """How long it took in real time."""
    api: str
    model: str
    key: str
    """A digest that tells keys apart."""
    request_id: str
    """The caller's id of the request, else a digest of what was asked."""
    attempt: int
    outcome: str
    """`ok`, the name of what went wrong, or `abandoned` where the caller left first."""
    status: int | None
    """None where no answer began."""
    prompt_tokens: int
    completion_tokens: int
    billed: bool

    def as_document(self) -> dict[str, Any]:
        """For the export."""
        return {name: getattr(self, name) for name in self.__slots__}


class Journal:
    """Keeps the newest calls and counts all."""

    def __init__(self) -> None:
        self.clear()

    @property
    def next_number(self) -> int:
        """Of the call that ends next."""
        return self._calls + 1

    def clear(self) -> None:
        """Forgets everything."""
        self._entries: deque[Entry] = deque(maxlen=MAX_ENTRIES)
        self._outcomes: Counter[str] = Counter()
        self._calls = self._billed = self._prompt_tokens = self._completion_tokens = 0

    def add(self, entry: Entry) -> None:
        """Notes a call that ended."""
        self._entries.append(entry)
        self._outcomes[entry.outcome] += 1
        self._calls += 1
        if entry.billed:
            self._billed += 1
            self._prompt_tokens += entry.prompt_tokens
            self._completion_tokens += entry.completion_tokens

    def export(self, after: int = 0) -> Iterator[bytes]:
        """The calls that are kept and have a number above `after`, as JSON lines."""
        for entry in tuple(self._entries):
            if entry.number > after:
                yield orjson.dumps(entry.as_document()) + b"\n"

    def totals(self) -> dict[str, Any]:
        """All calls, counted."""
        return {
            "calls": self._calls,
            "kept": len(self._entries),
            "outcomes": dict(sorted(self._outcomes.items())),
            "billed": self._billed,
            "billed_prompt_tokens": self._prompt_tokens,
            "billed_completion_tokens": self._completion_tokens,
        }
