"""How much of the queue one caller may fill."""

from hypothesis import given
from hypothesis import strategies as st

from service.core.shares import find_room

CALLERS = ("a", "b", "c", "d")


def test_single_caller_may_fill_the_queue() -> None:
    assert find_room(100, 99, None, (), lambda _: 99) == 1
    assert find_room(100, 99, "a", ("a",), lambda _: 99) == 1


def test_flood_leaves_other_callers_their_share() -> None:
    """Each of four callers has an eighth reserved: one alone gets five eighths."""
    held = {"a": 500}
    assert find_room(800, 500, "a", CALLERS, lambda caller: held.get(str(caller), 0)) == 0
    assert find_room(800, 500, "b", CALLERS, lambda caller: held.get(str(caller), 0)) == 300


@given(st.lists(st.sampled_from(CALLERS), max_size=400), st.integers(8, 200))
def test_caller_below_its_share_is_never_refused(arrivals: list[str], capacity: int) -> None:
    held = dict.fromkeys(CALLERS, 0)
    part = capacity // (2 * len(CALLERS))
    for caller in arrivals:
        total = sum(held.values())
        room = find_room(capacity, total, caller, CALLERS, lambda each: held[str(each)])
        if held[caller] < part:
            assert room > 0
        if room > 0:
            held[caller] += 1
    assert sum(held.values()) <= capacity
