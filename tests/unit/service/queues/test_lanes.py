"""Topics take turns, and nothing is lost or doubled on the way."""

from hypothesis import given
from hypothesis import strategies as st

from service.queues.lanes import Lanes


def test_topics_take_turns_in_one_call() -> None:
    lanes: Lanes[int] = Lanes()
    for number in range(100):
        lanes.append("long", number)
    lanes.append("short", 1000)

    taken = lanes.take(10)

    assert ("short", 1000) in taken
    assert [item for topic, item in taken if topic == "long"] == list(range(9))
    assert len(lanes) == 91


def test_topics_take_turns_between_calls() -> None:
    lanes: Lanes[int] = Lanes()
    for topic in "abc":
        for number in range(2):
            lanes.append(topic, number)

    assert "".join(lanes.take(1)[0][0] for _ in range(6)) == "abcabc"


def test_avoided_topics_wait() -> None:
    lanes: Lanes[int] = Lanes()
    lanes.append("a", 1)
    lanes.append("b", 2)

    assert lanes.take(5, avoid={"a"}) == [("b", 2)]
    assert lanes.take(5, avoid={"a"}) == []
    assert lanes.take(5) == [("a", 1)]


def test_restored_items_come_first() -> None:
    lanes: Lanes[int] = Lanes()
    for number in range(4):
        lanes.append("a", number)
    taken = [item for _, item in lanes.take(3)]

    lanes.restore("a", taken)

    assert [item for _, item in lanes.take(9)] == [0, 1, 2, 3]
    assert len(lanes) == 0


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 5)), max_size=60), st.data())
def test_everything_is_taken_once_and_in_order(steps: list[tuple[str, int]], data: st.DataObject) -> None:
    lanes: Lanes[int] = Lanes()
    added: dict[str, list[int]] = {}
    taken: dict[str, list[int]] = {}
    for number, (topic, take) in enumerate(steps):
        lanes.append(topic, number)
        added.setdefault(topic, []).append(number)
        out = lanes.take(take)
        assert len(out) == min(take, len(out) + len(lanes))
        for where, item in out:
            taken.setdefault(where, []).append(item)
    for where, item in lanes.take(len(steps)):
        taken.setdefault(where, []).append(item)
    assert taken == added
