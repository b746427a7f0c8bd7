"""The one shape of an error, in HTTP bodies and in callbacks alike."""

from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from service.contracts.error_codes import LLMErrorCode
from service.contracts.moments import Moment

MAX_ERROR_MESSAGE_CHARACTERS = 1000


class ErrorDetail(BaseModel):
    """Says once, in a structured way, what went wrong; never holds a prompt, an essay or a secret."""

    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True)

    error_code: LLMErrorCode = Field(description="What went wrong, for machines")
    message: str = Field(
        min_length=1, max_length=MAX_ERROR_MESSAGE_CHARACTERS, description="What is wrong, where, what to do"
    )
    correlation_id: UUID = Field(description="Correlation ID for distributed tracing")
    timestamp: Moment = Field(description="When the error was noticed")
    service: str = Field(description="Which service noticed it")
    operation: str = Field(description="What it was doing")
    details: dict[str, Any] = Field(default_factory=dict, description="Facts that help to act on it")


class ErrorBody(BaseModel):
    """The body of every HTTP error answer: `{"error": ErrorDetail}`."""

    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True)

    error: ErrorDetail
