"""Values as bytes in their columns: record headers, and what attempts at a request have spent."""

from dataclasses import fields

import orjson

from service.contracts.codec import Headers
from service.contracts.enums import LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.core.outcome import AttemptRecord, Spent, Usage
from service.queues.headers import join_headers, list_headers


def write_headers(headers: Headers) -> bytes:
    """JSON; `read_headers` reads it."""
    return orjson.dumps(list_headers(headers))


def read_headers(data: bytes) -> Headers:
    """What `write_headers` was given."""
    return join_headers(orjson.loads(data))


def write_spent(spent: Spent) -> bytes:
    """JSON; `read_spent` reads it."""
    return orjson.dumps(spent, default=_write_part, option=orjson.OPT_PASSTHROUGH_DATACLASS)


def read_spent(data: bytes) -> Spent:
    """Raises `ValueError`, `TypeError` or `KeyError` where another version wrote it."""
    stored = orjson.loads(data)
    return Spent(
        usage=Usage(**stored.pop("usage")),
        last_code=_read_code(stored.pop("last_code")),
        # Rows of versions before have none.
        attempts=tuple(_read_attempt(*values) for values in stored.pop("attempts", ())),
        **stored,
    )


def _write_part(part: Spent | Usage | AttemptRecord) -> object:
    values = {field.name: getattr(part, field.name) for field in fields(part)}
    # There may be many attempts: their values alone, in the order of the fields.
    return tuple(values.values()) if isinstance(part, AttemptRecord) else values


def _read_attempt(started: int, seconds: float, provider: str, code: str | None) -> AttemptRecord:
    return AttemptRecord(started, seconds, LLMProviderType(provider), _read_code(code))


def _read_code(stored: str | None) -> LLMErrorCode | None:
    return None if stored is None else LLMErrorCode(stored)
