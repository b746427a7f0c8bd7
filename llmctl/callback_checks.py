"""What can be wrong with a callback on its topic: pure checks, of one record and of several together.

What they hold it to is the published contract: a valid envelope, the correlation id for the key, the event id
that is derived from the request's, and one event for each request however often it was written.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

from llmctl.client.callbacks import CallbackRecord
from service.contracts.codec import read_header
from service.contracts.topics import derive_event_id

REMEMBERED_EVENTS = 1_000_000
"""So many events are remembered while a topic is watched, 250 MB; a copy of an older one is not seen."""
_DIGEST_BYTES = 16


class Fault(StrEnum):
    """A way in which a callback breaks its promise."""

    MISSING = "missing"
    """There is none."""
    DUPLICATED = "duplicated"
    """The same event was written more than once, with the same bytes."""
    CONFLICTING = "conflicting"
    """A request has two different answers."""
    MALFORMED = "malformed"
    """It is no valid envelope."""
    WRONG_KEY = "wrong key"
    """Its key is not its correlation id, or not the request's."""
    WRONG_EVENT = "wrong event"
    """Its event id is not the one that is derived from its request, or its headers say otherwise."""
    WRONG_TOPIC = "wrong topic"
    """It stands on another topic than the request named."""
    LATE = "late"
    """It came later than allowed."""
    UNDELIVERED = "undelivered"
    """The broker refused it, and the service keeps it for an operator."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault, and in a sentence's part what it is about."""

    fault: Fault
    message: str

    def describe(self) -> dict[str, str]:
        """The same as JSON."""
        return {"kind": self.fault.value.replace(" ", "_"), "message": self.message}


def find_request_id(record: CallbackRecord) -> str | None:
    """Whose callback a record is: by its envelope, else by its header."""
    if record.envelope is not None:
        return record.envelope.data.request_id
    return read_header(record.headers, "request_id")


def check_record(record: CallbackRecord) -> Finding | None:
    """What is wrong with one record by itself; None where nothing is."""
    envelope = record.envelope
    if envelope is None:
        return Finding(Fault.MALFORMED, record.problem or "it is no valid envelope")
    correlation_id = str(envelope.correlation_id)
    key = None if record.key is None else record.key.decode("utf-8", "backslashreplace")
    if key != correlation_id:
        named = "none" if key is None else key
        return Finding(Fault.WRONG_KEY, f"its key is {named}, its correlation id {correlation_id}")
    expected = derive_event_id(envelope.data.request_id)
    if envelope.event_id != expected:
        return Finding(Fault.WRONG_EVENT, f"its event id is {envelope.event_id}, not {expected}")
    for name, said in (("event_id", str(expected)), ("request_id", envelope.data.request_id)):
        header = read_header(record.headers, name)
        if header is not None and header != said:
            return Finding(Fault.WRONG_EVENT, f"its header {name} is {header}, its envelope says {said}")
    return None


def digest(record: CallbackRecord) -> bytes:
    """Tells one answer from another."""
    return blake2b(record.value or b"", digest_size=_DIGEST_BYTES).digest()


class Verifier:
    """Checks records one after the other as they come."""

    def __init__(self, remembered: int = REMEMBERED_EVENTS) -> None:
        self._remembered = remembered
        self._seen: OrderedDict[str, tuple[bytes, str]] = OrderedDict()

    def check(self, record: CallbackRecord) -> Finding | None:
        """What is wrong with a record by itself or beside those before it."""
        finding = check_record(record)
        request_id = find_request_id(record)
        if record.envelope is None or request_id is None:
            return finding
        place = f"{record.topic}/{record.partition}@{record.offset}"
        first = self._seen.get(request_id)
        if first is not None:
            same = first[0] == digest(record)
            fault = Fault.DUPLICATED if same else Fault.CONFLICTING
            what = "it stands" if same else "another answer to its request stands"
            return Finding(fault, f"{what} at {first[1]} already")
        self._seen[request_id] = digest(record), place
        if len(self._seen) > self._remembered:
            self._seen.popitem(last=False)
        return finding
