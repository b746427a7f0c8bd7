"""Lets somebody wait until a request takes its next step: it waits again, or is over."""

import asyncio
from collections.abc import Iterable


class Steps:
    """Whoever waits for a step of a request, by its sequence. Costs nothing where nobody does."""

    def __init__(self) -> None:
        self._awaited: dict[int, asyncio.Event] = {}

    async def wait(self, sequence: int) -> None:
        """Returns when the request takes its next step."""
        await self._awaited.setdefault(sequence, asyncio.Event()).wait()

    def take(self, sequence: int) -> None:
        """The request takes a step."""
        awaited = self._awaited.pop(sequence, None)
        if awaited is not None:
            awaited.set()

    def take_every(self) -> None:
        """Whoever waits is to look again."""
        self.take_all(tuple(self._awaited))

    def take_all(self, sequences: Iterable[int]) -> None:
        """Each of these requests takes a step."""
        if self._awaited:
            for sequence in sequences:
                self.take(sequence)
