"""What travels between intake, queue, pool, processor, outbox and relay. All of it is frozen."""

from dataclasses import dataclass, field
from enum import Enum
from uuid import UUID

from service.contracts.codec import SealedEnvelope
from service.contracts.enums import LLMProviderType
from service.contracts.requests import QueuedRequest
from service.core.outcome import Spent


@dataclass(frozen=True, slots=True)
class Claim:
    """A queued request that this process is working on, for one attempt."""

    sequence: int
    """Its place in the order of acceptance; names the row."""
    request: QueuedRequest
    attempt: int
    """1 for the first. Counted durably before the attempt starts."""
    spent: Spent = field(default_factory=Spent)
    """What the attempts before this one have cost."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was accepted under an idempotency key."""

    queue_id: str
    correlation_id: UUID
    callback_topic: str
    body_digest: str


@dataclass(frozen=True, slots=True)
class Submission:
    """What came with a request's body: who sent it, and the headers that are read."""

    caller: str | None = None
    idempotency_key: str | None = None
    body_digest: str | None = None
    """SHA-256 of the body as JSON; set where there is a key."""
    run_id: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Callback:
    """The one answer to a request, ready to be sent."""

    queue_id: str
    topic: str
    key: str
    """The correlation id: all copies of an answer stand in one partition."""
    sealed: SealedEnvelope
    success: bool
    accepted_unix_seconds: float
    """When the request was accepted, for the end-to-end figure."""
    spent: Spent = field(default_factory=Spent)
    """What all attempts have used; known until it is stored."""
    usage: SealedEnvelope | None = None
    """The event that tells it to whoever accounts, stored apart; None where there is none to tell."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands on its topic."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A callback that is durable and not yet known to stand on its topic."""

    sequence: int
    callback: Callback
    stored_monotonic_seconds: float | None
    """When its outcome became durable in this process; None where an earlier process stored it."""
    place: Place | None = None
    """Where it stands, once the broker has said so."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """The stored rows that cannot be read and were set aside."""

    count: int = 0
    reason: str | None = None
    """Why one of them was."""


@dataclass(frozen=True, slots=True)
class UsageEntry:
    """A usage event that is durable and not yet known to stand on its topic."""

    sequence: int
    """Names it in its queue."""
    key: str
    """The correlation id, as with the callback."""
    sealed: SealedEnvelope


@dataclass(frozen=True, slots=True)
class Doubt:
    """A callback that may stand on its topic already: sent, or perhaps sent, and never acknowledged."""

    sequence: int
    event_id: str
    """What to look for among the headers of the topic's records."""


@dataclass(frozen=True, slots=True)
class ParkedCallback:
    """A callback that the broker refused for good. It is kept until an operator has it sent again."""

    sequence: int
    queue_id: str
    correlation_id: str
    topic: str
    reason: str
    """Kafka's name of the refusal, such as `MESSAGE_TOO_LARGE`."""
    success: bool
    """Whether it tells an answer, not an error."""
    size_bytes: int
    accepted_unix_seconds: float
    parked_unix_seconds: float


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A request that was called back."""

    queue_id: str
    correlation_id: str
    topic: str
    success: bool
    accepted_unix_seconds: float
    place: Place | None
    """None where it is not known: it was found on its topic after a crash, or the queue does not note it."""
    published_unix_seconds: float | None
    """None where only `answered_unix_seconds` is known."""
    answered_unix_seconds: float | None = None
    """When its outcome was fixed; its callback may still be on its way."""


@dataclass(frozen=True, slots=True)
class JournalPage:
    """Some of the journal; `next` is where to go on, None at its end."""

    entries: tuple[JournalEntry, ...]
    next: str | None


class SpanKind(Enum):
    """Which side of a call a span tells, as OpenTelemetry names it."""

    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


@dataclass(frozen=True, slots=True)
class Route:
    """Which provider and model a request goes to."""

    provider: LLMProviderType
    model: str


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """Everything that one call to a provider needs."""

    system_prompt: str
    user_prompt: str
    model: str
    temperature: float | None
    max_tokens: int | None
    timeout_seconds: float
    """Limit on the whole call, from connecting to the last byte."""
    queue_id: str
    correlation_id: UUID
    attempt: int
