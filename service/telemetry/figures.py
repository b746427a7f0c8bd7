"""The live figures of one process, in the names of the snapshot."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from service.contracts.enums import LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.telemetry.live import WindowedCount, WindowedLatency

FAST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SLOW_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)


@dataclass(slots=True)
class ProviderFigures:
    """What was seen of one provider."""

    in_flight: int = 0
    calls: int = 0
    errors: int = 0
    last_error: dict[str, str] | None = None

    def finish(self, failure: LLMErrorCode | None) -> None:
        """A call came back."""
        self.in_flight -= 1
        self.calls += 1
        if failure is not None:
            self.errors += 1
            self.last_error = {"error_code": failure.value, "time": datetime.now(UTC).isoformat()}


@dataclass(frozen=True, slots=True)
class Figures:
    """Totals since the start, rates over the last seconds, latencies over the last minute."""

    accepted: WindowedCount = field(default_factory=WindowedCount)
    rejected: WindowedCount = field(default_factory=WindowedCount)
    succeeded: WindowedCount = field(default_factory=WindowedCount)
    failed: WindowedCount = field(default_factory=WindowedCount)
    published: WindowedCount = field(default_factory=WindowedCount)
    publish_failures: WindowedCount = field(default_factory=WindowedCount)
    accept: WindowedLatency = field(default_factory=lambda: WindowedLatency(FAST_SECONDS))
    queue_wait: WindowedLatency = field(default_factory=lambda: WindowedLatency(SLOW_SECONDS))
    provider: WindowedLatency = field(default_factory=lambda: WindowedLatency(SLOW_SECONDS))
    publish: WindowedLatency = field(default_factory=lambda: WindowedLatency(FAST_SECONDS))
    end_to_end: WindowedLatency = field(default_factory=lambda: WindowedLatency(SLOW_SECONDS))
    by_provider: dict[LLMProviderType, ProviderFigures] = field(default_factory=dict)

    def of_provider(self, provider: LLMProviderType) -> ProviderFigures:
        """The figures of one provider, from zero where it was not asked yet."""
        return self.by_provider.setdefault(provider, ProviderFigures())

    def totals(self) -> Mapping[str, int]:
        """Counts since the start."""
        return {name: count.total for name, count in self._counts()}

    def rates(self) -> Mapping[str, float]:
        """Counts a second, over the last ten seconds."""
        return {name: count.rate() for name, count in self._counts()}

    def latency(self) -> Mapping[str, Mapping[str, object]]:
        """Percentiles over the last minute, in seconds."""
        return {
            "accept": self.accept.summarize(),
            "queue_wait": self.queue_wait.summarize(),
            "provider": self.provider.summarize(),
            "publish": self.publish.summarize(),
            "end_to_end": self.end_to_end.summarize(),
        }

    def _counts(self) -> tuple[tuple[str, WindowedCount], ...]:
        return (
            ("accepted", self.accepted),
            ("rejected", self.rejected),
            ("succeeded", self.succeeded),
            ("failed", self.failed),
            ("published", self.published),
            ("publish_failures", self.publish_failures),
        )
