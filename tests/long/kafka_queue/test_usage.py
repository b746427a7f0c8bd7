"""How the usage events of one partition are read from its journal."""

from typing import Any

from aiokafka.structs import ConsumerRecord
from structlog.testing import capture_logs

from service.contracts.codec import SealedEnvelope
from service.core.records import Callback, UsageEntry
from service.queues.kafka.notes import Answered, Claimed, Note, write_note
from service.queues.kafka.partition import number_request
from service.queues.kafka.usage import REMEMBERED_NOTES, _Reading

USAGE = SealedEnvelope(b"used", (("h", b"v"),))


def make_record(offset: int, note: Note, headers: tuple[Any, ...] = ()) -> Any:
    """A note as it is fetched."""
    sealed = write_note(note, "writer")
    return ConsumerRecord("j", 3, offset, 0, 0, b"k", sealed.value, None, 0, 0, sealed.headers + headers)


def answer(request: int, usage: SealedEnvelope | None = USAGE) -> Answered:
    """The answer to a request."""
    return Answered(request, Callback("q", "t", "k", SealedEnvelope(b"{}", ()), True, 1.0, usage=usage))


def test_the_first_answer_alone_has_an_event() -> None:
    """Also where that one has used nothing, or was told by an owner before."""
    reading = _Reading(3, told_before=2, next=0)

    found = [
        reading.take_in(make_record(offset, note))
        for offset, note in enumerate(
            [answer(7), Claimed((9,)), answer(8), answer(7), answer(9, None), answer(9), answer(8)]
        )
    ]

    assert found == [None, None, UsageEntry(number_request(3, 2), "k", USAGE), None, None, None, None]
    assert reading.next == 7


def test_what_is_gone_from_the_journal_is_told() -> None:
    """Nobody would notice otherwise."""
    reading = _Reading(3, told_before=2, next=2)

    with capture_logs() as logs:
        assert reading.take_in(make_record(5, answer(7))) is not None
        assert reading.take_in(make_record(6, answer(8))) is not None

    assert [(entry["log_level"], entry["offset"], entry["count"]) for entry in logs] == [("critical", 2, 3)]


def test_an_event_that_cannot_be_read_holds_up_no_other() -> None:
    """It is passed over and told."""
    reading = _Reading(3, told_before=0, next=0)

    with capture_logs() as logs:
        assert reading.take_in(make_record(0, answer(7, None), (("usage", b"[1]"),))) is None
        assert reading.take_in(make_record(1, answer(8))) is not None

    assert [entry["offset"] for entry in logs] == [0]


def test_answers_are_not_remembered_for_ever() -> None:
    """Memory stays what it is."""
    reading = _Reading(3, told_before=0, next=0)
    for offset in range(2 * REMEMBERED_NOTES):
        reading.take_in(make_record(offset, answer(offset, None)))

    assert len(reading._answered) <= REMEMBERED_NOTES + 2
