"""What the owner of a partition knows, from two logs that are read side by side."""

from dataclasses import replace
from itertools import permutations

import pytest

from service.contracts.codec import SealedEnvelope
from service.contracts.enums import LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.core.outcome import AttemptRecord, Spent, Usage
from service.core.records import Callback
from service.queues.kafka.notes import (
    Announcement,
    Answered,
    Claimed,
    Lent,
    Note,
    RecordUnreadable,
    Retried,
    Unclaimed,
    read_announcement,
    read_note,
    read_usage,
    write_note,
)
from service.queues.kafka.offsets import Progress
from service.queues.kafka.partition import Held, Partition, Stage, locate_request, number_request

ANNOUNCEMENT = Announcement(1.0, 9.0, 3, "openai", 120, "team", None)
ME, OTHER = "me-1", "other-1"


def make_partition(base: int = 0, *, journal_end: int = 0, requests_end: int = 0) -> Partition:
    """A partition that is owned since a moment ago."""
    return Partition(
        5, ME, Progress(base), requests_end=requests_end, journal_position=0, journal_end=journal_end
    )


def read_request(partition: Partition, offset: int) -> Held | None:
    """Reads one request."""
    partition.pass_over(offset)
    return partition.read_request(offset, f"q-{offset}", b"{}", ANNOUNCEMENT)[0]


def answer_to(offset: int, text: str) -> Answered:
    """An answer that can be told from another."""
    return Answered(offset, Callback(f"q-{offset}", "t", "k", SealedEnvelope(text.encode(), ()), True, 1.0))


SPENT = Spent(
    Usage(10, 5, 2, 1, 0.25),
    1.5,
    "model-x",
    LLMErrorCode.PROVIDER_TIMEOUT,
    "too slow",
    2,
    0.5,
    (AttemptRecord(1_741_944_413_007, 1.2, LLMProviderType.OPENAI, LLMErrorCode.PROVIDER_TIMEOUT),),
)
NOTES: list[Note] = [
    Claimed((1, 2, 70_000)),
    Unclaimed((3,)),
    Lent((4, 5), 17.5),
    Retried(6, 20.25, False, SPENT),
    Answered(7, Callback("q", "t", "k", SealedEnvelope(b"{}", (("event_id", b"\xff\x00"),)), False, 12.5)),
]


@pytest.mark.parametrize("note", NOTES, ids=lambda note: type(note).__name__)
def test_a_note_is_read_as_it_was_written(note: Note) -> None:
    """Every kind of note survives the journal, with its writer."""
    record = write_note(note, ME)

    assert read_note(record.headers, record.value) == (note, ME)


def test_usage_goes_with_an_answer_and_stays_apart_from_it() -> None:
    """It is read by itself; the answer is read as if it were not there, as versions before do."""
    usage = SealedEnvelope('{"of": "é"}'.encode(), (("event_id", b"\xff\x01"),))
    callback = Callback("q", "t", "k", SealedEnvelope(b"{}", (("h", b"v"),)), True, 12.5)

    record = write_note(Answered(7, replace(callback, usage=usage)), ME)

    assert read_usage(record.headers) == ("k", usage)
    assert read_note(record.headers, record.value) == (Answered(7, callback), ME)
    assert read_usage(write_note(Answered(7, callback), ME).headers) is None
    with pytest.raises(RecordUnreadable):
        read_usage([("usage", b'["k", 5, 7]')])


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("kind", b"Claimed"),),
        (("kind", b"Sold"), ("writer", b"x")),
        (("kind", b"Claimed"), ("writer", b"\xff")),
    ],
)
def test_a_foreign_record_is_no_note(headers: tuple[tuple[str, bytes], ...]) -> None:
    """What somebody else has written onto the journal is told from a note."""
    with pytest.raises(RecordUnreadable):
        read_note(headers, b"[1]")
    with pytest.raises(RecordUnreadable):
        read_announcement(headers)


@pytest.mark.parametrize(("partition", "offset"), [(0, 0), (4095, 0), (17, 10**12)])
def test_a_sequence_names_partition_and_offset(partition: int, offset: int) -> None:
    """The number of a request leads back to its record, and is never 0."""
    sequence = number_request(partition, offset)

    assert sequence > 0
    assert locate_request(sequence) == (partition, offset)


@pytest.mark.parametrize("order", list(permutations(["request", "first", "second"])))
def test_the_first_answer_on_the_journal_counts(order: tuple[str, ...]) -> None:
    """Two owners answered: whichever log is read faster, the answer is that of the earlier note."""
    if order.index("second") < order.index("first"):
        order = tuple(
            {"first": "second", "second": "first"}.get(each, each) for each in order
        )  # a journal is read in its own order
    partition = make_partition(requests_end=1)
    answers = []
    for each in order:
        if each == "request":
            partition.pass_over(0)
            answers.append(partition.read_request(0, "q-0", b"{}", ANNOUNCEMENT)[1])
        else:
            position = 0 if each == "first" else 1
            writer = OTHER if each == "first" else ME
            answers.extend(partition.read_note(position, answer_to(0, each), writer))

    given = [answer for answer in answers if answer is not None]
    assert [answer.callback.sealed.value for answer in given] == [b"first"]
    assert given[0].perhaps_sent


def test_an_own_answer_was_not_sent_by_anybody() -> None:
    """What this owner has written and reads back need not be looked up."""
    partition = make_partition()
    read_request(partition, 0)

    (answer,) = partition.read_note(0, answer_to(0, "mine"), ME)

    assert not answer.perhaps_sent
    assert partition.read_note(1, answer_to(0, "mine"), ME) == []


def test_attempts_of_owners_before_count() -> None:
    """Claims that were noted before, and those given back, make the number of attempts."""
    partition = make_partition(journal_end=4, requests_end=2)
    assert not partition.open
    partition.read_note(0, Claimed((0, 1)), OTHER)
    partition.read_note(1, Claimed((0,)), "third-1")
    partition.read_note(2, Unclaimed((1,)), OTHER)
    partition.read_note(3, Retried(0, 77.0, False, SPENT), "third-1")
    assert partition.open

    first, second = read_request(partition, 0), read_request(partition, 1)

    assert first is not None
    assert second is not None
    assert (first.attempts, first.spent, first.not_before_unix_seconds) == (1, SPENT, 77.0)
    assert (second.attempts, second.stage) == (0, Stage.READ)


def test_own_claims_are_not_counted_twice() -> None:
    """What this owner has noted it knew when the note was written."""
    partition = make_partition()
    held = read_request(partition, 0)
    assert held is not None
    held.attempts = 1

    partition.read_note(0, Claimed((0,)), ME)

    assert held.attempts == 1


def test_what_is_under_way_elsewhere_rests() -> None:
    """A request that a former owner still works on is left alone until a time."""
    partition = make_partition(journal_end=1)
    partition.read_note(0, Lent((0,), 99.0), OTHER)

    held = read_request(partition, 0)

    assert held is not None
    assert held.not_before_unix_seconds == 99.0


def test_finished_requests_are_passed_over() -> None:
    """What a former owner has finished is neither held nor answered again."""
    progress = Progress(10)
    progress.finish(12)
    partition = Partition(0, ME, progress, requests_end=13, journal_position=3, journal_end=5)
    assert partition.read_note(3, answer_to(12, "old"), OTHER) == []

    held = [read_request(partition, offset) for offset in (10, 11, 12)]

    assert [each is not None for each in held] == [True, True, False]
    assert len(partition) == 2


def test_the_journal_is_needed_from_the_oldest_unfinished_request_on() -> None:
    """Whoever comes next reads the journal from where it still says something of what is not finished."""
    partition = make_partition(requests_end=0)
    for offset in range(300):
        read_request(partition, offset)
        partition.read_note(offset, Claimed((offset,)), ME)
    assert partition.journal_position == 0

    for offset in range(250):
        partition.finish(offset)

    assert 100 < partition.journal_position <= 250
    assert partition.progress.base == 250


def test_a_note_that_came_before_its_request_keeps_the_journal() -> None:
    """As long as the request was not read, its note is not passed over by a commit."""
    partition = make_partition(requests_end=0)
    for offset in range(200):
        read_request(partition, offset)
    partition.read_note(7, Claimed((400,)), OTHER)
    for offset in range(200):
        partition.finish(offset)

    assert partition.journal_position <= 7


def test_a_gap_in_the_requests_is_told_and_passed() -> None:
    """Offsets that are gone are counted, and keep nothing back."""
    partition = make_partition(base=4)

    assert partition.pass_over(9) == 5
    partition.read_request(9, "q", b"{}", ANNOUNCEMENT)
    partition.finish(9)

    assert (partition.progress.base, partition.next_request) == (10, 10)
