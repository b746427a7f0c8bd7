"""What operators ask: is it alive, is it ready, how is it doing."""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from service.contracts.enums import LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.core.errors import Refused
from service.core.keys import KeyReport, KeyStatus
from service.core.ports import (
    Clock,
    KeyedProvider,
    LiveFigures,
    Outbox,
    PublishedPrices,
    QueueDisk,
    RequestQueue,
    TopicDirectory,
    UndeliveredCallbacks,
    UsageEvents,
)
from service.engine.drain import DrainController
from service.engine.guards import Guards
from service.engine.phase import Phase, PhaseGate
from service.engine.pool import Pool
from service.engine.routing import Router

KEY_CHECK_LIMIT_SECONDS = 10.0
_NO_KEY = KeyReport(KeyStatus.NO_KEY, "It is asked without a key.")


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether requests are accepted; `reason` says why not."""

    ready: bool
    phase: Phase
    broker: str
    """`up` or `down`; a broker that is down does not stop acceptance."""
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Deployment:
    """What does not change while the process lives."""

    version: str
    queue_backend: str
    queue_capacity: int
    usage_topic: str | None = None
    queue_topics: Mapping[str, str] = field(default_factory=dict)
    """The topics of a queue on Kafka, by what they are for."""


class Operations:
    """Health, readiness and live figures of this process."""

    def __init__(
        self,
        *,
        deployment: Deployment,
        gate: PhaseGate,
        directory: TopicDirectory,
        queue: RequestQueue,
        outbox: Outbox,
        undelivered: UndeliveredCallbacks,
        usage: UsageEvents,
        pool: Pool,
        router: Router,
        guards: Guards,
        drain: DrainController,
        figures: LiveFigures,
        prices: PublishedPrices,
        keyed: Mapping[LLMProviderType, KeyedProvider],
        disk: QueueDisk | None,
        clock: Clock,
    ) -> None:
        self._deployment = deployment
        self._gate = gate
        self._directory = directory
        self._queue = queue
        self._outbox = outbox
        self._undelivered = undelivered
        self._usage = usage
        self._pool = pool
        self._router = router
        self._guards = guards
        self._drain = drain
        self._figures = figures
        self._prices = prices
        self._keyed = keyed
        self._disk = disk
        self._clock = clock
        self._stopping = False

    @property
    def stopped(self) -> bool:
        """Whether the process is about to end."""
        return self._gate.current is Phase.STOPPED

    async def wait_until_stopped(self, limit_seconds: float) -> None:
        """Returns when the process is about to end, or after the limit."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_seconds):
                await self._gate.wait_until_stopped()

    @property
    def stopping(self) -> bool:
        """Whether the process was told to end."""
        return self._stopping

    def note_stopping(self) -> None:
        """From here on a drain is no longer the operator's to take back."""
        self._stopping = True

    def check_readiness(self) -> Readiness:
        """Whether a load balancer should send requests here."""
        phase = self._gate.current
        broker = "up" if self._directory.reachable else "down"
        if phase is Phase.READY and not self._queue.stats().usable:
            return Readiness(False, phase, broker, "The durable queue cannot be written at the moment.")
        if phase is Phase.READY:
            return Readiness(True, phase, broker)
        return Readiness(False, phase, broker, f"The service is {phase.value}.")

    def take_snapshot(self) -> dict[str, Any]:
        """All live figures at this moment, as `GET /admin/v1/snapshot` shows them."""
        now = self._clock.now()
        stats = self._queue.stats()
        oldest = stats.oldest_accepted_at
        drain = self._drain.report()
        return {
            "version": self._deployment.version,
            "time": now.isoformat(),
            "phase": self._gate.current.value,
            "accepting": self._gate.accepting,
            "broker": "up" if self._directory.reachable else "down",
            "queue": {
                "backend": self._deployment.queue_backend,
                "depth": stats.waiting,
                "capacity": self._deployment.queue_capacity,
                "oldest_age_seconds": 0.0 if oldest is None else max(0.0, (now - oldest).total_seconds()),
                "disk": self._describe_disk(),
                "quarantined": {"count": stats.quarantined.count, "reason": stats.quarantined.reason},
                "topics": dict(self._deployment.queue_topics) or None,
            },
            "in_flight": self._pool.in_flight_count(),
            "outbox": {"depth": self._outbox.depth(), "parked": self._undelivered.parked()},
            "usage": self._describe_usage(),
            "totals": self._figures.totals(),
            "rates": self._figures.rates(),
            "latency": self._figures.latency(),
            "providers": [self._describe_live(name) for name in self._router.names()],
            "drain": {
                "state": drain.state.value,
                "started_at": None if drain.started_at is None else drain.started_at.isoformat(),
                "timeout_seconds": drain.timeout_seconds,
                "remaining": self._drain.in_flight_count(),
            },
        }

    def list_providers(self) -> list[dict[str, Any]]:
        """The configured providers with models, prices and limits, as `GET /api/v1/providers` shows them."""
        return [
            {
                **self._describe_live(name),
                "default": name is self._router.default,
                "default_model": self._router.named(name).default_model,
                "models": list(self._router.named(name).models),
                "prices": {
                    model: self._prices.describe_price(name, model)
                    for model in self._router.named(name).models
                },
            }
            for name in self._router.names()
        ]

    def hold_provider(self, name: str, seconds: float | None) -> dict[str, Any]:
        """Has a provider asked nothing for so long, or until released; how it stands then.

        Raises `Refused` where no such provider is configured.
        """
        provider = self._find_provider(name)
        self._guards.hold(provider, seconds)
        return self._describe_live(provider)

    def release_provider(self, name: str) -> dict[str, Any]:
        """Has a provider asked again, whatever held it; how it stands then. Raises `Refused` as above."""
        provider = self._find_provider(name)
        self._guards.free(provider)
        return self._describe_live(provider)

    async def check_provider(self, name: str) -> dict[str, Any]:
        """Tries a provider's key with a call that costs nothing. Raises `Refused` as above."""
        provider = self._find_provider(name)
        keyed = self._keyed.get(provider)
        report = _NO_KEY if keyed is None else await keyed.check_key(KEY_CHECK_LIMIT_SECONDS)
        return {
            "name": provider.value,
            "usable": report.usable,
            "status": report.status.value,
            "message": report.message,
        }

    def _describe_usage(self) -> dict[str, Any] | None:
        topic = self._deployment.usage_topic
        return None if topic is None else {"topic": topic, "pending": self._usage.depth()}

    def _describe_disk(self) -> dict[str, Any] | None:
        room = None if self._disk is None else self._disk.measure()
        if room is None:
            return None
        return {"folder": room.folder, "free_bytes": room.free_bytes, "reserve_bytes": room.reserve_bytes}

    def _find_provider(self, name: str) -> LLMProviderType:
        known = {provider.value: provider for provider in self._router.names()}
        if name not in known:
            configured = ", ".join(known) or "none"
            raise Refused(
                LLMErrorCode.NOT_FOUND,
                f"No provider {ascii(name)[:60]} is configured here; there are: {configured}.",
            )
        return known[name]

    def _describe_live(self, name: LLMProviderType) -> dict[str, Any]:
        figures = self._figures.of_provider(name)
        state = self._guards.state(name)
        held = self._guards.held_until(name)
        return {
            "name": name.value,
            "circuit": state.circuit.value,
            "held_until": None if held is None or held.until is None else held.until.isoformat(),
            "held": held is not None,
            "hold_reason": None if held is None else held.reason,
            "in_flight": figures.in_flight,
            "max_concurrency": state.limits.max_concurrency,
            "concurrency_limit": state.concurrency_limit,
            "requests_per_minute": state.limits.requests_per_minute,
            "tokens_per_minute": state.limits.tokens_per_minute,
            "calls": figures.calls,
            "errors": figures.errors,
            "last_error": figures.last_error,
        }
