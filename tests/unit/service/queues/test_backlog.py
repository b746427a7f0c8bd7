"""Who is served next."""

from hypothesis import given
from hypothesis import strategies as st

from service.queues.backlog import AGING_SECONDS, Backlog, Waiting

FOREVER = 1e12


def fill(*waiting: Waiting) -> Backlog:
    backlog = Backlog()
    for one in waiting:
        backlog.append(one)
    return backlog


def test_first_come_first_served_within_a_priority() -> None:
    """Even if the wall clock went back."""
    backlog = fill(Waiting(1, 0, 100.0, FOREVER), Waiting(2, 0, 50.0, FOREVER))

    assert [one.sequence for one in backlog.take(2, 100.0)] == [1, 2]


def test_waiting_raises_the_priority() -> None:
    old, fresh = Waiting(1, 0, 0.0, FOREVER), Waiting(2, 9, 10 * AGING_SECONDS, FOREVER)

    assert fill(old, fresh).take(1, 10 * AGING_SECONDS) == [old]
    assert fill(Waiting(1, 0, 9.5 * AGING_SECONDS, FOREVER), fresh).take(1, 10 * AGING_SECONDS) == [fresh]


def test_restored_request_goes_first() -> None:
    backlog = fill(Waiting(1, 0, 0.0, FOREVER), Waiting(2, 0, 0.0, FOREVER))
    (first,) = backlog.take(1, 0.0)

    backlog.restore(first)

    assert [one.sequence for one in backlog.take(2, 0.0)] == [1, 2]


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1e6)), max_size=60), st.integers(1, 20))
def test_everything_comes_out_exactly_once(rows: list[tuple[int, float]], limit: int) -> None:
    backlog = fill(*(Waiting(n, priority, at, FOREVER) for n, (priority, at) in enumerate(rows)))
    taken: list[int] = []

    while backlog:
        batch = backlog.take(limit, 1e6)
        assert 0 < len(batch) <= limit
        taken.extend(one.sequence for one in batch)

    assert sorted(taken) == list(range(len(rows)))
    assert backlog.oldest_accepted_unix_seconds() is None


def test_expired_requests_leave_in_the_order_of_their_deadlines() -> None:
    backlog = fill(Waiting(1, 0, 0.0, 30.0), Waiting(2, 5, 0.0, 10.0), Waiting(3, 0, 0.0, 99.0))

    assert [one.sequence for one in backlog.take_expired(10, 30.0)] == [2, 1]
    assert len(backlog) == 1
    assert [one.sequence for one in backlog.take(10, 30.0)] == [3]
    assert backlog.take_expired(10, 1e9) == []


def test_request_that_expired_and_came_back_is_served_once() -> None:
    backlog = fill(Waiting(1, 0, 0.0, 10.0))
    (expired,) = backlog.take_expired(1, 10.0)

    backlog.restore(expired)

    assert [one.sequence for one in backlog.take(5, 10.0)] == [1]
    assert backlog.take_expired(5, 10.0) == []


def test_deadlines_of_answered_requests_do_not_add_up() -> None:
    backlog = Backlog()
    for sequence in range(100_000):
        backlog.append(Waiting(sequence, 0, 0.0, FOREVER))
        backlog.take(1, 0.0)

    assert len(backlog._deadlines) < 2000
