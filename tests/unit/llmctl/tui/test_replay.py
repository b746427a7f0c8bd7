"""A recording plays in its own time: at any speed, paused, from any moment."""

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llmctl.tui.feeds.recording import Recorder, Recording
from llmctl.tui.feeds.replay import Replay, ReplayClock, RunFollower, read_moment
from llmctl.tui.model.frames import Bookmark, Frame, RunFigures
from tests.waiting import until

BEGIN, END = 1000.0, 1060.0


class Steady:
    def __init__(self) -> None:
        self.seconds = 500.0

    def __call__(self) -> float:
        return self.seconds


class Gathered:
    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def take(self, frame: Frame) -> None:
        self.frames.append(frame)

    @property
    def moments(self) -> list[float]:
        return [frame.at for frame in self.frames]


@pytest.fixture
def steady() -> Steady:
    """The time outside of the recording."""
    return Steady()


@pytest.fixture
def clock(steady: Steady) -> ReplayClock:
    """A clock of a recording of one minute, at normal speed."""
    return ReplayClock(BEGIN, END, 1.0, steady)


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[Recording]:
    path = tmp_path / "a.llmrec"
    with Recorder(path) as recorder:
        for second in range(0, 61, 10):
            recorder.take(Bookmark(BEGIN + second, str(second)))
    with contextlib.closing(Recording(path)) as recording:
        yield recording


@pytest.mark.parametrize("speed", [1.0, 10.0])
def test_it_begins_at_the_beginning_and_goes_on_at_its_speed(steady: Steady, speed: float) -> None:
    clock = ReplayClock(BEGIN, END, speed, steady)
    assert (clock.now(), clock.speed) == (BEGIN, speed)
    steady.seconds += 2
    assert clock.now() == BEGIN + 2 * speed


def test_another_speed_holds_from_here_on(clock: ReplayClock, steady: Steady) -> None:
    steady.seconds += 10
    clock.set_speed(4.0)
    assert clock.now() == BEGIN + 10
    steady.seconds += 5
    assert clock.now() == BEGIN + 30


def test_it_stands_while_it_is_held(clock: ReplayClock, steady: Steady) -> None:
    steady.seconds += 10
    clock.hold(True)
    steady.seconds += 100
    assert (clock.now(), clock.held) == (BEGIN + 10, True)
    clock.set_speed(2.0)
    steady.seconds += 100
    assert clock.now() == BEGIN + 10
    clock.hold(False)
    assert (clock.now(), clock.held) == (BEGIN + 10, False)
    steady.seconds += 5
    assert clock.now() == BEGIN + 20


def test_it_ends_with_the_recording(clock: ReplayClock, steady: Steady) -> None:
    steady.seconds += 1000
    assert clock.now() == END
    clock.set_speed(2.0)
    clock.move_to(END - 30)
    steady.seconds += 5
    assert clock.now() == END - 20


@pytest.mark.parametrize(("moment", "shown"), [(1030.0, 1030.0), (0.0, BEGIN), (9999.0, END)])
def test_it_moves_within_the_recording(clock: ReplayClock, moment: float, shown: float) -> None:
    clock.move_to(moment)
    assert clock.now() == shown
    clock.hold(True)
    clock.move_to(moment)
    assert clock.now() == shown


def test_a_sink_gets_each_frame_once(recording: Recording, clock: ReplayClock, steady: Steady) -> None:
    replay, sink = Replay(recording, clock), Gathered()
    replay.advance(sink)
    assert sink.moments == [BEGIN]
    steady.seconds += 25
    replay.advance(sink)
    replay.advance(sink)
    assert sink.moments == [BEGIN, BEGIN + 10, BEGIN + 20]
    steady.seconds += 500
    replay.advance(sink)
    assert sink.moments == [BEGIN + second for second in range(0, 61, 10)]


@pytest.mark.parametrize("moment", [BEGIN + 15, BEGIN + 50])
async def test_another_moment_begins_anew(
    recording: Recording, clock: ReplayClock, steady: Steady, moment: float
) -> None:
    replay = Replay(recording, clock)
    steady.seconds += 30
    replay.advance(Gathered())
    fresh = Gathered()
    await replay.seek(moment, fresh)
    wanted = [BEGIN + second for second in range(0, 61, 10)]
    assert fresh.moments == [each for each in wanted if each <= moment]
    steady.seconds += 100
    replay.advance(fresh)
    assert fresh.moments == wanted


async def test_a_run_is_followed_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmctl.tui.feeds.replay.LOOK_EVERY_SECONDS", 0.001)
    path, sink = tmp_path / "a.llmrec", Gathered()
    with Recorder(path) as recorder:
        recorder.take(RunFigures(1.0, {}))
        recorder.take(Bookmark(1.5, "mine"))
        recorder.write()
        with contextlib.closing(Recording(path)) as recording:
            following = asyncio.create_task(RunFollower(recording).run(sink))
            await until(lambda: sink.frames)
            recorder.take(RunFigures(2.0, {}))
            recorder.write()
            await until(lambda: len(sink.frames) >= 2)
            following.cancel()
            with pytest.raises(asyncio.CancelledError):
                await following
    assert sink.frames == [RunFigures(1.0, {}), RunFigures(2.0, {})]


NOON = datetime(2026, 1, 2, 12, 0, 0, 500_000, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "after_seconds"),
    [
        ("90s", 90.0),
        (" 2m ", 120.0),
        ("12:03:27", 3 * 60 + 26.5),
        ("12:05", 5 * 60 - 0.5),
        ("12:00:00", -0.5),
        ("11:59:00", 24 * 3600 - 60.5),
        ("00:10", 12 * 3600 + 10 * 60 - 0.5),
    ],
)
def test_a_moment_is_a_time_of_day_or_a_time_since_the_beginning(text: str, after_seconds: float) -> None:
    """A time of day before the recording's first second is one of the next day."""
    assert read_moment(text, NOON) == pytest.approx(NOON + after_seconds)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("25:00", "'25:00' is no time; write for example 14:03:27 or 90s"),
        ("12:00:00:00", "is no time"),
        ("soon", "'soon' is no duration"),
        ("", "is no duration"),
    ],
)
def test_what_is_no_moment_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_moment(text, NOON)
