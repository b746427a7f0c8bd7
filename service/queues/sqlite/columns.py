"""Values as bytes in their columns: record headers, and what attempts at a request have spent."""

import math
from dataclasses import fields

import orjson
from pydantic import TypeAdapter

from service.contracts.codec import Headers
from service.core.outcome import AttemptRecord, Spent, Usage
from service.queues.headers import join_headers, list_headers

_SPENT = TypeAdapter(Spent)


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
    """Reads what `write_spent` wrote. Raises `ValueError` for anything else, such as a cost of infinity."""
    stored = orjson.loads(data)
    if isinstance(stored, dict) and isinstance(attempts := stored.get("attempts"), list):
        names = [field.name for field in fields(AttemptRecord)]
        stored["attempts"] = [dict(zip(names, values, strict=True)) for values in attempts]
    spent = _SPENT.validate_python(stored)
    if not all(map(math.isfinite, (spent.cost_usd, spent.provider_seconds))):
        raise ValueError("A cost or a duration is not finite.")
    return spent


def _write_part(part: Spent | Usage | AttemptRecord) -> object:
    values = {field.name: getattr(part, field.name) for field in fields(part)}
    # There may be many attempts: their values alone, in the order of the fields.
    return tuple(values.values()) if isinstance(part, AttemptRecord) else values
