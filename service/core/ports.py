"""What the engine asks of the outside. Adapters fulfil these shapes; none of them inherits."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Protocol

from service.contracts.codec import SealedEnvelope
from service.contracts.enums import LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.contracts.events import EventEnvelope
from service.contracts.requests import LLMConfigOverrides, QueuedRequest
from service.core.charges import DayCharge
from service.core.disk import DiskRoom
from service.core.keys import KeyReport
from service.core.outcome import ProviderReply, Spent, Usage
from service.core.records import (
    Callback,
    Claim,
    Doubt,
    JournalPage,
    OutboxEntry,
    ParkedCallback,
    Place,
    ProviderCall,
    Quarantined,
    Receipt,
    SpanKind,
    UsageEntry,
)

Positions = Mapping[str, Mapping[int, int]]
"""Topic to partition to offset: nothing of ours that is not forgotten stands before it."""


Admit = Callable[[int, str | None, str | None, int], bool]
"""Whether a call may begin now, given sequence, provider, model and estimated tokens; a yes is a reservation.

None stands for the default provider and for its default model.
"""


class RequestQueue(Protocol):
    """The durable queue. What `put` has returned for survives every crash until `complete` has returned."""

    async def put(self, request: QueuedRequest, estimated_tokens: int = 0) -> int:
        """Makes a request durable; returns its place in the queue, from 1.

        Raises `QueueUnavailable`, and `AcceptedBefore` where another process was quicker under the same key.
        """
        ...

    async def claim(self, limit: int, admit: Admit) -> Sequence[Claim]:
        """Takes up to `limit` requests to work on, waiting for the first; counts the attempt durably.

        `admit` is called for each, in the order of urgency; if it refuses one, all of that model wait.
        """
        ...

    async def unclaim(self, claim: Claim) -> None:
        """Gives back a claim whose attempt did not start; it is as if it had not been claimed."""
        ...

    async def retry(self, claim: Claim, after_seconds: float, spent: Spent, *, counted: bool = True) -> None:
        """Gives a request back for another attempt, not before `after_seconds`; `spent` becomes durable.

        Where it is not `counted` the attempt that has just failed is as if it had not been made.
        """
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


class CancellableRequests(Protocol):
    """The requests that can still be cancelled: those that wait or are being worked on."""

    def holds(self, queue_id: str, caller: str | None) -> bool:
        """Whether a request of this caller is held here and has no outcome; None is every caller."""
        ...

    async def claim_cancelled(self, queue_id: str) -> Claim | None:
        """Takes a request as soon as it waits, to end it; counts no attempt. None once it has its outcome.

        Raises `QueueUncertain` where it went to another process before that was known.
        """
        ...

    async def cancel_elsewhere(self, queue_id: str, caller: str | None) -> bool:
        """Asks the other processes that share the queue; returns whether one of them has cancelled it.

        Waits until that is known, without a limit of its own. Raises `QueueUnavailable`.
        """
        ...


class CostMemory(Protocol):
    """What the queue remembers of money: it is stored with the outcomes that it was spent on."""

    async def list_charges(self, since: date) -> Sequence[DayCharge]:
        """What calls have used since a day, as far back as it is kept, by day, caller, provider and model."""
        ...

    async def spent_usd(self, day: date) -> float:
        """What all calls that ended on a day (UTC) have cost, as far as it is known or estimated."""
        ...

    def spent_elsewhere_usd(self, day: date) -> float:
        """How much of it other processes have spent that share the queue, as far as it is known now."""
        ...


class PriceList(Protocol):
    """What calls are expected to cost."""

    def estimate(self, provider: LLMProviderType, name: str, prompt_tokens: int, output_tokens: int) -> float:
        """The price of a call in USD; 0 for a model without one."""
        ...


class PublishedPrices(Protocol):
    """What callers may know of prices."""

    def describe_price(self, provider: LLMProviderType, name: str) -> Mapping[str, object] | None:
        """USD per million tokens of a model, as JSON; None for a model without a price."""
        ...


class QueueHealth(Protocol):
    """Whether a queue can be written, and whether its figures can be relied on.

    Not `settled` is a queue of which it is not known yet what falls to this process: what waits may be more.
    """

    @property
    def usable(self) -> bool: ...
    @property
    def settled(self) -> bool: ...


class QueueStats(QueueHealth, Protocol):
    """A snapshot of the queue. `waiting` leaves out what is claimed, and what other replicas hold."""

    @property
    def waiting(self) -> int: ...
    @property
    def claimed(self) -> int: ...
    @property
    def elsewhere(self) -> int: ...
    @property
    def oldest_accepted_at(self) -> datetime | None: ...
    @property
    def quarantined(self) -> Quarantined: ...
    @property
    def of_caller(self) -> Callable[[str | None], int]: ...


class Signal(Protocol):
    """Wakes whoever waits; `asyncio.Event` is one."""

    def set(self) -> None:
        """Wakes everybody, also whoever waits later."""
        ...

    def clear(self) -> None:
        """From here on whoever waits is not woken until the next `set`."""
        ...

    async def wait(self) -> object:
        """Returns once it is set."""
        ...


class Outbox(Protocol):
    """The callbacks that are durable and not yet acknowledged by the broker."""

    @property
    def changed(self) -> "Signal":
        """Set when a callback arrives, and by whoever makes room; cleared by whoever takes."""
        ...

    async def take(self, limit: int, avoid: Collection[str] = ()) -> Sequence[OutboxEntry]:
        """Takes up to `limit` callbacks to send, at once and perhaps none; each is handed out once.

        Topics take turns, so that a long row of callbacks for one delays no other; those in `avoid` wait.
        """
        ...

    async def delivered(self, entries: Sequence[OutboxEntry], positions: Positions) -> None:
        """Forgets callbacks that the broker has acknowledged, and notes how far their topics were written."""
        ...

    def put_back(self, entry: OutboxEntry) -> None:
        """Makes an entry available to `take` again after a failed send."""
        ...

    async def park(self, entry: OutboxEntry, reason: str) -> None:
        """Sets a callback aside that the broker refused for good."""
        ...

    def depth(self) -> int:
        """How many callbacks are not yet acknowledged, those being sent included and parked ones not."""
        ...


class UsageEvents(Protocol):
    """The usage events that are durable and not yet acknowledged by the broker; one task alone reads them."""

    async def peek(self, limit: int) -> Sequence[UsageEntry]:
        """The oldest of them, up to `limit`, waiting for the first. Raises `QueueUnavailable`."""
        ...

    async def told(self, entries: Sequence[UsageEntry]) -> None:
        """Forgets those that stand on the topic. Raises `QueueUnavailable`."""
        ...

    def depth(self) -> int:
        """How many there are."""
        ...


class DoubtfulCallbacks(Protocol):
    """The callbacks in the outbox that may stand on their topic already; `take` does not hand them out."""

    def doubt(self, entry: OutboxEntry) -> None:
        """Says that an entry may have been sent: it waits until its topic was read."""
        ...

    async def take_doubtful(self) -> tuple[str, Sequence[Doubt]]:
        """Takes all doubtful callbacks of one topic, waiting for the first."""
        ...

    def written_until(self, topic: str) -> Mapping[int, int] | None:
        """The offset of each partition before which none of them can stand; None where none was sent."""
        ...

    async def begin_topic(self, topic: str, ends: Mapping[int, int]) -> None:
        """Notes where a topic's partitions end, before the first callback is sent there."""
        ...

    async def settle(self, topic: str, doubts: Sequence[Doubt], standing: Collection[str]) -> None:
        """Forgets those whose event ids are `standing` on the topic; the others may be taken and sent."""
        ...


class UndeliveredCallbacks(Protocol):
    """The callbacks that were set aside, for operators."""

    async def list_parked(self, after: int, limit: int) -> Sequence[ParkedCallback]:
        """Up to `limit` parked callbacks whose sequence is greater than `after`, in that order."""
        ...

    async def resend(self, queue_ids: Collection[str] | None) -> int:
        """Makes parked callbacks available to `Outbox.take` again, None for all; returns how many."""
        ...

    def parked(self) -> int:
        """How many callbacks are parked."""
        ...


class CallbackJournal(Protocol):
    """What was called back lately, for audits."""

    async def list_journal(self, after: str | None, limit: int) -> JournalPage:
        """About `limit` entries behind the place `after`, None for the beginning; oldest first.

        Raises `ValueError` where `after` is no place, `QueueUnavailable` and `BrokerUnavailable`.
        """
        ...


class QueueDisk(Protocol):
    """The disk on which the queue's file stands."""

    def measure(self) -> DiskRoom | None:
        """How much room there is; None where the file system does not say."""
        ...


class KeyedProvider(Protocol):
    """A provider that asks with a key."""

    async def check_key(self, timeout_seconds: float) -> KeyReport:
        """Tries the key without asking a model. Raises nothing; keeps to the limit."""
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
    ) -> Place | None:
        """Returns when all in-sync replicas have the event: where it stands, if the broker said it.

        Raises `PublishRefused` where it never will be taken, `PublishUncertain` where it may have been, and
        `PublishFailed` where it was not and may be sent again.
        """
        ...


class CallbackLog(Protocol):
    """Reads callback topics back."""

    async def find_ends(self, topic: str) -> Mapping[int, int]:
        """The end of each partition: the offset that its next record will get. Raises `BrokerUnavailable`."""
        ...

    async def find_standing(
        self, topic: str, start: Mapping[int, int], event_ids: Collection[str]
    ) -> Collection[str]:
        """Which of these event ids stand on a topic, from `start` (a partition not named: from its first
        record) to its present end. Raises `BrokerUnavailable`, and `TopicUnreadable` where it never can."""
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

    def accepted(self, seconds: float, caller: str | None = None) -> None:
        """A request was answered 202, `seconds` after its body had arrived; `caller` is the token's name."""
        ...

    def rejected(self, code: LLMErrorCode, caller: str | None = None) -> None:
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


class UsageMeter(Protocol):
    """Counts usage events."""

    def usage_told(self, count: int) -> None:
        """The broker acknowledged so many."""
        ...


class Span(Protocol):
    """One step on the way of a request."""

    @property
    def traceparent(self) -> str | None:
        """What goes on with the trace: this span, or its parent where nothing is traced."""
        ...

    def note(self, **attributes: str | float | bool) -> None:
        """Adds facts; a name has `__` where OpenTelemetry's has a dot."""
        ...

    def end(self, error: str | None = None) -> None:
        """It is over; `error` is the code of how it failed."""
        ...


class Tracing(Protocol):
    """Tells the way of requests to whoever collects traces."""

    def begin(
        self,
        name: str,
        kind: SpanKind,
        parent: str | None,
        attributes: Mapping[str, str | float | bool] | None = None,
    ) -> Span:
        """Begins a span below `parent`, a W3C `traceparent`, or a new trace where there is none."""
        ...

    def close(self) -> None:
        """Sends what is left, within a limit. Blocks."""
        ...


class LogControl(Protocol):
    """How much is logged."""

    @property
    def current(self) -> str: ...
    @property
    def seconds_left(self) -> float | None: ...

    def change(self, level: str, seconds: float | None) -> None:
        """Logs from this level on, for so long or, with None, until it is changed again."""
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
