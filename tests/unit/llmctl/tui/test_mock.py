"""The mock service is the same for the same seed, and its figures agree."""

import asyncio
import json
from functools import cache
from itertools import pairwise

import pytest

from llmctl.tui.feeds.mock import STEP_SECONDS, MockFeed, MockService
from llmctl.tui.model.frames import Callbacks, Figures, Frame, TopicFigures, pack
from llmctl.tui.model.reading import Reading, read_figures
from llmctl.tui.model.store import Store
from tests.waiting import until

BEGIN = 1_000_000.0
STEPS = 400
"""So many that an outage begins and ends."""


@cache
def play(seed: int, steps: int = STEPS) -> list[tuple[Frame, ...]]:
    service = MockService(seed)
    return [service.step(BEGIN + step * STEP_SECONDS, step * STEP_SECONDS) for step in range(steps)]


def read_all(frames: list[tuple[Frame, ...]]) -> list[Reading]:
    return [
        read_figures(frame.at, frame.source, frame.document)
        for step in frames
        for frame in step
        if isinstance(frame, Figures)
    ]


def test_the_same_seed_is_the_same_service() -> None:
    assert play(1, 50) == play(1, 50)
    assert play(1, 50) != play(2, 50)


def test_nothing_is_lost() -> None:
    for reading in read_all(play(1)):
        totals = reading.totals
        assert totals["accepted"] == totals["published"] + reading.queue_depth
        assert totals["published"] == totals["succeeded"] + totals["failed"]


def test_callbacks_are_those_that_were_counted() -> None:
    frames = play(1)
    published = failed = 0
    for step, reading in zip(frames, read_all(frames), strict=True):
        rows = next(frame.rows for frame in step if isinstance(frame, Callbacks))
        published += len(rows)
        failed += sum(row.status == "error" for row in rows)
        assert (reading.totals["published"], reading.totals["failed"]) == (published, failed)
        assert sum(provider.calls for provider in reading.providers) == published
        assert sum(provider.errors for provider in reading.providers) == failed
    assert failed > 0


def test_histograms_only_grow() -> None:
    readings = read_all(play(1, 60))
    for before, now in pairwise(readings):
        for name, latency in now.latency.items():
            counts = list(latency.buckets.values())
            assert counts == sorted(counts)
            assert counts[-1] == now.totals["published"]
            assert all(
                counts[place] >= last for place, last in enumerate(before.latency[name].buckets.values())
            )


def test_topics_agree_with_the_figures() -> None:
    frames = play(1, 60)
    for step, reading in zip(frames, read_all(frames), strict=True):
        document = next(frame.document for frame in step if isinstance(frame, TopicFigures))
        assert document["topics"][0]["end_total"] == reading.totals["published"]
        assert document["groups"][0]["lag"] == reading.queue_depth


def test_an_outage_comes_and_goes() -> None:
    frames = play(1)
    readings = read_all(frames)
    circuits = [{each.name: each.circuit for each in reading.providers}["google"] for reading in readings]
    assert {circuits[0], circuits[-1]} == {"closed"}
    first = circuits.index("open")
    rows = next(frame.rows for frame in frames[first] if isinstance(frame, Callbacks))
    assert "google" not in {row.provider for row in rows}
    depths = [reading.queue_depth for reading in readings]
    assert max(depths) > 100
    assert min(depths[depths.index(max(depths)) :]) == 0


def test_a_store_takes_all_of_it() -> None:
    store = Store()
    for step in play(1, 60):
        for frame in step:
            json.dumps(pack(frame, with_payloads=True).body, allow_nan=False)
            store.take(frame)
    assert (store.feed.duplicates, store.feed.invalid) == (0, 0)
    assert store.feed.total == sum(
        len(frame.rows) for step in play(1, 60) for frame in step if isinstance(frame, Callbacks)
    )
    assert store.percentile("end_to_end", "p99", 60) is not None
    assert store.rate("succeeded") is not None


class Recent:
    """A clock that advances by half a second with each look, and a sink."""

    def __init__(self) -> None:
        self.looks = 0
        self.frames: list[Frame] = []

    def now(self) -> float:
        self.looks += 1
        return BEGIN + self.looks * STEP_SECONDS

    def take(self, frame: Frame) -> None:
        self.frames.append(frame)


async def test_it_feeds_a_sink_until_it_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmctl.tui.feeds.mock.STEP_SECONDS", 0.001)
    both = Recent()
    running = asyncio.create_task(MockFeed(both, 1).run(both))
    await until(lambda: len(both.frames) >= 6)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    moments = [frame.at for frame in both.frames[:6]]
    assert moments == [BEGIN + 1.0] * 3 + [BEGIN + 1.5] * 3
