"""Waiters on one topic get their callbacks: matching, early callbacks, copies, and what is kept."""

import asyncio
import gc
from uuid import UUID

import pytest

from llmctl.client.awaiting import TopicWatch
from llmctl.client.feed import Feed
from llmctl.client.topic_reader import Gap
from tests.unit.llmctl.client.records import KEY, make_arrival

OTHER_KEY = UUID(int=8)


async def test_a_callback_goes_to_whoever_waits_for_it() -> None:
    """Matched by its header, without parsing its value."""
    watch = TopicWatch("t")
    mine, other = watch.wait_for("q-1"), watch.wait_for("q-2")
    arrival = make_arrival("q-1")
    for each in (make_arrival("stranger"), make_arrival(None), arrival):
        watch.take(each)
    assert await mine.wait() is arrival
    assert not other.is_settled
    assert "parsed" not in vars(arrival)


async def test_a_copy_changes_nothing() -> None:
    watch = TopicWatch("t")
    waiter = watch.wait_for("q-1")
    first = make_arrival("q-1")
    watch.take(first)
    watch.take(make_arrival("q-1", offset=1))
    assert await waiter.wait() is first


async def test_a_callback_before_the_202_is_kept() -> None:
    watch = TopicWatch("t")
    early_one, early_copy = make_arrival("q-1"), make_arrival("q-1", offset=1)
    with watch.expect(KEY) as early:
        for each in (make_arrival("q-2", key=OTHER_KEY), early_one, early_copy):
            watch.take(each)
        assert set(early.arrivals) == {"q-1"}
        waiter = watch.wait_for("q-1", early)
    assert await waiter.wait() is early_one


async def test_nothing_is_kept_when_no_request_is_under_way() -> None:
    watch = TopicWatch("t")
    with pytest.raises(KeyError), watch.expect(KEY):
        raise KeyError
    with watch.expect(KEY) as early:
        with watch.expect(KEY) as same:
            watch.take(make_arrival("q-1"))
        assert same is early
        assert set(early.arrivals) == {"q-1"}
    watch.take(make_arrival("q-2"))
    assert set(early.arrivals) == {"q-1"}
    assert watch.is_idle


async def test_two_with_one_request_share_its_callback() -> None:
    watch = TopicWatch("t")
    with watch.expect(KEY) as early:
        watch.take(make_arrival("q-1"))
        first = watch.wait_for("q-1", early)
        assert watch.wait_for("q-1", early) is first
    assert watch.wait_for("q-1") is first


async def test_what_nobody_holds_is_forgotten() -> None:
    watch = TopicWatch("t")
    waiter = watch.wait_for("q-1")
    before = watch.is_idle
    del waiter
    gc.collect()
    assert (before, watch.is_idle) == (False, True)
    assert not watch._waiters


async def test_a_topic_that_ends_is_said_to_all() -> None:
    watch = TopicWatch("t")
    done, open_ = watch.wait_for("q-1"), watch.wait_for("q-2")
    feed = Feed()
    watch.join(feed)
    answer = make_arrival("q-1")
    watch.take(answer)
    watch.end(KeyError("deleted"))
    assert await done.wait() is answer
    assert await feed.take() == (answer,)
    for waiting in (open_.wait(), feed.take(), watch.wait_for("q-3").wait()):
        with pytest.raises(KeyError, match="deleted"):
            await waiting
    with pytest.raises(KeyError, match="deleted"):
        watch.check()


async def test_listeners_hear_of_a_gap_and_callers_go_on() -> None:
    watch = TopicWatch("t")
    waiter, feed = watch.wait_for("q-1"), Feed()
    watch.join(feed)
    gap = Gap({("t", 0): (5, 9)})
    watch.tell_gap(gap)
    with pytest.raises(Gap, match="t/0 has no offset 5 any more and goes on at 9"):
        await feed.take()
    assert watch.gap is gap
    watch.take(make_arrival("q-1"))
    assert (await waiter.wait()).request_id == "q-1"


async def test_one_who_is_cancelled_leaves_the_others_waiting() -> None:
    waiter = TopicWatch("t").wait_for("q-1")
    hasty, patient = asyncio.create_task(waiter.wait()), asyncio.create_task(waiter.wait())
    await asyncio.sleep(0)
    hasty.cancel()
    await asyncio.sleep(0)
    arrival = make_arrival("q-1")
    waiter.take(arrival)
    assert await patient is arrival
