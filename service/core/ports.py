"""What the engine asks of the outside. Adapters fulfil these shapes; none of them inherits."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from service.contracts.codec import SealedEnvelope
from service.contracts.enums import LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.contracts.events import EventEnvelope
from service.contracts.requests import LLMConfigOverrides, QueuedRequest
from service.core.outcome import ProviderReply, Spent, Usage
from service.core.records import Callback, Claim, OutboxEntry, ProviderCall, Receipt


class RequestQueue(Protocol):
    """The durable queue. What `put` has returned for survives every crash until `complete` has returned."""

    async def put(self, request: QueuedRequest) -> int:
        """Makes a request durable; returns its place in the queue, from 1. Raises `QueueUnavailable`."""
        ...

    async def claim(self, limit: int) -> Sequence[Claim]:
        """Takes up to `limit` requests to work on, waiting for the first; counts the attempt durably."""
        ...

    async def unclaim(self, claim: Claim) -> None:
        """Gives back a claim whose attempt did not start; it is as if it had not been claimed."""
        ...

    async def retry(self, claim: Claim, after_seconds: float, spent: Spent) -> None:
        """Gives a request back for another attempt, not before `after_seconds`; `spent` becomes durable."""
        ...

    async def complete(self, claim: Claim, callback: Callback) -> None:
        """Ends a request: in one transaction it leaves the queue and its callback enters the outbox."""
        ...

    def stats(self) -> "QueueStats":
        """How much is waiting and how old the oldest of it is."""
        ...


class RequestMemory(Protocol):
    """What the queue remembers beside the requests that wait: deadlines, and keys of past requests."""

    async def claim_expired(self, limit: int) -> Sequence[Claim]:
        """Takes up to `limit` waiting requests whose deadline has passed, now; counts no attempt."""
        ...

    async def recall(self, caller: str | None, key: str) -> Receipt | None:
        """What was accepted under an idempotency key whose window is open."""
        ...

    async def forget_ended(self) -> int:
        """Forgets keys whose window is over; returns how many."""
        ...


class QueueStats(Protocol):
    """A snapshot of the queue. `waiting` leaves out what is claimed."""

    @property
    def waiting(self) -> int: ...
    @property
    def claimed(self) -> int: ...
    @property
    def oldest_accepted_at(self) -> datetime | None: ...
    @property
    def usable(self) -> bool: ...


class Outbox(Protocol):
    """The callbacks that are durable and not yet acknowledged by the broker."""

    async def take(self, limit: int) -> Sequence[OutboxEntry]:
        """Takes up to `limit` callbacks to send, waiting for the first; each is handed out once."""
        ...

    async def delivered(self, entries: Sequence[OutboxEntry]) -> None:
        """Forgets callbacks that the broker has acknowledged."""
        ...

    def put_back(self, entry: OutboxEntry) -> None:
        """Makes an entry available to `take` again after a failed send."""
        ...

    def depth(self) -> int:
        """How many callbacks are not yet acknowledged, those being sent included."""
        ...


class LLMProvider(Protocol):
    """A judge of two essays."""

    @property
    def name(self) -> LLMProviderType: ...
    @property
    def default_model(self) -> str: ...
    @property
    def models(self) -> Sequence[str]: ...

    def find_objection(self, model: str, overrides: LLMConfigOverrides | None) -> str | None:
        """Says in a sentence why this configuration cannot be asked, or None where it can."""
        ...

    async def compare(self, call: ProviderCall) -> ProviderReply:
        """Asks once. Raises `ProviderFailure` and nothing else; keeps to `call.timeout_seconds`."""
        ...

    async def close(self) -> None:
        """Closes its connections."""
        ...


class LLMEventPublisherProtocol(Protocol):
    """Publishes events to Kafka."""

    async def publish_to_topic(
        self, topic: str, envelope: EventEnvelope[Any] | SealedEnvelope, key: str | None = None
    ) -> None:
        """Returns when all in-sync replicas have the event. Raises `PublishFailed`."""
        ...


class TopicDirectory(Protocol):
    """Knows which topics there are."""

    async def exists(self, topic: str) -> bool:
        """Whether a topic exists. Raises `BrokerUnavailable` where that cannot be found out."""
        ...

    @property
    def reachable(self) -> bool:
        """Whether the broker answered the last time it was asked."""
        ...


class RequestMeter(Protocol):
    """Counts what happens to requests."""

    def accepted(self, seconds: float) -> None:
        """A request was answered 202, `seconds` after its body had arrived."""
        ...

    def rejected(self, code: LLMErrorCode) -> None:
        """A request was refused."""
        ...

    def started(self, waited_seconds: float) -> None:
        """The first attempt at a request began."""
        ...

    def calling(self, provider: LLMProviderType) -> None:
        """A call to a provider began; `attempted` ends it."""
        ...

    def attempted(
        self,
        provider: LLMProviderType,
        model: str,
        failure: LLMErrorCode | None,
        seconds: float,
        usage: Usage,
    ) -> None:
        """A call to a provider came back."""
        ...

    def processed(self, success: bool) -> None:
        """A request reached its outcome."""
        ...


class CallbackMeter(Protocol):
    """Counts what happens to callbacks."""

    def published(
        self, topic: str, success: bool, publish_seconds: float, end_to_end_seconds: float, again: bool
    ) -> None:
        """The broker acknowledged a callback; `again` where it had been sent or stored before."""
        ...

    def publish_failed(self, topic: str) -> None:
        """An attempt to publish failed; the callback stays in the outbox."""
        ...


class Clock(Protocol):
    """The time, so that tests own it."""

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""
        ...


class LiveFigures(Protocol):
    """What the snapshot tells of the last seconds."""

    def totals(self) -> Mapping[str, int]:
        """Counts since the start."""
        ...

    def rates(self) -> Mapping[str, float]:
        """The same, a second over the last ten seconds."""
        ...

    def latency(self) -> Mapping[str, Mapping[str, object]]:
        """Percentiles over the last minute, in seconds, and buckets since the start."""
        ...

    def of_provider(self, provider: LLMProviderType) -> "ProviderFigures":
        """What was seen of one provider."""
        ...


class ProviderFigures(Protocol):
    """Calls to one provider, as far as they were seen."""

    @property
    def in_flight(self) -> int: ...
    @property
    def calls(self) -> int: ...
    @property
    def errors(self) -> int: ...
    @property
    def last_error(self) -> Mapping[str, str] | None: ...
