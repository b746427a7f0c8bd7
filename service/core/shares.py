"""How much of a queue one caller may fill: a pure decision."""

from collections.abc import Collection
from typing import Protocol


class CountOfCaller(Protocol):
    """How many requests of a caller wait."""

    def __call__(self, caller: str | None, /) -> int: ...


def find_room(
    capacity: int, held: int, caller: str | None, callers: Collection[str], count_of: CountOfCaller
) -> int:
    """How many requests a caller may add to a queue that holds `held`; 0 or less is none.

    Half of the queue is there for whoever comes first. The other half is divided among the known callers, and
    what one of them does not use of its part stays free for it: so nobody finds the queue full because of
    another one.
    """
    room = capacity - held
    if len(callers) < 2:
        return room
    part = capacity // (2 * len(callers))
    if count_of(caller) < part:
        return room
    return room - sum(max(0, part - count_of(other)) for other in callers if other != caller)
