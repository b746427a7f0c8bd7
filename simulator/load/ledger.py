"""The referee of a run: was every accepted request answered exactly once, intact, at the right place?

Pure: facts go in, in any order, verdicts come out. It does no I/O and reads no clock; all times are seconds
on one clock of the caller's choice.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, Self, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from simulator.load.callback import Answer, CorruptRecord, RecordHeaders, read_callback

EXIT_SOUND = 0
EXIT_UNSOUND = 5

ValueT = TypeVar("ValueT")


@dataclass(frozen=True)
class Accepted:
    """The service answered 202."""

    queue_id: str
    correlation_id: UUID
    callback_topic: str
    accepted_at: float


@dataclass(frozen=True)
class Rejected:
    """The service answered anything but 202, so no callback may come."""

    status: int
    error_code: str | None


@dataclass(frozen=True)
class Ambiguous:
    """The request was handed in and no clear answer came: it may have been accepted, or not."""

    correlation_id: UUID
    callback_topic: str


@dataclass(frozen=True)
class Received:
    """A record on a callback topic, read from wherever it stood."""

    topic: str
    key: bytes | None
    headers: RecordHeaders
    value: bytes | None
    received_at: float


Fact = Accepted | Rejected | Ambiguous | Received


class Verdict(StrEnum):
    """What became of one accepted request; where several apply, the first that is said here.

    A callback that came before the 202 was known is as good as a later one.
    """

    DUPLICATE = "duplicate"
    """More than one intact callback; worst where their bytes differ (`LedgerReport.conflicting`)."""
    CORRUPT = "corrupt"
    """A callback that is no valid envelope, or whose event_id, request_id or correlation id is not the right
    one; or one queue_id was given to two different requests."""
    WRONG_TOPIC = "wrong_topic"
    """The callback stands on a topic that the request did not name."""
    WRONG_KEY = "wrong_key"
    """The record's key is not the correlation id."""
    LATE = "late"
    """The callback came, later after the acceptance than the limit."""
    OK = "ok"
    """Exactly one callback, with a winner."""
    FAILED = "failed"
    """Exactly one callback, with an error."""
    MISSING = "missing"
    """No callback."""


class LedgerReport(BaseModel):
    """The totals of a run. The verdicts of `accepted` requests add up to it; the others stand beside."""

    model_config = ConfigDict(frozen=True)

    accepted: int
    ok: int
    failed: int
    missing: int
    duplicate: int
    late: int
    orphan: int
    """Ids that were answered without having been accepted."""
    wrong_topic: int
    wrong_key: int
    corrupt: int
    """Accepted requests so judged, plus corrupt records that belong to none of them."""
    rejected: int

    identical: int
    """Of `duplicate`: all copies are the same bytes."""
    conflicting: int
    """Of `duplicate`: the copies differ, so the answer was changed."""
    rejections: dict[str, int]
    """`rejected` by status and error code, such as `503 LLM_QUEUE_FULL`."""
    ambiguous: int = 0
    """Requests of which nobody knows whether they were accepted: no clear answer, and no callback."""
    early: int = 0
    """Of `accepted`: called back before their 202 was known, which is legal."""

    @property
    def totals(self) -> dict[str, int]:
        """The figures as `--output json` gives them."""
        return self.model_dump(exclude={"identical", "conflicting", "rejections", "ambiguous", "early"})

    @property
    def sound(self) -> bool:
        """Whether each accepted request has one intact answer in its place and nothing else was answered.

        Lateness is a matter of thresholds and leaves a run sound.
        """
        wrong = (self.missing, self.duplicate, self.orphan, self.wrong_topic, self.wrong_key, self.corrupt)
        return not any(wrong)

    @property
    def exit_code(self) -> int:
        """0 for a sound run, 5 for any other."""
        return EXIT_SOUND if self.sound else EXIT_UNSOUND


class Ledger:
    """Folds the facts of a run. It keeps a digest per request, never a callback's bytes."""

    def __init__(self, *, late_after_seconds: float | None = None) -> None:
        """`late_after_seconds` is the limit from acceptance to callback; None is no limit."""
        self._late_after_seconds = late_after_seconds
        self._entries: dict[str, _Entry] = {}
        self._stray_corrupt = 0
        self._rejections: Counter[str] = Counter()
        self._ambiguous: dict[UUID, str] = {}
        """Topic by correlation id, until a callback shows that the request was accepted."""
        self._outstanding = 0

    @property
    def outstanding(self) -> int:
        """Accepted requests that no record has named yet: what a run still waits for."""
        return self._outstanding

    def fold(self, *facts: Fact) -> Self:
        """Takes facts in, in any order."""
        for fact in facts:
            match fact:
                case Accepted():
                    self._accept(fact)
                case Received():
                    self._receive(fact)
                case Ambiguous():
                    self._ambiguous[fact.correlation_id] = fact.callback_topic
                case Rejected():
                    self._rejections[f"{fact.status} {fact.error_code or '-'}"] += 1
        return self

    def verdicts(self) -> Iterator[tuple[str, Verdict]]:
        """The verdict of every accepted request, by queue_id."""
        self._clear_up()
        for queue_id, entry in self._entries.items():
            if entry.promises.seen:
                yield queue_id, entry.judge(self._late_after_seconds)

    def judge(self, queue_id: str) -> Verdict | None:
        """The verdict of one accepted request as it stands, None where no such one was accepted."""
        entry = self._entries.get(queue_id)
        if entry is None or not entry.promises.seen:
            return None
        return entry.judge(self._late_after_seconds)

    def orphans(self) -> Iterator[str]:
        """The queue_ids that were answered without having been accepted."""
        self._clear_up()
        for queue_id, entry in self._entries.items():
            if entry.copies and not entry.promises.seen:
                yield queue_id

    def report(self) -> LedgerReport:
        """The totals as they stand; final once everything that was to come has come."""
        counts = Counter(verdict for _, verdict in self.verdicts())
        accepted = counts.total()
        strangers = [entry for entry in self._entries.values() if not entry.promises.seen]
        orphans = sum(entry.copies > 0 for entry in strangers)
        corrupt = counts[Verdict.CORRUPT] + len(strangers) - orphans + self._stray_corrupt
        conflicting = sum(
            entry.copies > 1 and entry.digests.mixed
            for entry in self._entries.values()
            if entry.promises.seen
        )
        return LedgerReport(
            accepted=accepted,
            ok=counts[Verdict.OK],
            failed=counts[Verdict.FAILED],
            missing=counts[Verdict.MISSING],
            duplicate=counts[Verdict.DUPLICATE],
            late=counts[Verdict.LATE],
            orphan=orphans,
            wrong_topic=counts[Verdict.WRONG_TOPIC],
            wrong_key=counts[Verdict.WRONG_KEY],
            corrupt=corrupt,
            rejected=self._rejections.total(),
            identical=counts[Verdict.DUPLICATE] - conflicting,
            conflicting=conflicting,
            rejections=dict(sorted(self._rejections.items())),
            ambiguous=len(self._ambiguous),
            early=sum(entry.received_at < entry.accepted_at < math.inf for entry in self._entries.values()),
        )

    def _clear_up(self) -> None:
        """A callback to a request that was in doubt shows that it was accepted."""
        if not self._ambiguous:
            return
        for queue_id, entry in self._entries.items():
            place = entry.places.value
            if entry.promises.seen or place is None or place[0] not in self._ambiguous:
                continue
            topic = self._ambiguous.pop(place[0])
            entry.accept(Accepted(queue_id, place[0], topic, entry.received_at))

    def _accept(self, fact: Accepted) -> None:
        entry = self._entries.setdefault(fact.queue_id, _Entry())
        if not entry.promises.seen and not entry.answered:
            self._outstanding += 1
        entry.accept(fact)

    def _receive(self, fact: Received) -> None:
        record = read_callback(fact.key, fact.headers, fact.value)
        if record.queue_id is None:
            self._stray_corrupt += 1
            return
        entry = self._entries.setdefault(record.queue_id, _Entry())
        if entry.promises.seen and not entry.answered:
            self._outstanding -= 1
        entry.receive(record, fact.topic, fact.received_at)


@dataclass(slots=True)
class _Agreement(Generic[ValueT]):
    """One value, or the knowledge that there were several: constant memory, and the order does not matter."""

    value: ValueT | None = None
    seen: bool = False
    mixed: bool = False

    def add(self, value: ValueT) -> None:
        self.mixed = self.mixed or (self.seen and self.value != value)
        self.value = None if self.mixed else value
        self.seen = True


@dataclass(slots=True)
class _Entry:
    """What is known about one queue_id."""

    promises: _Agreement[tuple[UUID, str]] = field(default_factory=_Agreement)
    """Correlation id and topic, as accepted. A repeated 202 for an idempotent request says the same again."""
    accepted_at: float = float("inf")
    places: _Agreement[tuple[UUID, str]] = field(default_factory=_Agreement)
    """Correlation id and topic, as called back."""
    digests: _Agreement[bytes] = field(default_factory=_Agreement)
    copies: int = 0
    success: bool = False
    corrupt: bool = False
    keyed: bool = True
    received_at: float = float("inf")

    @property
    def answered(self) -> bool:
        return self.copies > 0 or self.corrupt

    def accept(self, fact: Accepted) -> None:
        self.promises.add((fact.correlation_id, fact.callback_topic))
        self.accepted_at = min(self.accepted_at, fact.accepted_at)

    def receive(self, record: Answer | CorruptRecord, topic: str, received_at: float) -> None:
        if isinstance(record, CorruptRecord):
            self.corrupt = True
            return
        self.copies += 1
        self.digests.add(record.digest)
        self.places.add((record.correlation_id, topic))
        self.success = record.success
        self.keyed = self.keyed and record.keyed_by_correlation
        self.received_at = received_at

    def judge(self, late_after_seconds: float | None) -> Verdict:
        checks = (
            (self.copies > 1, Verdict.DUPLICATE),
            (self.corrupt or self.promises.mixed or self._correlates_wrongly(), Verdict.CORRUPT),
            (self.copies == 0, Verdict.MISSING),
            (self.places.value != self.promises.value, Verdict.WRONG_TOPIC),
            (not self.keyed, Verdict.WRONG_KEY),
            (self._is_late(late_after_seconds), Verdict.LATE),
            (self.success, Verdict.OK),
        )
        return next((verdict for holds, verdict in checks if holds), Verdict.FAILED)

    def _correlates_wrongly(self) -> bool:
        if self.places.value is None or self.promises.value is None:
            return False
        return self.places.value[0] != self.promises.value[0]

    def _is_late(self, late_after_seconds: float | None) -> bool:
        if late_after_seconds is None:
            return False
        return self.received_at - self.accepted_at > late_after_seconds
