"""The callbacks that were seen: a ring of rows, what of it passes the filter, and what was wrong with any."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice

from llmctl.filters import Filter
from llmctl.tui.model.rows import INVALID, CallbackRow

REMEMBERED_EVENTS = 20_000


class CallbackFeed:
    """The last callbacks, the newest last. A filter is for what is shown; all is kept and counted."""

    def __init__(self, size: int) -> None:
        self._rows: deque[CallbackRow] = deque(maxlen=size)
        self._passed: deque[CallbackRow] = deque(maxlen=size)
        self._filter = Filter()
        self._filter_text = ""
        self._seen: set[str] = set()
        self._seen_order: deque[str] = deque()
        self.total = 0
        """How many callbacks were read."""
        self.passed_total = 0
        """How many of them the filter let through, since it was set."""
        self.duplicates = 0
        """Copies of an event that was seen before, as a crash may leave them."""
        self.invalid = 0
        """Records that are no valid envelope."""

    @property
    def filter_text(self) -> str:
        """The filter as it was written."""
        return self._filter_text

    @property
    def filtered(self) -> bool:
        """Whether there is a filter."""
        return bool(self._filter.terms)

    def take(self, rows: Iterable[CallbackRow]) -> None:
        """Takes callbacks in, in the order in which they came."""
        for row in rows:
            self.total += 1
            self._judge(row)
            self._rows.append(row)
            if self._filter.matches(row.view()):
                self.passed_total += 1
                self._passed.append(row)

    def set_filter(self, text: str, chosen: Filter) -> None:
        """Shows only what passes from here on, also of what is there already."""
        self._filter, self._filter_text = chosen, text
        self._passed = deque((row for row in self._rows if chosen.matches(row.view())), self._rows.maxlen)
        self.passed_total = len(self._passed)

    def shown(self) -> list[CallbackRow]:
        """The rows that pass the filter, the newest last."""
        return list(self._passed)

    def newest(self, count: int) -> list[CallbackRow]:
        """The newest that pass the filter, the newest first."""
        return list(islice(reversed(self._passed), count))

    def _judge(self, row: CallbackRow) -> None:
        if row.status == INVALID:
            self.invalid += 1
            return
        if row.event_id in self._seen:
            self.duplicates += 1
            return
        self._seen.add(row.event_id)
        self._seen_order.append(row.event_id)
        if len(self._seen_order) > REMEMBERED_EVENTS:
            self._seen.discard(self._seen_order.popleft())
