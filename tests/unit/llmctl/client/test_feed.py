"""A feed buffers a few records for a listener, and reports when it overflows."""

import asyncio

import pytest

from llmctl.client.feed import Feed
from tests.unit.llmctl.client.records import make_arrival


async def test_what_was_offered_is_taken_in_order() -> None:
    feed = Feed()
    one, two, three = (make_arrival("q", offset=number) for number in range(3))
    feed.offer(one)
    feed.offer(two)
    assert await feed.take() == (one, two)
    waiting = asyncio.create_task(feed.take())
    await asyncio.sleep(0)
    assert not waiting.done()
    feed.offer(three)
    assert await waiting == (three,)


async def test_a_full_feed_takes_nothing_more() -> None:
    feed = Feed(limit=2)
    arrivals = [make_arrival("q", offset=number) for number in range(4)]
    for each in arrivals[:3]:
        feed.offer(each)
    assert await feed.take() == tuple(arrivals[:2])
    feed.offer(arrivals[3])
    assert await feed.take() == ()
    assert await feed.take() == ()


async def test_a_problem_comes_after_what_came_before_it() -> None:
    feed = Feed()
    before = make_arrival("q")
    feed.offer(before)
    feed.fail(KeyError("first"))
    feed.fail(KeyError("second"))
    feed.offer(make_arrival("q", offset=1))
    assert await feed.take() == (before,)
    with pytest.raises(KeyError, match="first"):
        await feed.take()
