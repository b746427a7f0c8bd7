"""What callers send, what they get back at once, and what stands in the queue in between."""

from math import isfinite
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from service.contracts.enums import LLMProviderType
from service.contracts.topics import MAX_TOPIC_CHARACTERS

MAX_METADATA_BYTES = 16 * 1024
MAX_METADATA_DEPTH = 100
MAX_PRIORITY = 9


def _refuse_blank(text: str) -> str:
    if not text or text.isspace():
        raise ValueError("must not be blank")
    return text


def _refuse_what_json_cannot_carry(metadata: dict[str, Any]) -> dict[str, Any]:
    # JSON readers give up at some depth (pydantic's at 200), and the callback wraps metadata deeper than
    # the request did: what is accepted here must still be readable there.
    level: list[Any] = [metadata]
    for _ in range(MAX_METADATA_DEPTH):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
            elif isinstance(value, float) and not isfinite(value):
                raise ValueError("must not hold a number that is not finite")
        if not below:
            return metadata
        level = below
    raise ValueError(f"must not be nested deeper than {MAX_METADATA_DEPTH} levels")


Text = Annotated[
    str,
    Field(strict=True, json_schema_extra={"minLength": 1, "pattern": r"\S"}),
    AfterValidator(_refuse_blank),
]
"""A text that says something: not empty, not only white space."""

_NAME_OF_CALLBACK_TOPIC: dict[str, Any] = {
    "maxLength": MAX_TOPIC_CHARACTERS,
    "pattern": "^[A-Za-z0-9.-][A-Za-z0-9._-]*$",
    "not": {"enum": [".", ".."]},
}
"""For schemas: intake checks the name together with who may use it. A leading `_` is never allowed."""


class LLMConfigOverrides(BaseModel):
    """What a caller may decide about the call to the provider; everything else stays as configured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    provider_override: LLMProviderType | None = Field(default=None, description="Which provider to ask")
    model_override: Annotated[str, Field(strict=True, min_length=1, max_length=200)] | None = Field(
        default=None, description="Which of its models"
    )
    temperature_override: Annotated[float, Field(strict=True, ge=0.0, le=2.0)] | None = Field(
        default=None, description="Sampling temperature"
    )
    system_prompt_override: Text | None = Field(
        default=None, description="Instructions to the judge instead of the service's own"
    )
    max_tokens_override: Annotated[int, Field(strict=True, gt=0)] | None = Field(
        default=None, description="Limit on the answer, in tokens"
    )


class LLMComparisonRequest(BaseModel):
    """One comparison of two essays, answered later on `callback_topic`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_prompt: Text = Field(description="The comparison prompt")
    essay_a: Text = Field(description="First essay to compare")
    essay_b: Text = Field(description="Second essay to compare")
    callback_topic: Annotated[str, Field(strict=True, min_length=1)] = Field(
        description="Kafka topic for the result callback; required for all requests",
        json_schema_extra=_NAME_OF_CALLBACK_TOPIC,
    )
    llm_config_overrides: LLMConfigOverrides | None = Field(
        default=None, description="Optional configuration overrides"
    )
    metadata: Annotated[
        dict[Annotated[str, Field(strict=True)], Any], AfterValidator(_refuse_what_json_cannot_carry)
    ] = Field(
        default_factory=dict, description="Echoed unchanged as request_metadata; at most 16 KiB as JSON"
    )
    correlation_id: UUID = Field(
        default_factory=uuid4, description="Correlation ID for distributed tracing; made where absent"
    )
    priority: Annotated[int, Field(strict=True, ge=0, le=MAX_PRIORITY)] = Field(
        default=0, description="Higher goes first"
    )
    ttl_seconds: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="Not started within this many seconds: answered with LLM_REQUEST_EXPIRED"
    )


class LLMQueuedResponse(BaseModel):
    """The 202 of `POST /api/v1/comparison`: the request is durable, its result comes on `callback_topic`."""

    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True)

    queue_id: str = Field(description="Names this request; the callback's request_id")
    correlation_id: UUID = Field(description="The key of the callback's Kafka record")
    status: Literal["queued"] = "queued"
    callback_topic: str = Field(description="Where the callback will stand")
    queue_position: int = Field(ge=1, description="Place in the queue at the moment of acceptance")
    message: str = Field(description="The same in a sentence")


class LLMCancelledResponse(BaseModel):
    """The 202 of `DELETE /api/v1/comparison/{queue_id}`: the callback says that it was cancelled."""

    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True)

    queue_id: str = Field(description="Names the request; the callback's request_id")
    status: Literal["cancelled"] = "cancelled"
    message: str = Field(description="The same in a sentence")


class QueuedRequest(BaseModel):
    """An accepted request as it stands in the durable queue."""

    model_config = ConfigDict(frozen=True)

    queue_id: str = Field(description="Names the request; the callback's request_id")
    correlation_id: UUID
    callback_topic: str = Field(description="Kafka topic for result delivery")
    request_data: LLMComparisonRequest
    queued_at: AwareDatetime = Field(description="When it was accepted")
    expires_at: AwareDatetime = Field(description="Not started by then: answered with LLM_REQUEST_EXPIRED")
    caller: str | None = Field(
        default=None, description="Whose token it came with; None where nobody needs one"
    )
    idempotency_key: str | None = Field(default=None, description="Idempotency-Key, unique within the caller")
    body_digest: str | None = Field(
        default=None, description="SHA-256 of the body as JSON, where it has a key"
    )
    run_id: str | None = Field(default=None, description="Marks simulated traffic (X-Run-ID)")
    traceparent: str | None = Field(default=None, description="W3C trace context of the caller")
