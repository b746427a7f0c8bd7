"""What a run is to do: all that the referee and its workers need to know."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from service.contracts.enums import LLMProviderType
from simulator.load.dispatch import WorkerPlan
from simulator.load.faults import PlannedFault
from simulator.load.shape import Shape
from simulator.load.stages import Level
from simulator.load.thresholds import Threshold
from simulator.quantities import format_duration


@dataclass(frozen=True)
class LoadPlan:
    """A run; times are in seconds."""

    run_id: str
    shape: Shape
    """With its traces read."""
    seed: int
    callback_topics: tuple[str, ...]
    thresholds: tuple[Threshold, ...] = ()
    faults: tuple[PlannedFault, ...] = ()
    workers: int = 1
    warm_up_seconds: float = 0.0
    """Of requests at the first rate of the shape, which count in the ledger and in no figure."""
    settle_limit_seconds: float = 60.0
    """How long callbacks may take after the last send."""
    quiet_seconds: float = 2.0
    """How long is listened for second callbacks after that."""
    late_after_seconds: float | None = None
    provider: LLMProviderType | None = None
    max_outstanding: int = 2000
    requests_file: Path | None = None
    """Where a line about each request goes, compressed."""

    def check(self) -> None:
        """ValueError where the parts do not fit each other."""
        if self.warm_up_seconds and not isinstance(self.shape.stages[0], Level):
            raise ValueError(
                f"a warm-up needs a first stage with one rate, and {str(self.shape.stages[0])!r} has none; "
                "leave out --warm-up"
            )
        late = [fault for fault in self.faults if fault.at_seconds > self.shape.seconds]
        if late:
            raise ValueError(
                f"the fault {late[0].text!r} comes after the last send; let it be at "
                f"{format_duration(self.shape.seconds)} at the latest"
            )

    @property
    def full_shape(self) -> str:
        """The shape with its warm-up before it, as text."""
        if not self.warm_up_seconds:
            return str(self.shape)
        first = self.shape.stages[0]
        assert isinstance(first, Level)
        return f"{Level(first.per_second, self.warm_up_seconds, first.cv)}; {self.shape}"

    def for_workers(self, url: str, token: str | None) -> WorkerPlan:
        """What each worker is told."""
        return WorkerPlan(
            url=url,
            run_id=self.run_id,
            callback_topics=self.callback_topics,
            shape=self.full_shape,
            seed=self.seed,
            token=token,
            provider_override=self.provider,
            max_outstanding=self.max_outstanding,
        )
