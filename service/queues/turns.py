"""Callers take turns: pure bookkeeping in memory."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class Turns(Generic[ItemT]):
    """What waits for the same thing: a row for each caller, and after each item the next caller's turn.

    So a caller that hands in ten thousand at once delays another one's next request by one, not by all.
    """

    def __init__(self, is_present: Callable[[ItemT], bool]) -> None:
        self._is_present = is_present
        """Items may have left elsewhere; they are passed over when they come to the head of their row."""
        self._rows: dict[str | None, deque[ItemT]] = {}

    def append(self, caller: str | None, item: ItemT) -> None:
        """Adds an item behind all others of its caller."""
        self._rows.setdefault(caller, deque()).append(item)

    def restore(self, caller: str | None, item: ItemT) -> None:
        """Puts an item that had been taken back before all others of its caller."""
        self._rows.setdefault(caller, deque()).appendleft(item)

    def head(self) -> ItemT | None:
        """Whose turn it is; None where nothing waits."""
        return next(self.heads(), None)

    def heads(self) -> Iterator[ItemT]:
        """The first of each caller, in the order of their turns."""
        for caller, row in tuple(self._rows.items()):
            while row and not self._is_present(row[0]):
                row.popleft()
            if row:
                yield row[0]
            else:
                del self._rows[caller]

    def pop(self) -> ItemT:
        """Removes and returns the head, after which it is the next caller's turn. `head` came before."""
        caller, row = next(iter(self._rows.items()))
        item = row.popleft()
        del self._rows[caller]
        if row:
            self._rows[caller] = row
        return item
