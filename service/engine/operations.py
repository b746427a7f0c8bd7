"""What operators ask: is it alive, is it ready, and if not, why."""

from dataclasses import dataclass

from service.core.ports import TopicDirectory
from service.engine.phase import Phase, PhaseGate


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether requests are accepted; `reason` says why not."""

    ready: bool
    phase: Phase
    broker: str
    """`up` or `down`; a broker that is down does not stop acceptance."""
    reason: str | None = None


class Operations:
    """Health and readiness of this process."""

    def __init__(self, *, gate: PhaseGate, directory: TopicDirectory) -> None:
        self._gate = gate
        self._directory = directory

    def check_readiness(self) -> Readiness:
        """Whether a load balancer should send requests here."""
        phase = self._gate.current
        broker = "up" if self._directory.reachable else "down"
        if phase is Phase.READY:
            return Readiness(True, phase, broker)
        return Readiness(False, phase, broker, f"The service is {phase.value}.")
