"""A listener joins the live feed only if it misses nothing by that."""

from collections.abc import Collection

import pytest

from llmctl.client.awaiting import TopicWatch
from llmctl.client.dispatcher import Dispatcher
from llmctl.client.listening import Listening
from llmctl.client.positions import Place
from llmctl.client.problems import PositionLost
from llmctl.client.topic_reader import Gap

PLACE: Place = ("t", 0)


class StillDispatcher(Dispatcher):
    def __init__(self, places: dict[Place, int]) -> None:
        self._problem = None
        self.now = places

    def find_places(self, topics: Collection[str]) -> dict[Place, int]:
        return dict(self.now)


def listen(dispatcher: Dispatcher, watch: TopicWatch, offset: int) -> Listening:
    return Listening(dispatcher, "kafka:9092", ["t"], {PLACE: offset}, lambda _: True, [watch])


async def test_it_joins_at_once_where_nothing_is_missing() -> None:
    for offset in (10, 12):
        watch = TopicWatch("t")
        listening = listen(StillDispatcher({PLACE: 10}), watch, offset)
        assert listening._feed in watch._feeds


async def test_it_does_not_join_while_it_is_behind() -> None:
    for now in ({PLACE: 11}, {PLACE: 10, ("t", 1): 1}):
        watch = TopicWatch("t")
        assert listen(StillDispatcher(now), watch, 10)._feed is None
        assert not watch._feeds


async def test_it_does_not_join_a_reader_that_went_back() -> None:
    """The topic was created again while the listener caught up, so its offsets are meaningless."""
    watch = TopicWatch("t")
    dispatcher = StillDispatcher({PLACE: 10})
    listening = listen(dispatcher, watch, 5)
    dispatcher.now = {PLACE: 2}
    watch.tell_gap(Gap({PLACE: (10, 0)}))
    with pytest.raises(PositionLost, match="t/0 has no offset 10 any more and goes on at 0") as lost:
        listening._try_to_join([watch])
    assert lost.value.position.offsets == {"t": {0: 0}}
    assert listen(dispatcher, watch, 5)._feed in watch._feeds
