"""One partition of the request topic as its owner knows it: pure bookkeeping, no I/O and no clock of its own.

Two logs are read side by side, the requests and their journal, and neither waits for the other. Whoever comes
to own a partition reads the journal from where it still matters to its present end before anything is
started, and so knows what every owner before it knew. The order of the journal decides: the first `Answered`
of a request is its answer, whoever wrote it, and what comes later is passed over. That is why no request ever
has two different answers, also where an owner was stopped and goes on without knowing that it is one no more.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from service.core.outcome import Spent
from service.core.records import Callback
from service.queues.backlog import Waiting
from service.queues.kafka.notes import Announcement, Answered, Claimed, Lent, Note, Retried, Unclaimed
from service.queues.kafka.offsets import Progress

GUEST = "guest"
"""Writes notes of requests whose partition it owns no more; it never sends their callbacks."""
PARTITION_BITS = 12
MAX_PARTITIONS = 1 << PARTITION_BITS
MARK_EVERY_OFFSETS = 64


def number_request(partition: int, offset: int) -> int:
    """The sequence of a request, from 1: the same for every owner, in the order of the offsets."""
    return (offset + 1) << PARTITION_BITS | partition


def locate_request(sequence: int) -> tuple[int, int]:
    """The partition and offset that `number_request` was given."""
    return sequence & (MAX_PARTITIONS - 1), (sequence >> PARTITION_BITS) - 1


class Stage(Enum):
    """How far a request has come, that is not finished."""

    READ = "read"
    """Nothing is known to be against its start, or the partition is not open yet."""
    WAITING = "waiting"
    RESTING = "resting"
    """Not to be started before a time."""
    CLAIMED = "claimed"
    ANSWERED = "answered"
    """Its callback has to be delivered."""


@dataclass(slots=True)
class Held:
    """A request that is not finished."""

    waiting: Waiting
    offset: int
    queue_id: str
    value: bytes
    """Its record's value; empty where it has to be read from the topic, and once it is answered."""
    caller: str | None
    idempotency_key: str | None
    stage: Stage = Stage.READ
    attempts: int = 0
    spent: Spent = field(default_factory=Spent)
    not_before_unix_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A request has got its answer just now."""

    held: Held
    callback: Callback
    perhaps_sent: bool
    """Whether somebody else may have sent it already."""


@dataclass(frozen=True, slots=True)
class _Mark:
    """What is noted of requests from `offset` on stands on the journal at `position` or behind it."""

    offset: int
    position: int


class Partition:
    """The state of one partition, for as long as this process owns it without a break."""

    def __init__(
        self,
        number: int,
        writer: str,
        progress: Progress,
        *,
        requests_end: int,
        journal_position: int,
        journal_end: int,
    ) -> None:
        self.number = number
        self.writer = writer
        self.progress = progress
        self.next_request = progress.base
        """The offset of the request that is read next."""
        self.next_note = journal_position
        """The same, on the journal."""
        self.requests_end = requests_end
        """The end of the requests, as far as it is known."""
        self._touched_before = requests_end
        self._journal_end = journal_end
        self._held: dict[int, Held] = {}
        self._named: dict[str, Held] = {}
        self._early: dict[int, list[tuple[int, Note, str]]] = {}
        """Notes of requests that were not read yet, each with its position."""
        self._noted_early: dict[int, int] = {}
        """Requests that were read after a note of theirs, with its position."""
        self._marks = deque([_Mark(progress.base, journal_position)])

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        return iter(self._held.values())

    @property
    def open(self) -> bool:
        """Whether what all owners before have noted is read: only then may anything be started."""
        return self.next_note >= self._journal_end

    @property
    def unread(self) -> int:
        """How many requests are known to stand on the topic and were not read yet."""
        return max(0, self.requests_end - self.next_request)

    @property
    def journal_position(self) -> int:
        """From where the journal has to be read by whoever owns the partition next."""
        while len(self._marks) > 1 and self._marks[1].offset <= self.progress.base:
            self._marks.popleft()
        if not self._held and not self._early:
            return self.next_note
        early = min((notes[0][0] for notes in self._early.values()), default=self.next_note)
        return min(self._marks[0].position, early, *self._noted_early.values())

    def find(self, offset: int) -> Held | None:
        """The request at an offset, where it is not finished."""
        return self._held.get(offset)

    def find_named(self, queue_id: str) -> Held | None:
        """The request with this id, where it is not finished."""
        return self._named.get(queue_id)

    def pass_over(self, offset: int) -> int:
        """Before the record at `offset` is read: what lies between is gone. Returns how much that is."""
        gone = offset - self.next_request
        if gone > 0:
            self.progress.skip(self.next_request, offset)
        self.next_request = offset + 1
        self.requests_end = max(self.requests_end, self.next_request)
        return max(0, gone)

    def read_request(
        self, offset: int, queue_id: str, value: bytes, announcement: Announcement
    ) -> tuple[Held | None, Answer | None]:
        """Takes in a request; None where it is finished. An answer to it may have been read before it."""
        if self.progress.is_finished(offset) or offset in self._held:
            self._early.pop(offset, None)
            return None, None
        if offset >= self._touched_before and offset >= self._marks[-1].offset + MARK_EVERY_OFFSETS:
            self._marks.append(_Mark(offset, self.next_note))
        held = Held(
            Waiting(
                number_request(self.number, offset),
                announcement.priority,
                announcement.accepted_unix_seconds,
                announcement.expires_unix_seconds,
                announcement.provider,
                announcement.estimated_tokens,
                announcement.caller,
            ),
            offset,
            queue_id,
            value,
            announcement.caller,
            announcement.idempotency_key,
        )
        self._held[offset] = self._named[queue_id] = held
        answer = None
        for position, note, writer in self._early.pop(offset, ()):
            self._noted_early.setdefault(offset, position)
            answer = self._apply(held, position, note, writer) or answer
        return held, answer

    def read_note(self, position: int, note: Note, writer: str) -> list[Answer]:
        """Takes in a note; returns what it answers. Our own claims and retries are known when written."""
        self.next_note = position + 1
        own = writer == self.writer and not isinstance(note, Answered)
        offsets = (note.offset,) if isinstance(note, Retried | Answered) else note.offsets
        answers = []
        for offset in () if own else offsets:
            held = self._held.get(offset)
            if held is not None:
                answer = self._apply(held, position, note, writer)
                if answer is not None:
                    answers.append(answer)
            elif offset >= self.next_request and not self.progress.is_finished(offset):
                self._early.setdefault(offset, []).append((position, note, writer))
        return answers

    def skip_notes(self, position: int) -> None:
        """The journal holds nothing that can be read before `position`."""
        self.next_note = max(self.next_note, position)

    def finish(self, offset: int) -> None:
        """A request is over."""
        self.progress.finish(offset)
        held = self._held.pop(offset, None)
        if held is not None and self._named.get(held.queue_id) is held:
            del self._named[held.queue_id]
        self._noted_early.pop(offset, None)

    def _apply(self, held: Held, position: int, note: Note, writer: str) -> Answer | None:
        if held.stage is Stage.ANSWERED:
            return None
        match note:
            case Claimed():
                held.attempts += 1
            case Unclaimed():
                held.attempts = max(0, held.attempts - 1)
                held.not_before_unix_seconds = 0.0
            case Lent():
                held.not_before_unix_seconds = note.until_unix_seconds
            case Retried():
                held.attempts = max(0, held.attempts - (not note.counted))
                held.spent = note.spent
                held.not_before_unix_seconds = note.not_before_unix_seconds
            case Answered():
                held.stage = Stage.ANSWERED
                # A guest's answer can have been sent by an owner before us, and by nobody since.
                own = writer == self.writer or (writer == GUEST and position >= self._journal_end)
                return Answer(held, note.callback, perhaps_sent=not own)
        return None
