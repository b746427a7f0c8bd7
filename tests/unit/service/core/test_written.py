"""Where a topic has to be read from after a crash: never behind a callback that still counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.records import Place
from service.core.written import MAX_MARKS, WrittenPositions


def deliver(written: WrittenPositions, offset: int, partition: int = 0) -> None:
    """Sends a callback, has it acknowledged, and forgets it."""
    ticket = written.begin("t")
    written.acknowledge("t", Place(partition, offset))
    written.finish("t", ticket)


def test_position_advances_past_forgotten_callbacks_and_an_unfinished_send_holds_it() -> None:
    written = WrittenPositions()
    for offset in (4, 5):
        deliver(written, offset)
    assert written.positions(["t", "other"]) == {"t": {0: 6}}
    stuck = written.begin("t")
    deliver(written, 9)

    assert written.positions(["t"]) == {"t": {0: 6}}
    written.finish("t", stuck)
    assert written.positions(["t"]) == {"t": {0: 10}}


def test_unfinished_send_before_the_first_acknowledgement_leaves_no_position() -> None:
    written = WrittenPositions()
    written.begin("t")
    deliver(written, 5)

    assert written.positions(["t"]) == {}


def test_topics_do_not_hold_each_other() -> None:
    written = WrittenPositions()
    written.begin("stuck")
    deliver(written, 0, partition=2)

    assert written.positions(["stuck", "t"]) == {"t": {2: 1}}


def test_memory_is_bounded_while_a_send_is_stuck() -> None:
    written = WrittenPositions()
    stuck = written.begin("t")
    for offset in range(5 * MAX_MARKS):
        deliver(written, offset)

    assert len(written._topics["t"].marks[0]) <= MAX_MARKS
    assert written.positions(["t"]) == {}
    written.finish("t", stuck)
    assert written.positions(["t"]) == {"t": {0: 5 * MAX_MARKS}}


@given(st.data())
@pytest.mark.parametrize("partitions", [1, 3])
def test_no_unfinished_callback_is_before_the_position(partitions: int, data: st.DataObject) -> None:
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
