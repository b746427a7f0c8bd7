"""The events that the service publishes: the envelope, the answer to one comparison, and what it has used."""

from datetime import UTC, datetime
from typing import Any, Generic, Self, TypeVar
from uuid import UUID, uuid4

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.contracts.enums import EssayComparisonWinner, LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.contracts.errors import ErrorDetail
from service.contracts.moments import Moment

SCHEMA_VERSION = 1
MAX_JUSTIFICATION_CHARACTERS = 500

DataT = TypeVar("DataT", bound=BaseModel)

_NOTHING: dict[str, Any] = {"type": "null"}
_ANSWER_OR_ERROR: dict[str, Any] = {
    "if": {"properties": {"error_detail": {"type": "object"}}, "required": ["error_detail"]},
    "then": {"properties": {"winner": _NOTHING, "justification": _NOTHING, "confidence": _NOTHING}},
    "else": {
        "properties": {
            "winner": {"type": "string"},
            "justification": {"type": "string"},
            "confidence": {"type": "number"},
        },
        "required": ["winner", "justification", "confidence"],
    },
}
"""`refuse_half_an_answer` in the words of JSON Schema."""


class TokenUsage(BaseModel):
    """Tokens spent on a request, over all of its attempts."""

    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True)

    prompt_tokens: int = Field(default=0, ge=0, description="Number of tokens in the prompt")
    completion_tokens: int = Field(default=0, ge=0, description="Number of tokens in the completion")
    total_tokens: int = Field(default=0, ge=0, description="Total number of tokens used")


class LLMComparisonResultV1(BaseModel):
    """The answer to one comparison: either winner, justification and confidence, or an error."""

    model_config = ConfigDict(
        frozen=True, json_schema_serialization_defaults_required=True, json_schema_extra=_ANSWER_OR_ERROR
    )

    request_id: str = Field(description="The queue_id of the request that this answers")
    correlation_id: UUID = Field(description="Correlation ID for distributed tracing")

    winner: EssayComparisonWinner | None = Field(
        default=None, description="Selected essay: 'essay_a' or 'essay_b'"
    )
    justification: str | None = Field(
        default=None, max_length=MAX_JUSTIFICATION_CHARACTERS, description="Justification for the decision"
    )
    confidence: float | None = Field(default=None, ge=0.0, le=1.0, description="Confidence score")

    error_detail: ErrorDetail | None = Field(
        default=None, description="Structured error information if the comparison failed"
    )

    provider: LLMProviderType = Field(description="Provider used for the comparison")
    model: str = Field(description="Model name and version used; 'unknown' where none was asked")

    response_time_ms: int = Field(ge=0, description="Time spent on the provider's calls, in milliseconds")
    token_usage: TokenUsage = Field(default_factory=TokenUsage, description="Token usage breakdown")
    cost_estimate: float = Field(ge=0.0, allow_inf_nan=False, description="Estimated cost in USD")

    requested_at: Moment = Field(description="When the request was accepted")
    completed_at: Moment = Field(description="When its outcome was known")

    trace_id: str | None = Field(default=None, description="Distributed trace ID")
    request_metadata: dict[str, Any] = Field(
        default_factory=dict, description="The request's metadata, unchanged"
    )

    @model_validator(mode="after")
    def refuse_half_an_answer(self) -> Self:
        """Lets through all the success fields or an error: never both, neither or half of them."""
        answer = (self.winner, self.justification, self.confidence)
        if self.error_detail is not None and any(part is not None for part in answer):
            raise ValueError("Cannot have both success fields and error_detail")
        if self.winner is None and self.error_detail is None:
            raise ValueError("Must have either success fields or error_detail")
        if self.winner is not None and None in answer:
            raise ValueError("All success fields (winner, justification, confidence) must be set together")
        return self

    @property
    def is_success(self) -> bool:
        """Whether an essay won."""
        return self.winner is not None

    @property
    def is_error(self) -> bool:
        """Whether the request ended without a winner."""
        return self.error_detail is not None


class LLMUsageV1(BaseModel):
    """What one ended request has used, over all of its calls; nothing of what was asked or answered."""

    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True)

    request_id: str = Field(description="The queue_id of the request")
    correlation_id: UUID = Field(description="Correlation ID for distributed tracing")
    caller: str | None = Field(description="The name of the caller's token; null where none is needed")
    callback_topic: str = Field(description="Where its answer goes")
    run_id: str | None = Field(description="The request's X-Run-ID: only on simulated traffic")

    provider: LLMProviderType = Field(description="Provider used for the comparison")
    model: str = Field(description="Model name and version used last")
    calls: int = Field(ge=1, description="Calls to the provider, failed ones included")
    token_usage: TokenUsage = Field(description="Token usage breakdown")
    cached_tokens: int = Field(ge=0, description="Of the prompt's tokens: read from the provider's cache")
    reasoning_tokens: int = Field(ge=0, description="Of the completion's tokens: spent on reasoning")
    cost_estimate: float = Field(ge=0.0, allow_inf_nan=False, description="Estimated cost in USD")
    unconfirmed_cost_usd: float = Field(
        ge=0.0,
        allow_inf_nan=False,
        description="Estimated cost in USD of calls that may be billed and told no usage; beside the above",
    )
    error_code: LLMErrorCode | None = Field(description="How the request ended; null with an answer")

    requested_at: Moment = Field(description="When the request was accepted")
    completed_at: Moment = Field(description="When its outcome was known")


class EventEnvelope(BaseModel, Generic[DataT]):
    """What every event on Kafka is wrapped in: its identity, its type, its origin."""

    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True)

    event_id: UUID = Field(
        default_factory=uuid4, description="The same for every copy of an event, different for every event"
    )
    event_type: str = Field(description="A value of ProcessingEvent")
    event_timestamp: Moment = Field(
        default_factory=lambda: datetime.now(UTC),
        description="When the event came to be, not when it was sent",
    )
    source_service: str = Field(description="Which service published it")
    schema_version: int = Field(default=SCHEMA_VERSION, ge=1, description="Version of the shape of `data`")
    correlation_id: UUID = Field(description="Correlation ID for distributed tracing; the record's key")
    data: DataT = Field(description="The event itself")
    metadata: dict[str, Any] = Field(default_factory=dict, description="About the event, not part of it")


ComparisonResultEnvelope = EventEnvelope[LLMComparisonResultV1]
UsageEnvelope = EventEnvelope[LLMUsageV1]
