"""Requests kept in memory until they are claimed: bounded, and each handed out once."""

from typing import Any

from service.queues.unread import UnreadRequests


def test_request_is_handed_out_once() -> None:
    unread, request = UnreadRequests(), _request()
    unread.keep(1, request, 100)

    assert unread.take(1) is request
    assert unread.take(1) is None


def test_requests_above_the_limit_are_left_to_the_file() -> None:
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
