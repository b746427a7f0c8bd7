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
        self._changed = asyncio.Event()

    @property
    def current(self) -> Phase:
        """The phase at this moment."""
        return self._current

    def advance(self, phase: Phase) -> None:
        """Goes over to `phase`; staying where one is changes nothing. Raises `ValueError` on a step back."""
        if phase is self._current:
            return
        if phase not in _NEXT[self._current]:
            raise ValueError(f"no way from {self._current} to {phase}")
        self._current = phase
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for(self, *phases: Phase) -> Phase:
        """Waits until the phase is one of `phases`."""
        while self._current not in phases:
            await self._changed.wait()
        return self._current
