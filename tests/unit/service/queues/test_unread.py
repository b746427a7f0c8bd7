"""Requests kept in memory until they are claimed: bounded, and each handed out once."""

from typing import Any

from service.queues.unread import UnreadRequests


def test_a_request_is_handed_out_once() -> None:
    """A second claim reads what attempts have left in the file."""
    unread, request = UnreadRequests(), _request()
    unread.keep(1, request, 100)

    assert unread.take(1) is request
    assert unread.take(1) is None


def test_what_is_too_much_is_left_to_the_file() -> None:
    """Room is in bytes, and comes back with every request that is taken."""
    unread = UnreadRequests(limit_bytes=250)
    for sequence in (1, 2, 3):
        unread.keep(sequence, _request(), 100)
    assert unread.take(3) is None

    assert unread.take(1) is not None
    unread.keep(4, _request(), 100)
    unread.keep(5, _request(), 100)

    assert unread.take(4) is not None
    assert unread.take(5) is None


def _request() -> Any:
    return object()
