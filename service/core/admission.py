"""Reads a request body and decides in what way it is wrong: pure, and the same order of precedence always."""

import json
from hashlib import sha256
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from pydantic_core import from_json

from service.contracts.error_codes import LLMErrorCode
from service.contracts.requests import MAX_METADATA_BYTES, LLMComparisonRequest
from service.core.errors import Refused

_TEXT_FIELDS = frozenset({"user_prompt", "essay_a", "essay_b"})
_RANK_OF_FIELD = {"callback_topic": 0, **dict.fromkeys(_TEXT_FIELDS, 1), "llm_config_overrides": 3}
_RANK_OF_OTHERS = 2
_MAX_QUOTED_NAME_CHARACTERS = 80
_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def parse_body(body: bytes) -> dict[str, Any]:
    """Reads the JSON object of a body. Raises `Refused` with `INVALID_REQUEST`."""
    try:
        document = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        # The parser's own words name the place in the body and never quote more of it than one character.
        raise Refused(LLMErrorCode.INVALID_REQUEST, f"The body is not valid JSON: {error}.") from error
    if not isinstance(document, dict):
        raise Refused(LLMErrorCode.INVALID_REQUEST, "The body must be a JSON object.")
    return document


def check_metadata_size(document: dict[str, Any]) -> None:
    """Raises `Refused` with `CONTENT_TOO_LONG` over 16 KiB. `document` is what `parse_body` returned."""
    metadata = document.get("metadata")
    if not metadata:
        return
    size = len(_COMPACT.encode(metadata).encode())
    if size > MAX_METADATA_BYTES:
        raise Refused(
            LLMErrorCode.CONTENT_TOO_LONG,
            f"metadata is {size} bytes as JSON; at most {MAX_METADATA_BYTES} are echoed in a callback.",
            details={"limit_bytes": MAX_METADATA_BYTES, "size_bytes": size},
        )


def digest_body(document: dict[str, Any]) -> str:
    """SHA-256 of a body as JSON: white space and the order of fields make no difference, all else does."""
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return sha256(canonical.encode()).hexdigest()


def read_correlation_id(document: dict[str, Any]) -> UUID | None:
    """The body's correlation id where it has a valid one, so that a refusal can be traced too."""
    value = document.get("correlation_id")
    if not isinstance(value, str):
        return None
    try:
        return UUID(value)
    except ValueError:
        return None


def read_request(document: dict[str, Any]) -> LLMComparisonRequest:
    """Turns a body into a request, or raises the most important objection to it as `Refused`."""
    try:
        return LLMComparisonRequest.model_validate(document)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        # One is described, not all: a body can hold a hundred thousand faults.
        first = min(faults, key=lambda fault: _rank(fault["loc"]))
        raise _describe(first["type"], first["loc"], first["msg"], document) from error


def _rank(location: tuple[int | str, ...]) -> int:
    """The precedence of a fault, by its field."""
    return _RANK_OF_FIELD.get(str(location[0]), _RANK_OF_OTHERS)


def _describe(kind: str, location: tuple[int | str, ...], problem: str, document: dict[str, Any]) -> Refused:
    field = str(location[0])
    name = _quote(".".join(str(part) for part in location))
    details = {"field": name}
    if field == "callback_topic":
        if document.get("callback_topic") in (None, ""):
            return Refused(
                LLMErrorCode.CALLBACK_TOPIC_MISSING,
                "callback_topic is required: name the Kafka topic on which the result shall be delivered.",
                details=details,
            )
        return Refused(
            LLMErrorCode.INVALID_CALLBACK_TOPIC,
            "callback_topic must be the name of a topic.",
            details=details,
        )
    if kind == "extra_forbidden":
        message = f"{name} is not a field of a comparison request; leave it out."
    elif kind == "missing":
        message = f"{name} is required."
    else:
        message = f"{name}: {problem.removeprefix('Value error, ')}."
    if field in _TEXT_FIELDS:
        return Refused(LLMErrorCode.INVALID_PROMPT, message, details=details)
    if field == "llm_config_overrides":
        return Refused(LLMErrorCode.INVALID_CONFIG, message, details=details)
    return Refused(LLMErrorCode.INVALID_REQUEST, message, details=details)


def _quote(name: str) -> str:
    """A name that a caller invented, safe to show: printable ASCII, of bounded length."""
    shown = name.encode("unicode_escape", "replace").decode("ascii")
    if len(shown) > _MAX_QUOTED_NAME_CHARACTERS:
        return shown[:_MAX_QUOTED_NAME_CHARACTERS] + "..."
    return shown
