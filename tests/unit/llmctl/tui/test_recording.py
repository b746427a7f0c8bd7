"""A recording holds every frame, can be read while it grows, and omits payloads by default."""

import asyncio
import contextlib
import sqlite3
import zlib
from pathlib import Path

import pytest

from llmctl.exits import Failed, UsageProblem
from llmctl.tui.feeds.recording import Recorder, Recording
from llmctl.tui.model.frames import Bookmark, Callbacks, Figures, Frame, RunFigures, SourceState, TopicFigures
from llmctl.tui.model.rows import CallbackRow
from tests.waiting import until

SECRET = "a justification like no other"
CALLER = "what the caller alone knows"
ERROR = "a message like no other"
ROW = CallbackRow(
    at=2.0,
    topic="t",
    partition=0,
    offset=1,
    written_at=1.5,
    status="success",
    event_id="e",
    message=ERROR,
    metadata={"note": CALLER},
    justification=SECRET,
)
FRAMES: tuple[Frame, ...] = (
    Figures(1.0, "stream", {"phase": "ready", "version": "1.0"}),
    Callbacks(2.0, (ROW,)),
    TopicFigures(3.0, {"topics": []}),
    RunFigures(4.0, {"run_id": "r"}),
    SourceState(5.0, "kafka", "it is away"),
    Bookmark(6.0, "here"),
)


class Gathered:
    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def take(self, frame: Frame) -> None:
        self.frames.append(frame)


def record(path: Path, frames: tuple[Frame, ...] = FRAMES, *, with_payloads: bool = True) -> None:
    with Recorder(path, with_payloads=with_payloads) as recorder:
        for frame in frames:
            recorder.take(frame)


def read(path: Path, after: int = 0, until: float | None = None) -> list[Frame]:
    with contextlib.closing(Recording(path)) as recording:
        return [frame for _, frame in recording.read(after, until)]


def test_what_is_written_to_one_file_is_read_back_whole_or_in_part(tmp_path: Path) -> None:
    path = tmp_path / "a.llmrec"
    record(path)
    assert [each.name for each in tmp_path.iterdir() if each.suffix != ".toml"] == ["a.llmrec"]
    assert read(path) == list(FRAMES)
    with contextlib.closing(Recording(path)) as recording:
        assert (recording.begin, recording.end) == (1.0, 6.0)
    assert read(path, after=4) == list(FRAMES[4:])
    assert read(path, until=3.0) == list(FRAMES[:3])
    assert read(path, after=1, until=2.5) == [FRAMES[1]]


def test_frames_are_passed_on(tmp_path: Path) -> None:
    sink = Gathered()
    with Recorder(tmp_path / "a.llmrec", then=sink) as recorder:
        recorder.take(FRAMES[1])
        assert sink.frames == [FRAMES[1]]
        assert recorder.frames == 0
        recorder.write()
        assert recorder.frames == 1


def test_what_the_sink_refuses_is_not_recorded(tmp_path: Path) -> None:
    """A recording holds only frames that can be played."""

    class Refusing:
        def take(self, frame: Frame) -> None:
            raise ValueError(str(frame))

    path = tmp_path / "a.llmrec"
    with Recorder(path, then=Refusing()) as recorder, pytest.raises(ValueError):
        recorder.take(FRAMES[0])
    assert read(path) == []


def test_a_recording_is_read_while_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "a.llmrec"
    with Recorder(path, with_payloads=True) as recorder, contextlib.closing(Recording(path)) as recording:
        assert (list(recording.read()), recording.begin, recording.end) == ([], 0.0, 0.0)
        seen: list[Frame] = []
        last = 0
        for frame in FRAMES:
            recorder.take(frame)
            recorder.write()
            for number, each in recording.read(last):
                last = number
                seen.append(each)
        assert seen == list(FRAMES)


def test_a_recording_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.llmrec"
    with Recorder(path) as first, Recorder(path) as second:
        first.take(FRAMES[0])
        first.write()
        second.take(FRAMES[5])
        second.write()
    record(path, (FRAMES[4],))
    assert read(path) == [FRAMES[0], FRAMES[5], FRAMES[4]]


async def test_it_is_written_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmctl.tui.feeds.recording.WRITE_EVERY_SECONDS", 0.001)
    with Recorder(tmp_path / "a.llmrec") as recorder:
        recorder.take(FRAMES[0])
        running = asyncio.create_task(recorder.run())
        await until(lambda: recorder.frames)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert recorder.frames == 1


def read_bytes(path: Path) -> bytes:
    with contextlib.closing(sqlite3.connect(path)) as database:
        bodies = [zlib.decompress(body) for (body,) in database.execute("SELECT body FROM frames")]
    return b"\n".join([path.read_bytes(), *bodies])


def test_payloads_are_absent_unless_asked_for(tmp_path: Path) -> None:
    record(tmp_path / "slim.llmrec", with_payloads=False)
    slim = read_bytes(tmp_path / "slim.llmrec")
    assert b'"event_id": "e"' in slim
    for text in (SECRET, ERROR, CALLER, "note"):
        assert text.encode() not in slim, text
    record(tmp_path / "full.llmrec", with_payloads=True)
    full = read_bytes(tmp_path / "full.llmrec")
    for text in (SECRET, ERROR, CALLER):
        assert text.encode() in full, text
    with Recorder(tmp_path / "plain.llmrec") as recorder:
        recorder.take(FRAMES[1])
    assert SECRET.encode() not in read_bytes(tmp_path / "plain.llmrec")


def make_foreign_database(path: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(statement)
        database.commit()


NOT_A_RECORDING = r"foreign\.db is no recording of this program"


@pytest.mark.parametrize(
    "table", ["songs (title TEXT)", "about (author TEXT)", "about (name TEXT, value TEXT)"]
)
def test_a_database_of_another_program_is_refused(tmp_path: Path, table: str) -> None:
    path = tmp_path / "foreign.db"
    make_foreign_database(path, f"CREATE TABLE {table}")
    with pytest.raises(UsageProblem, match=NOT_A_RECORDING):
        Recording(path)


@pytest.mark.parametrize("is_database", [True, False])
def test_nothing_is_written_into_a_file_of_another_program(tmp_path: Path, is_database: bool) -> None:
    path = tmp_path / "foreign.db"
    if is_database:
        make_foreign_database(path, "CREATE TABLE songs (title TEXT)")
    else:
        path.write_text("these are notes, and longer than the header of a database would be\n" * 20)
    before = path.read_bytes()
    for attempt in (lambda: Recording(path), lambda: Recorder(path).open()):
        with pytest.raises(UsageProblem, match=NOT_A_RECORDING):
            attempt()
    assert path.read_bytes() == before


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "later.llmrec"
    record(path)
    make_foreign_database(path, "UPDATE about SET value = '2' WHERE name = 'format'")
    for attempt in (lambda: Recording(path), lambda: Recorder(path).open()):
        with pytest.raises(UsageProblem, match="is a recording of the format 2, not 1"):
            attempt()


def test_a_recording_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="There is no recording"):
        Recording(tmp_path / "none.llmrec")
    assert not (tmp_path / "none.llmrec").exists()


def test_where_nothing_can_be_written_it_fails(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere" / "a.llmrec", tmp_path):
        with pytest.raises(Failed, match="cannot be opened"):
            Recorder(path).open()


def test_a_write_that_fails_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.llmrec"
    recorder = Recorder(path).open()
    make_foreign_database(path, "DROP TABLE frames")
    recorder.take(FRAMES[0])
    with pytest.raises(Failed, match=r"a\.llmrec cannot be written any more"):
        recorder.write()
    recorder.close()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO frames (at, kind, body) VALUES (7, 'bookmark', x'00')",
        "INSERT INTO frames (at, kind, body) VALUES (7, 'weather', x'7801abae0500017500f9')",
        "UPDATE frames SET kind = 'bookmark' WHERE number = 1",
        "UPDATE frames SET body = 3.5 WHERE number = 1",
    ],
)
def test_a_damaged_frame_is_refused(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "a.llmrec"
    record(path)
    make_foreign_database(path, statement)
    with pytest.raises(UsageProblem, match=r"a\.llmrec cannot be read"):
        read(path)
