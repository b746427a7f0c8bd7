"""The comparison of what was accepted with what stands on the topics: pure bookkeeping, no I/O.

Each accepted request has one record of its own, or several with the same bytes, which are counted as copies.
What belongs to nobody who is expected is counted and left alone, unless it is no callback at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from llmctl.callback_checks import Fault, Finding, check_record, digest, find_request_id
from llmctl.client.callbacks import CallbackRecord


@dataclass(frozen=True, slots=True)
class Expectation:
    """One accepted request, and where its callback has to stand."""

    queue_id: str
    topic: str
    key: str
    accepted_unix_seconds: float
    line: int | None = None
    """Of the file that was submitted, where a receipt says so."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a record stands."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}@{self.offset}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken promise: of an accepted request, or of a record that cannot be told whose it is."""

    fault: Fault
    message: str
    expectation: Expectation | None
    positions: tuple[Position, ...]


@dataclass(slots=True)
class _Found:
    """What was found of one request."""

    success: bool | None = None
    digest: bytes | None = None
    positions: list[Position] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


class Audit:
    """Takes in expectations, then records, and says what does not fit."""

    def __init__(self, expected: Iterable[Expectation], late_after_seconds: float | None = None) -> None:
        self._expected = {each.queue_id: each for each in expected}
        self._late_after_seconds = late_after_seconds
        self._found: dict[str, _Found] = {}
        self._strays: list[Problem] = []
        self._undelivered: frozenset[str] = frozenset()
        self.others = 0
        """Records of requests that were not asked about."""

    @property
    def expected(self) -> int:
        """How many requests were accepted."""
        return len(self._expected)

    @property
    def missing(self) -> int:
        """How many of them have no record yet."""
        return len(self._expected) - len(self._found)

    def list_topics(self) -> list[str]:
        """The topics that have to be read."""
        return sorted({each.topic for each in self._expected.values()})

    def find_earliest_unix_seconds(self) -> float:
        """When the first of the requests was accepted."""
        return min(each.accepted_unix_seconds for each in self._expected.values())

    def note_undelivered(self, queue_ids: Collection[str]) -> None:
        """The service keeps these callbacks, because the broker refused them."""
        self._undelivered = frozenset(queue_ids)

    def take(self, record: CallbackRecord) -> None:
        """Takes in one record of one of the topics."""
        position = Position(record.topic, record.partition, record.offset)
        request_id = find_request_id(record)
        expectation = self._expected.get(request_id or "")
        if expectation is None:
            if record.envelope is None:
                whose = "" if request_id is None else f", it names request {request_id}"
                message = f"{record.problem}{whose}"
                self._strays.append(Problem(Fault.MALFORMED, message, None, (position,)))
            else:
                self.others += 1
            return
        found = self._found.setdefault(expectation.queue_id, _Found())
        found.positions.append(position)
        finding = self._check(record, expectation)
        if finding is not None:
            found.findings.append(finding)
        if record.envelope is None:
            return
        this = digest(record)
        if found.digest is not None and found.digest != this:
            found.findings.append(Finding(Fault.CONFLICTING, "it has two different answers"))
        elif found.digest is not None:
            found.findings.append(Finding(Fault.DUPLICATED, "the same event was written again"))
        else:
            found.digest, found.success = this, record.envelope.data.is_success

    def list_problems(self) -> Iterator[Problem]:
        """All that does not fit; requests in the order in which they were accepted."""
        for queue_id, expectation in self._expected.items():
            found = self._found.get(queue_id)
            if found is None:
                yield self._judge_absent(expectation)
                continue
            positions = tuple(found.positions)
            said: set[Fault] = set()
            for finding in found.findings:
                if finding.fault not in said:
                    said.add(finding.fault)
                    yield Problem(finding.fault, finding.message, expectation, positions)
        yield from self._strays

    def count_outcomes(self) -> tuple[int, int]:
        """How many requests have one faultless callback that tells an answer, and one that tells an error."""
        counts: Counter[bool] = Counter(
            found.success
            for found in self._found.values()
            if not found.findings and found.success is not None
        )
        return counts[True], counts[False]

    def _check(self, record: CallbackRecord, expectation: Expectation) -> Finding | None:
        finding = check_record(record)
        if finding is not None:
            return finding
        key = (record.key or b"").decode("utf-8", "backslashreplace")
        if key != expectation.key:
            return Finding(Fault.WRONG_KEY, f"its key is {key}, accepted was {expectation.key}")
        if record.topic != expectation.topic:
            return Finding(
                Fault.WRONG_TOPIC, f"it stands on {record.topic}, the request named {expectation.topic}"
            )
        after = record.timestamp_milliseconds / 1000 - expectation.accepted_unix_seconds
        if self._late_after_seconds is not None and after > self._late_after_seconds:
            return Finding(Fault.LATE, f"it came {after:.1f} s after it was accepted")
        return None

    def _judge_absent(self, expectation: Expectation) -> Problem:
        if expectation.queue_id in self._undelivered:
            message = "the broker refused it; `llmctl undelivered list` says why"
            return Problem(Fault.UNDELIVERED, message, expectation, ())
        return Problem(Fault.MISSING, f"no callback stands on {expectation.topic}", expectation, ())
