"""What the queue on disk promises when the power fails: nothing is lost, nothing comes back."""

import asyncio
import random
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.queues.sqlite.queue import SqliteQueue
from tests.ports.power import FRAME_HEADER_BYTES, Promises, Recorder
from tests.ports.power_run import FILE_NAME, cut_power, follow
from tests.ports.wal import find_forged_pages, read_valid_frames

CUTS_OF_A_VARIANT = 60
CUTS_AT_EACH_ENTRY = 5


@pytest.mark.parametrize("cuts", [300, pytest.param(10_000, marks=pytest.mark.long)])
def test_power_cuts_lose_nothing_and_bring_nothing_back(
    cuts: int, tmp_path: Path, record_figures: Callable[[str], None]
) -> None:
    report = cut_power(cuts, random.randrange(2**32), keep=tmp_path)

    record_figures(f"{report}")
    assert report.is_clean, report
    assert report.cuts == cuts
    assert report.checkpoints > cuts / 100, "cuts within checkpoints are among the hard ones"
    assert report.acknowledged > report.log_syncs * 1.5, "operations share syncs: group commit was at work"


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path, prefix="power-") as name:
        yield Path(name)


@pytest.mark.parametrize("level", ["NORMAL", "OFF"])
def test_power_cuts_convict_a_queue_that_does_not_sync(level: str) -> None:
    """With `synchronous` weaker than FULL, accepted requests are lost, and acknowledged before a sync."""
    report = cut_power(CUTS_OF_A_VARIANT, seed=1, synchronous=level)

    assert report.cuts == CUTS_OF_A_VARIANT
    assert report.wrongs["lost"] > 0
    assert report.losing_cuts > 0
    assert report.early_acknowledgements > 0
    assert not report.is_clean


def test_page_that_sqlite_takes_for_another_is_told_from_a_lost_one(tmp_path: Path) -> None:
    """SQLite's checksum misses some changes; comparing with the record finds them."""
    (tmp_path / "queue").mkdir()
    path = tmp_path / "queue" / FILE_NAME
    recorder = Recorder(path.parent)
    asyncio.run(open_recorded(recorder, path))
    recorder.unregister()
    logs = [disk.cut(Surviving()) for _, disk in follow(recorder, Promises({}))]
    image = max(logs, key=lambda files: len(list(read_valid_frames(files.get(f"{FILE_NAME}-wal", b"")))))
    log = image[f"{FILE_NAME}-wal"]
    frames = list(read_valid_frames(log))
    assert len(frames) > 3
    assert find_forged_pages(recorder.entries, image) == []

    # Over four words the changes (0, 1, -1, -1) leave both sums as they were.
    for changes, forged in (((0, 1, -1, -1), 1), ((0, 1, 0, 0), 0)):
        start = frames[-1].offset + FRAME_HEADER_BYTES
        words = struct.unpack("<4I", log[start : start + 16])
        changed = struct.pack("<4I", *((w + c) % 2**32 for w, c in zip(words, changes, strict=True)))
        image = {f"{FILE_NAME}-wal": log[:start] + changed + log[start + 16 :]}

        assert len(find_forged_pages(recorder.entries, image)) == forged
        assert len(list(read_valid_frames(image[f"{FILE_NAME}-wal"]))) == len(frames) - 1 + forged


class Surviving(random.Random):
    def choice(self, seq: Any) -> Any:
        return seq[1] if callable(seq[0]) else seq[-1]


async def open_recorded(recorder: Recorder, path: Path) -> None:
    queue = SqliteQueue(path)
    queue._file._vfs = recorder.name
    await queue.open()
    await queue.close()
