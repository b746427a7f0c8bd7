"""Where a topic has to be read from after a crash: never behind a callback that still counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.records import Place
from service.core.written import MAX_MARKS, WrittenPositions


def test_position_advances_past_what_was_acknowledged_and_forgotten() -> None:
    """With nothing unfinished the topic is read from behind its last acknowledged record."""
    written = WrittenPositions()
    tickets = [written.begin("t") for _ in range(3)]
    for ticket, offset in zip(tickets, (5, 6, 7), strict=True):
        written.acknowledge("t", Place(0, offset))
        written.finish("t", ticket)

    assert written.positions(["t", "other"]) == {"t": {0: 8}}


def test_unfinished_send_holds_the_position() -> None:
    """A send that is not over may stand anywhere behind what was acknowledged before it began."""
    written = WrittenPositions()
    first = written.begin("t")
    written.acknowledge("t", Place(0, 5))
    written.finish("t", first)
    stuck = written.begin("t")
    later = written.begin("t")
    written.acknowledge("t", Place(0, 9))
    written.finish("t", later)

    assert written.positions(["t"]) == {"t": {0: 6}}
    written.finish("t", stuck)
    assert written.positions(["t"]) == {"t": {0: 10}}


def test_send_that_began_before_the_first_acknowledgement_holds_everything() -> None:
    """Nothing is said of a partition while a send is unfinished that may stand before all that is known."""
    written = WrittenPositions()
    written.begin("t")
    second = written.begin("t")
    written.acknowledge("t", Place(0, 5))
    written.finish("t", second)

    assert written.positions(["t"]) == {}


def test_topics_do_not_hold_each_other() -> None:
    """A stuck send to one topic leaves the positions of the others alone."""
    written = WrittenPositions()
    written.begin("stuck")
    ticket = written.begin("t")
    written.acknowledge("t", Place(2, 0))
    written.finish("t", ticket)

    assert written.positions(["stuck", "t"]) == {"t": {2: 1}}


def test_memory_is_bounded_while_a_send_is_stuck() -> None:
    """Acknowledgements behind a stuck send are thinned out, which never moves the position too far."""
    written = WrittenPositions()
    stuck = written.begin("t")
    for offset in range(5 * MAX_MARKS):
        ticket = written.begin("t")
        written.acknowledge("t", Place(0, offset))
        written.finish("t", ticket)

    assert len(written._topics["t"].marks[0]) <= MAX_MARKS
    assert written.positions(["t"]) == {}
    written.finish("t", stuck)
    assert written.positions(["t"]) == {"t": {0: 5 * MAX_MARKS}}


@given(st.data())
@pytest.mark.parametrize("partitions", [1, 3])
def test_no_unfinished_callback_ever_stands_before_the_position(partitions: int, data: st.DataObject) -> None:
    """Whatever the order of sends, appends, acknowledgements and deletions: what counts is read back."""
    written = WrittenPositions()
    ends = dict.fromkeys(range(partitions), 0)
    durable: dict[int, int] = dict(ends)
    sent: list[int] = []
    appended: dict[int, Place] = {}
    acknowledged: list[int] = []
    live: set[int] = set()
    for _ in range(data.draw(st.integers(1, 60))):
        match data.draw(st.sampled_from(("send", "append", "acknowledge", "forget", "foreign"))):
            case "send":
                ticket = written.begin("t")
                sent.append(ticket)
                live.add(ticket)
            case "append" if sent:
                ticket = sent.pop(data.draw(st.integers(0, len(sent) - 1)))
                partition = data.draw(st.integers(0, partitions - 1))
                appended[ticket] = Place(partition, ends[partition])
                ends[partition] += 1
            case "foreign":
                ends[data.draw(st.integers(0, partitions - 1))] += 1
            case "acknowledge":
                waiting = [ticket for ticket in appended if ticket in live and ticket not in acknowledged]
                if waiting:
                    ticket = data.draw(st.sampled_from(waiting))
                    written.acknowledge("t", appended[ticket])
                    acknowledged.append(ticket)
            case "forget" if acknowledged:
                count = data.draw(st.integers(1, len(acknowledged)))
                for ticket in acknowledged[:count]:
                    written.finish("t", ticket)
                    live.discard(ticket)
                del acknowledged[:count]
                durable.update(written.positions(["t"]).get("t", {}))
        for ticket, place in appended.items():
            assert ticket not in live or place.offset >= durable[place.partition]
