"""The one phase of the process, which intake and pool both ask."""

import asyncio
from enum import StrEnum


class Phase(StrEnum):
    """STARTING, READY, DRAINING, STOPPED: in this order, and back from DRAINING to READY on resume."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"


_NEXT: dict[Phase, frozenset[Phase]] = {
    Phase.STARTING: frozenset({Phase.READY, Phase.DRAINING, Phase.STOPPED}),
    Phase.READY: frozenset({Phase.DRAINING, Phase.STOPPED}),
    Phase.DRAINING: frozenset({Phase.READY, Phase.STOPPED}),
    Phase.STOPPED: frozenset(),
}


class PhaseGate:
    """Holds the current phase and wakes whoever waits for another."""

    def __init__(self) -> None:
        self._current = Phase.STARTING
        self._until_empty = False
        self._changed = asyncio.Event()

    @property
    def current(self) -> Phase:
        """The phase at this moment."""
        return self._current

    @property
    def accepting(self) -> bool:
        """Whether intake takes new requests."""
        return self._current is Phase.READY

    @property
    def claiming(self) -> bool:
        """Whether the pool takes requests out of the queue: while ready, or to drain until it is empty."""
        return self._current is Phase.READY or (self._current is Phase.DRAINING and self._until_empty)

    @property
    def parting(self) -> bool:
        """Whether clients are better off elsewhere: while draining, and when stopped."""
        return self._current in {Phase.DRAINING, Phase.STOPPED}

    def advance(self, phase: Phase, *, until_empty: bool = False) -> None:
        """Goes over to `phase`; `until_empty` lets a drain work the queue off.

        Raises `ValueError` on a step back.
        """
        if phase is not self._current and phase not in _NEXT[self._current]:
            raise ValueError(f"no way from {self._current} to {phase}")
        self._current = phase
        self._until_empty = until_empty
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_until_stopped(self) -> None:
        """Waits until the process is about to end."""
        while self._current is not Phase.STOPPED:
            await self._changed.wait()

    async def wait_until_claiming(self, claiming: bool = True) -> None:
        """Waits until the pool may take requests, or until it may not."""
        while self.claiming is not claiming:
            await self._changed.wait()
