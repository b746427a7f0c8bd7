"""Power cuts under the queue's own code: a file system that records, and the disks a cut may leave behind.

A `Recorder` is an SQLite file system above the real one. It notes every write, truncate, sync, creation and
deletion in order; the workload notes between them which operation it began and which was acknowledged. A cut
may come after any entry. What was synced by then stands; of everything later the disk may hold any part, and
a write may be torn between sectors. The real queue opens what is left, and its rows are held against what had
been begun and acknowledged.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import apsw

SECTOR_BYTES = 512
FRAME_HEADER_BYTES = 24


# What is recorded


@dataclass(frozen=True, slots=True)
class Write:
    file: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    file: int
    size: int


@dataclass(frozen=True, slots=True)
class Sync:
    """All that a file held is on stable storage, and with `names` its folder too."""

    file: int
    names: bool


@dataclass(frozen=True, slots=True)
class Create:
    name: str
    file: int


@dataclass(frozen=True, slots=True)
class Delete:
    """A name is gone, and with `names` that is on stable storage."""

    name: str
    names: bool


@dataclass(frozen=True, slots=True)
class Begun:
    """The caller asks for these changes: of (row, aspect), the next value."""

    step: int
    changes: Sequence[tuple[str, str, object]]
    trace: bytes | None = b""
    """Bytes that the write which carries the operation contains; None where it is noted afterwards only."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    step: int


Entry = Write | Truncate | Sync | Create | Delete | Begun | Acknowledged


class Recorder(apsw.VFS):
    def __init__(self, folder: Path) -> None:
        self.entries: list[Entry] = []
        self.name = f"recorder-{id(self)}"
        self.before: dict[str, bytes] = {
            path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith(".lock")
        }
        self.files: dict[str, int] = {name: number for number, name in enumerate(self.before)}
        self._next = len(self.files)
        super().__init__(self.name, base="")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        if name is None:
            return apsw.VFSFile("", name, flags)
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name)
        opened = RecordedFile(self, path.name, name, flags)
        if path.name not in self.files:
            self.files[path.name] = self._next
            self._next += 1
            self.entries.append(Create(path.name, self.files[path.name]))
        opened.number = self.files[path.name]
        return opened

    def xDelete(self, name: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(name, syncdir)
        del self.files[Path(name).name]
        self.entries.append(Delete(Path(name).name, syncdir))


class RecordedFile(apsw.VFSFile):
    def __init__(
        self, recorder: Recorder, short_name: str, name: str | apsw.URIFilename, flags: list[int]
    ) -> None:
        self._entries = recorder.entries
        self.number = -1
        # SQLite's unix file system syncs the folder with the first sync of a log that it may have created.
        self._names = not short_name.endswith(".db") and bool(flags[0] & apsw.SQLITE_OPEN_CREATE)
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        super().xWrite(data, offset)
        self._entries.append(Write(self.number, offset, bytes(data)))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        super().xTruncate(size)
        self._entries.append(Truncate(self.number, size))

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._entries.append(Sync(self.number, self._names))
        self._names = False


# What a disk may hold after a cut


@dataclass(slots=True)
class _File:
    synced: bytearray = field(default_factory=bytearray)
    pending: list[Write | Truncate] = field(default_factory=list)


class Disk:
    """Follows a record; at any point it gives images that a power cut there may leave."""

    def __init__(self, before: Mapping[str, bytes]) -> None:
        self._files = {number: _File(bytearray(data)) for number, data in enumerate(before.values())}
        self._names: dict[str, list[int | None]] = {name: [n] for n, name in enumerate(before)}
        """For each name the file it surely stands for, and those it may stand for instead."""

    def follow(self, entry: Entry) -> None:
        match entry:
            case Write() | Truncate():
                self._files[entry.file].pending.append(entry)
            case Create():
                self._files[entry.file] = _File()
                self._names.setdefault(entry.name, [None]).append(entry.file)
            case Delete():
                self._names[entry.name].append(None)
                self._settle_names(entry.names)
            case Sync():
                file = self._files[entry.file]
                for change in file.pending:
                    _apply(file.synced, change)
                file.pending.clear()
                self._settle_names(entry.names)

    def _settle_names(self, settled: bool) -> None:
        if settled:
            self._names = {name: bindings[-1:] for name, bindings in self._names.items()}

    def cut(self, dice: random.Random) -> dict[str, bytes]:
        """An image: each later change survives or not whatever became of those before it."""
        survives: Callable[[], bool] = dice.choice(
            (
                lambda: False,
                lambda: True,
                *[lambda share=share: dice.random() < share for share in (0.1, 0.5, 0.9)],
            )
        )
        image: dict[str, bytes] = {}
        for name, bindings in self._names.items():
            number = bindings[-1] if survives() else dice.choice(bindings[:-1] or bindings)
            if number is None:
                continue
            file = self._files[number]
            content = bytearray(file.synced)
            for change in file.pending:
                if survives():
                    _apply(content, change)
                elif isinstance(change, Write) and dice.random() < 0.1:
                    for sector in _tear(change, dice):
                        _apply(content, sector)
            image[name] = bytes(content)
        return image


def _apply(content: bytearray, change: Write | Truncate) -> None:
    if isinstance(change, Truncate):
        del content[change.size :]
        content.extend(bytes(change.size - len(content)))
        return
    content.extend(bytes(max(0, change.offset - len(content))))
    content[change.offset : change.offset + len(change.data)] = change.data


def _tear(write: Write, dice: random.Random) -> Iterator[Write]:
    end = write.offset + len(write.data)
    start = write.offset
    while start < end:
        stop = min(end, (start // SECTOR_BYTES + 1) * SECTOR_BYTES)
        if dice.random() < 0.5:
            yield Write(write.file, start, write.data[start - write.offset : stop - write.offset])
        start = stop


# What had been asked for and promised


FIRST: Mapping[str, object] = {
    "place": "nowhere",
    "key": "absent",
    "written": None,
    "payload": None,
    "attempts": 0,
    "spent": None,
    "callback": None,
    "parked": None,
}
"""What every aspect of a row is before anything was asked for."""

WHERE = {"payload": "queue", "attempts": "queue", "spent": "queue", "callback": "outbox", "parked": "outbox"}
"""Aspects that a row has in one place only."""

Found = Mapping[tuple[str, str], object]


class Promises:
    def __init__(self, found: Found) -> None:
        self.acknowledged = 0
        self._values = {aspect: [value] for aspect, value in found.items()}
        """The values that each aspect of each row was to take, from what stood in the file before."""
        self._floors: dict[tuple[str, str], int] = {}
        """How many of them an acknowledged one leaves behind."""
        self._open: dict[int, list[tuple[tuple[str, str], int]]] = {}

    def follow(self, entry: Entry) -> None:
        if isinstance(entry, Begun):
            places = []
            for row, aspect, value in entry.changes:
                values = self._values.setdefault((row, aspect), [FIRST[aspect]])
                places.append(((row, aspect), len(values)))
                values.append(value)
            self._open[entry.step] = places
        elif isinstance(entry, Acknowledged):
            self.acknowledged += 1
            for aspect, place in self._open.pop(entry.step):
                self._floors[aspect] = max(self._floors.get(aspect, 0), place)

    def judge(self, found: Found) -> Iterator[tuple[str, str]]:
        """Yields what is wrong with the values found on a disk: the kind of wrong, and a sentence."""
        for (row, aspect), values in self._values.items():
            if aspect in WHERE and found.get((row, "place")) != WHERE[aspect]:
                continue
            value = found.get((row, aspect), FIRST[aspect])
            allowed = values[self._floors.get((row, aspect), 0) :]
            promised = allowed[0]
            # Which requests a claim takes is known once it returns, with their attempts counted by then.
            if value in allowed or (aspect == "attempts" and value == int(str(promised)) + 1):
                continue
            kind = _name_wrong(str(promised), str(value)) if aspect == "place" else f"wrong {aspect}"
            yield kind, f"{row} has {aspect} {value!r:.80}; {promised!r:.80} was acknowledged"
        for (row, aspect), value in found.items():
            if (row, aspect) not in self._values and value != FIRST[aspect]:
                yield "never put", f"{row} has {aspect} {value!r:.80}"


def _name_wrong(promised: str, found: str) -> str:
    if found == "nowhere":
        return "lost"
    if promised == "nowhere":
        return "came back"
    return f"{found} instead of {promised}"


def find_early_acknowledgements(recorder: Recorder) -> list[int]:
    """Steps acknowledged before the log held their bytes and the end of their transaction, and was synced."""
    early: list[int] = []
    logs = {number for number, name in enumerate(recorder.before) if name.endswith("-wal")}
    waiting: dict[int, bytes] = {}
    ending: set[int] = set()
    unsynced: set[int] = set()
    ends_transaction = False
    for entry in recorder.entries:
        match entry:
            case Create() if entry.name.endswith("-wal"):
                logs.add(entry.file)
            case Begun() if entry.trace is not None:
                waiting[entry.step] = entry.trace
            case Write() if entry.file in logs and len(entry.data) == FRAME_HEADER_BYTES:
                ends_transaction = entry.data[4:8] != bytes(4)
            case Write() if entry.file in logs:
                ending.update(step for step, trace in waiting.items() if trace in entry.data)
                if ends_transaction:
                    unsynced |= ending
                    waiting = {step: trace for step, trace in waiting.items() if step not in ending}
                    ending.clear()
            case Sync() if entry.file in logs:
                unsynced.clear()
            case Acknowledged():
                if entry.step in waiting or entry.step in unsynced:
                    early.append(entry.step)
                waiting.pop(entry.step, None)
                ending.discard(entry.step)
                unsynced.discard(entry.step)
    return early
