"""Rows of items that take turns: pure bookkeeping in memory."""

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


Row = Hashable


class Turns(Generic[ItemT]):
    """Rows that take turns: after each item of a row comes the next row's turn.

    With a row for each caller, one that submits ten thousand requests at once delays another one's next
    request by one, not by all.
    """

    def __init__(self, is_present: Callable[[ItemT], bool]) -> None:
        self._is_present = is_present
        """Items may have left elsewhere; they are passed over when they come to the head of their row."""
        self._rows: dict[Row, deque[ItemT]] = {}

    def append(self, row: Row, item: ItemT) -> None:
        """Adds an item at the end of its row."""
        self._rows.setdefault(row, deque()).append(item)

    def restore(self, row: Row, item: ItemT) -> None:
        """Puts an item that had been taken back at the beginning of its row."""
        self._rows.setdefault(row, deque()).appendleft(item)

    def heads(self) -> Iterator[ItemT]:
        """Yields the first item of each row, in the order of their turns."""
        for key, row in tuple(self._rows.items()):
            while row and not self._is_present(row[0]):
                row.popleft()
            if row:
                yield row[0]
            else:
                del self._rows[key]

    def pop(self, key: Row) -> ItemT:
        """Removes and returns the first item of a row, which is the last to have its turn again."""
        row = self._rows.pop(key)
        item = row.popleft()
        if row:
            self._rows[key] = row
        return item
