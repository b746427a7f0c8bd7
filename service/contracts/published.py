"""The contracts as JSON Schema 2020-12: what callers send and get, and what consumers read."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel

from service.contracts.enums import ProcessingEvent
from service.contracts.errors import ErrorBody
from service.contracts.events import SCHEMA_VERSION, ComparisonResultEnvelope, UsageEnvelope
from service.contracts.requests import LLMCancelledResponse, LLMComparisonRequest, LLMQueuedResponse
from service.contracts.topics import SOURCE_SERVICE

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
RESULT_EVENT: Final = "event-envelope-llm-comparison-result-v1"
USAGE_EVENT: Final = "event-envelope-llm-usage-v1"

PUBLISHED: Final[Mapping[str, tuple[type[BaseModel], Literal["validation", "serialization"]]]] = {
    "llm-comparison-request": (LLMComparisonRequest, "validation"),
    "llm-queued-response": (LLMQueuedResponse, "serialization"),
    "llm-cancelled-response": (LLMCancelledResponse, "serialization"),
    "error-body": (ErrorBody, "serialization"),
    RESULT_EVENT: (ComparisonResultEnvelope, "serialization"),
    USAGE_EVENT: (UsageEnvelope, "serialization"),
}
"""Each contract by the name of its schema, as it is read (what is sent to us) or written (what we send)."""

_EVENTS: Final[Mapping[str, ProcessingEvent]] = {
    RESULT_EVENT: ProcessingEvent.LLM_COMPARISON_RESULT,
    USAGE_EVENT: ProcessingEvent.LLM_USAGE,
}


def describe_contract(name: str) -> dict[str, Any]:
    """The schema of one contract, complete in itself."""
    model, mode = PUBLISHED[name]
    schema = {"$schema": DIALECT, **model.model_json_schema(mode=mode)}
    if name in _EVENTS:
        _fix_values(schema, _EVENTS[name])
    return schema


def describe_event(name: str, ref_template: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of an event, and by their names those that it refers to, as `ref_template` says."""
    model, mode = PUBLISHED[name]
    schema = model.model_json_schema(mode=mode, ref_template=ref_template)
    definitions = schema.pop("$defs")
    _fix_values(schema, _EVENTS[name])
    return schema, definitions


def _fix_values(schema: dict[str, Any], event: ProcessingEvent) -> None:
    """The envelope is every event's; these are what makes it this one."""
    fixed = {
        "event_type": event.value,
        "source_service": SOURCE_SERVICE,
        "schema_version": SCHEMA_VERSION,
    }
    for name, value in fixed.items():
        schema["properties"][name]["const"] = value
