"""Callers take turns."""

from hypothesis import given
from hypothesis import strategies as st

from service.queues.backlog import Backlog, Waiting
from service.queues.turns import Turns

FOREVER = 1e12


def test_flood_of_one_caller_delays_another_by_one_request() -> None:
    backlog = Backlog()
    for sequence in range(10_000):
        backlog.append(Waiting(sequence, 0, 0.0, FOREVER, caller="flood"))
    backlog.append(Waiting(10_000, 0, 1.0, FOREVER, caller="other"))

    assert [one.sequence for one in backlog.take(3, 1.0)] == [0, 10_000, 1]
    assert (backlog.count_of("flood"), backlog.count_of("other"), backlog.count_of("nobody")) == (9998, 0, 0)


def test_higher_priority_goes_before_turns() -> None:
    backlog = Backlog()
    for sequence, (priority, caller) in enumerate([(0, "a"), (0, "b"), (9, "a"), (9, "a")]):
        backlog.append(Waiting(sequence, priority, 0.0, FOREVER, caller=caller))

    assert [one.sequence for one in backlog.take(4, 0.0)] == [2, 3, 0, 1]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=80))
def test_callers_keep_their_order_and_wait_for_one_turn_of_each_other(
    steps: list[tuple[str, bool]],
) -> None:
    turns: Turns[tuple[str, int]] = Turns(lambda _: True)
    waiting: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    served_since: dict[str, dict[str, int]] = {caller: {} for caller in waiting}
    for number, (caller, is_put) in enumerate(steps):
        if is_put:
            if not waiting[caller]:
                served_since[caller] = {}
            waiting[caller].append(number)
            turns.append(caller, (caller, number))
        elif (head := next(turns.heads(), None)) is not None:
            served, item = turns.pop(head[0])
            assert item == waiting[served].pop(0)
            served_since[served] = {}
            for other, rows in waiting.items():
                if other != served and rows:
                    counts = served_since[other]
                    counts[served] = counts.get(served, 0) + 1
                    assert counts[served] <= 1
