"""What each route answers, for the OpenAPI document. A new route is entered in `ANSWERS`; a test asks for it.

Here nothing is built: the routes write these shapes themselves. Later versions may add fields.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal

from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from service.contracts.enums import LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.contracts.requests import LLMCancelledResponse, LLMQueuedResponse
from service.core.keys import KeyStatus
from service.core.pacing import Circuit
from service.core.pause import HoldReason
from service.engine.drain import DrainState
from service.engine.phase import Phase
from service.web.errors import JSON

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]
Seconds = Amount
UpOrDown = Literal["up", "down"]


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True)


class Alive(_Shape):
    """The process answers."""

    status: Literal["alive"]


class Ready(_Shape):
    """Requests are accepted; a broker that is down does not stop that."""

    status: Literal["ready"]
    broker: UpOrDown


class DiskFigures(_Shape):
    """The disk of the queue's file."""

    folder: str
    free_bytes: Count
    reserve_bytes: Count = Field(description="With less than this free, nothing more is accepted")


class QuarantineFigures(_Shape):
    """Stored rows that cannot be read; each was accepted and has no outcome."""

    count: Count
    reason: str | None = Field(description="Why one of them cannot be read")


class QueueFigures(_Shape):
    """The durable queue."""

    backend: Literal["sqlite", "kafka"]
    depth: Count = Field(description="Requests that wait; those in flight are not among them")
    capacity: Count
    oldest_age_seconds: Seconds
    disk: DiskFigures | None = Field(description="Null where the queue is no file, or the disk is not read")
    quarantined: QuarantineFigures
    topics: dict[str, str] | None = Field(description="By what they are for; null where the queue is a file")


class OutboxFigures(_Shape):
    """Callbacks on their way."""

    depth: Count = Field(description="Not yet acknowledged by the broker, without the parked ones")
    parked: Count = Field(description="Refused by the broker for good, kept for /admin/v1/undelivered")


class UsageFigures(_Shape):
    """Usage events on their way."""

    topic: str = Field(description="Where they go")
    pending: Count = Field(description="Not yet acknowledged by the broker")


class Totals(_Shape):
    """Counts since the start."""

    accepted: Count
    rejected: Count
    succeeded: Count
    failed: Count
    published: Count
    publish_failures: Count


class Rates(_Shape):
    """The same a second, over the last ten seconds."""

    accepted: Amount
    rejected: Amount
    succeeded: Amount
    failed: Amount
    published: Amount
    publish_failures: Amount


class Latency(_Shape):
    """Seconds, over the last minute; null where nothing was seen."""

    p50: Seconds | None
    p90: Seconds | None
    p99: Seconds | None
    max: Seconds | None
    buckets: dict[str, Count] = Field(description="Upper bound in seconds → how many since the start, so far")


class Latencies(_Shape):
    """Where the time goes."""

    accept: Latency = Field(description="Body received → durable")
    queue_wait: Latency = Field(description="Accepted → first attempt")
    provider: Latency = Field(description="One call to a provider")
    publish: Latency = Field(description="Outcome durable → acknowledged by the broker")
    end_to_end: Latency = Field(description="Accepted → callback acknowledged")


class LastError(_Shape):
    """What a provider last failed with."""

    error_code: LLMErrorCode
    time: AwareDatetime


class ProviderState(_Shape):
    """How a provider stands."""

    name: LLMProviderType
    circuit: Circuit
    held: bool = Field(description="Nothing is asked of it at the moment; its requests wait")
    held_until: AwareDatetime | None = Field(description="Null also where it is held until it is released")
    hold_reason: HoldReason | None
    in_flight: Count
    max_concurrency: Count
    concurrency_limit: Count = Field(description="What it is asked at once as it answers now")
    requests_per_minute: Count | None = Field(description="Null where there is no limit")
    tokens_per_minute: Count | None = Field(description="Null where there is no limit")
    calls: Count
    errors: Count
    last_error: LastError | None


class LongPromptPrice(_Shape):
    """What tokens cost where the prompt is long."""

    above_tokens: Count
    prompt_usd_per_million: Amount
    completion_usd_per_million: Amount


class Price(_Shape):
    """What tokens of a model cost."""

    prompt_usd_per_million: Amount
    completion_usd_per_million: Amount
    long_prompt: LongPromptPrice | None


class Provider(ProviderState):
    """A provider with its models."""

    default: bool = Field(description="It is asked where a request names none")
    default_model: str
    models: list[str]
    prices: dict[str, Price | None] = Field(description="By model; null where the price is not known")


class Providers(_Shape):
    """Every configured provider."""

    providers: list[Provider]


class KeyCheck(_Shape):
    """Whether a provider takes its key."""

    name: LLMProviderType
    usable: bool
    status: KeyStatus
    message: str


class DrainFigures(_Shape):
    """A drain, in the snapshot."""

    state: DrainState
    started_at: AwareDatetime | None
    timeout_seconds: Seconds | None
    remaining: Count = Field(description="Started calls that are not finished")


class Snapshot(_Shape):
    """All live figures of this process at one moment."""

    version: str
    time: AwareDatetime
    phase: Phase
    accepting: bool
    broker: UpOrDown
    queue: QueueFigures
    in_flight: Count
    outbox: OutboxFigures
    usage: UsageFigures | None = Field(description="Null where usage is told to nobody")
    totals: Totals
    rates: Rates
    latency: Latencies
    providers: list[ProviderState]
    drain: DrainFigures


class Drain(_Shape):
    """How the last drain that was ordered stands. Done is: no started call, and an empty outbox."""

    phase: Phase
    state: DrainState
    started_at: AwareDatetime | None
    deadline: AwareDatetime | None
    in_flight: Count
    outbox: Count
    queued: Count
    finished: Count = Field(description="Requests that reached their outcome since it began")


class UndeliveredCallback(_Shape):
    """A callback that the broker refused for good; what it says is the caller's and not told here."""

    queue_id: str
    correlation_id: str
    topic: str
    reason: str = Field(description="Kafka's name of the refusal, such as MESSAGE_TOO_LARGE")
    message: str
    is_error: bool
    size_bytes: Count
    accepted_at: AwareDatetime
    parked_at: AwareDatetime


class UndeliveredPage(_Shape):
    """Some of them, the longest parked first."""

    total: Count
    items: list[UndeliveredCallback]
    next: Count | None = Field(description="`after` of the next page; null on the last")


class Resent(_Shape):
    """What is sent again."""

    resent: Count
    not_parked: list[str] = Field(description="Ids that were asked for and are not parked")


class SpendingLimits(_Shape):
    """What may be spent; null where there is no limit."""

    request_usd: Amount | None
    day_usd: Amount | None


class UsageRow(_Shape):
    """What calls of one day, caller and model have used."""

    day: date = Field(description="In UTC")
    caller: str | None = Field(description="Null where nobody needs a token")
    provider: str
    model: str
    calls: Count
    prompt_tokens: Count
    completion_tokens: Count
    cost_usd: Amount = Field(description="Estimated where a call may be billed and its usage is not known")


class Usage(_Shape):
    """What calls have used, and what may be spent."""

    since: date
    today: date
    today_usd: Amount
    limits: SpendingLimits
    rows: list[UsageRow]


class LogLevel(_Shape):
    """From which level on is logged."""

    level: Literal["debug", "info", "warning", "error"]
    seconds_left: Seconds | None = Field(description="Null where it stays so")


class CalledBack(_Shape):
    """A request that was called back. Times are Unix seconds; what is not known is null."""

    queue_id: str
    correlation_id: str
    topic: str
    partition: Count | None
    offset: Count | None
    is_error: bool
    accepted_unix_seconds: float
    answered_unix_seconds: float | None
    published_unix_seconds: float | None


class JournalPage(_Shape):
    """Some of the journal, oldest first."""

    retention_hours: Seconds
    items: list[CalledBack]
    next: str | None = Field(description="`after` of the next page; null on the last")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a route answers where it does not refuse: JSON of a model, or text."""

    operation_id: str
    shape: type[BaseModel] | None = None
    media_type: str = JSON
    text: str = ""

    @property
    def schema(self) -> dict[str, Any]:
        """What its body is, where that is no JSON."""
        return {"type": "string", "description": self.text}


ANSWERS: Mapping[str, Answer] = {
    "POST /api/v1/comparison": Answer("submit_comparison", LLMQueuedResponse),
    "DELETE /api/v1/comparison/{queue_id}": Answer("cancel_comparison", LLMCancelledResponse),
    "GET /api/v1/providers": Answer("list_providers", Providers),
    "GET /admin/v1/snapshot": Answer("take_snapshot", Snapshot),
    "GET /admin/v1/stream": Answer(
        "stream_snapshots",
        media_type="text/event-stream",
        text="Events `snapshot`, whose data is a Snapshot as JSON",
    ),
    "POST /admin/v1/drain": Answer("start_drain", Drain),
    "GET /admin/v1/drain": Answer("report_drain", Drain),
    "POST /admin/v1/resume": Answer("resume", Drain),
    "GET /admin/v1/providers": Answer("list_providers_as_operator", Providers),
    "POST /admin/v1/providers/{name}/hold": Answer("hold_provider", ProviderState),
    "POST /admin/v1/providers/{name}/release": Answer("release_provider", ProviderState),
    "POST /admin/v1/providers/{name}/check": Answer("check_provider", KeyCheck),
    "GET /admin/v1/undelivered": Answer("list_undelivered", UndeliveredPage),
    "POST /admin/v1/undelivered/resend": Answer("resend_undelivered", Resent),
    "GET /admin/v1/usage": Answer("read_usage", Usage),
    "GET /admin/v1/log-level": Answer("read_log_level", LogLevel),
    "PUT /admin/v1/log-level": Answer("change_log_level", LogLevel),
    "GET /admin/v1/journal": Answer("read_journal", JournalPage),
    "GET /healthz": Answer("check_health", Alive),
    "GET /readyz": Answer("check_readiness", Ready),
    "GET /metrics": Answer(
        "read_metrics", media_type=CONTENT_TYPE_LATEST, text="Prometheus' text format, version 1.0.0"
    ),
}
"""By method and path."""
