"""What stands on the topics of the Kafka queue: requests, and the notes of what became of them.

A request keeps what it waits by in one header, so that nobody has to read its text before its turn. Notes are
records of the journal: they name requests by their offset, on the partition of the same number.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import orjson
from pydantic import TypeAdapter

from service.contracts.codec import SealedEnvelope
from service.contracts.enums import LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.contracts.requests import QueuedRequest
from service.core.outcome import AttemptRecord, Spent, Usage
from service.core.records import Callback
from service.queues.headers import join_headers, list_headers

RecordHeaders = Sequence[tuple[str, bytes | None]]

WAITING_HEADER = "waiting"
KIND_HEADER = "kind"
WRITER_HEADER = "writer"
CALLBACK_HEADER = "callback"
USAGE_HEADER = "usage"

_REQUESTS = TypeAdapter(QueuedRequest)


class RecordUnreadable(ValueError):
    """A record was not written by this version, or not by us."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """What has to be known of a request while it waits."""

    accepted_unix_seconds: float
    expires_unix_seconds: float
    priority: int
    provider: str | None
    estimated_tokens: int
    caller: str | None
    idempotency_key: str | None


@dataclass(frozen=True, slots=True)
class Claimed:
    """Attempts at these requests begin."""

    offsets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """Attempts that were claimed did not begin."""

    offsets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Lent:
    """Attempts at these requests are under way elsewhere: they are left alone until then."""

    offsets: tuple[int, ...]
    until_unix_seconds: float


@dataclass(frozen=True, slots=True)
class Retried:
    """An attempt failed; the next is not made before then."""

    offset: int
    not_before_unix_seconds: float
    counted: bool
    spent: Spent


@dataclass(frozen=True, slots=True)
class Answered:
    """The outcome of a request. The first one on the journal is the one that counts."""

    offset: int
    callback: Callback


Note = Claimed | Unclaimed | Lent | Retried | Answered


def write_request(request: QueuedRequest, announcement: Announcement) -> SealedEnvelope:
    """A request as a record."""
    values = [getattr(announcement, field.name) for field in fields(Announcement)]
    return SealedEnvelope(_REQUESTS.dump_json(request), ((WAITING_HEADER, orjson.dumps(values)),))


def read_announcement(headers: RecordHeaders) -> Announcement:
    """What a request waits by. Raises `RecordUnreadable`."""
    try:
        accepted, expires, priority, provider, tokens, caller, key = orjson.loads(
            _find(headers, WAITING_HEADER)
        )
        return Announcement(
            float(accepted), float(expires), int(priority), provider, int(tokens), caller, key
        )
    except (ValueError, TypeError) as error:
        raise RecordUnreadable("no request of this service") from error


def read_request(value: bytes) -> QueuedRequest:
    """The whole request. Raises `RecordUnreadable`."""
    try:
        return _REQUESTS.validate_json(value)
    except ValueError as error:
        raise RecordUnreadable("a request that this version cannot read") from error


def write_note(note: Note, writer: str) -> SealedEnvelope:
    """A note as a record; `writer` tells whose it is."""
    match note:
        case Claimed(offsets) | Unclaimed(offsets):
            body = orjson.dumps(offsets)
        case Lent(offsets, until):
            body = orjson.dumps([offsets, until])
        case Retried(offset, not_before, counted, spent):
            body = orjson.dumps([offset, not_before, counted, _list_spent(spent)])
        case Answered(offset, callback):
            about = (
                offset,
                callback.queue_id,
                callback.topic,
                callback.key,
                callback.success,
                callback.accepted_unix_seconds,
                list_headers(callback.sealed.headers),
            )
            headers = (*_head(note, writer), (CALLBACK_HEADER, orjson.dumps(about)))
            if callback.usage is not None:
                # In a header of its own: versions that know nothing of it read past it.
                usage = (callback.key, list_headers(callback.usage.headers), callback.usage.value.decode())
                headers += ((USAGE_HEADER, orjson.dumps(usage)),)
            return SealedEnvelope(callback.sealed.value, headers)
    return SealedEnvelope(body, _head(note, writer))


def read_note(headers: RecordHeaders, value: bytes | None) -> tuple[Note, str]:
    """A note and its writer. Raises `RecordUnreadable`."""
    try:
        kind, writer = _find(headers, KIND_HEADER).decode(), _find(headers, WRITER_HEADER).decode()
        return _read_body(kind, headers, value or b""), writer
    except (ValueError, TypeError) as error:
        raise RecordUnreadable("no note of this service") from error


def read_answered_offset(headers: RecordHeaders) -> int | None:
    """Which request a note answers; None where it is no answer. Raises `RecordUnreadable`."""
    for name, value in headers:
        if name == CALLBACK_HEADER and value is not None:
            try:
                return int(orjson.loads(value)[0])
            except (ValueError, TypeError, LookupError) as error:
                raise RecordUnreadable("no answer of this service") from error
    return None


def read_usage(headers: RecordHeaders) -> tuple[str, SealedEnvelope] | None:
    """The usage event that goes with an answer, and its key; None where there is none.

    Raises `RecordUnreadable`.
    """
    for name, value in headers:
        if name == USAGE_HEADER and value is not None:
            try:
                key, pairs, text = orjson.loads(value)
                return key, SealedEnvelope(text.encode(), join_headers(pairs))
            except (ValueError, TypeError, AttributeError) as error:
                raise RecordUnreadable("no usage of this service") from error
    return None


def _head(note: Note, writer: str) -> tuple[tuple[str, bytes], ...]:
    return (KIND_HEADER, type(note).__name__.encode()), (WRITER_HEADER, writer.encode())


def _read_body(kind: str, headers: RecordHeaders, value: bytes) -> Note:
    match kind:
        case "Claimed":
            return Claimed(_read_offsets(orjson.loads(value)))
        case "Unclaimed":
            return Unclaimed(_read_offsets(orjson.loads(value)))
        case "Lent":
            offsets, until = orjson.loads(value)
            return Lent(_read_offsets(offsets), float(until))
        case "Retried":
            offset, not_before, counted, spent = orjson.loads(value)
            return Retried(int(offset), float(not_before), bool(counted), _read_spent(spent))
        case "Answered":
            return _read_answer(_find(headers, CALLBACK_HEADER), value)
        case _:
            raise ValueError(kind)


def _read_answer(about: bytes, value: bytes) -> Answered:
    offset, queue_id, topic, key, success, accepted, pairs = orjson.loads(about)
    sealed = SealedEnvelope(value, join_headers(pairs))
    return Answered(int(offset), Callback(queue_id, topic, key, sealed, bool(success), float(accepted)))


def _read_offsets(values: Iterable[int]) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


def _find(headers: RecordHeaders, name: str) -> bytes:
    for key, value in headers:
        if key == name and value is not None:
            return value
    raise RecordUnreadable(f"a record without the header {name}")


def _list_spent(spent: Spent) -> list[object]:
    return [
        [getattr(spent.usage, field.name) for field in fields(Usage)],
        spent.provider_seconds,
        spent.model,
        spent.last_code,
        spent.last_message,
        spent.calls,
        spent.unconfirmed_usd,
        [[getattr(attempt, field.name) for field in fields(AttemptRecord)] for attempt in spent.attempts],
    ]


def _read_spent(stored: list[Any]) -> Spent:
    usage, seconds, model, code, message, calls, unconfirmed, attempts = stored
    return Spent(
        Usage(*usage),
        seconds,
        model,
        None if code is None else LLMErrorCode(code),
        message,
        calls,
        unconfirmed,
        tuple(_read_attempt(*values) for values in attempts),
    )


def _read_attempt(started: int, seconds: float, provider: str, code: str | None) -> AttemptRecord:
    return AttemptRecord(
        started, seconds, LLMProviderType(provider), None if code is None else LLMErrorCode(code)
    )
