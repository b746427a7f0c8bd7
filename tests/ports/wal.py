"""What SQLite takes from a log after a crash, by its own rules.

The format is https://sqlite.org/fileformat2.html#walformat. A frame is taken while its checksum continues
that of the frame before. The checksum is a sum: small changes in neighbouring words can cancel out. Where the
last, unsynced transaction was torn so that the disk holds the header of a frame without its page, and an
older version of that very page lies beneath, the two may agree, and SQLite takes a page that nobody wrote.
The list of free pages, small numbers and little else, can meet that.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.ports.power import FRAME_HEADER_BYTES, Entry, Write

LOG_HEADER_BYTES = 32
LITTLE_ENDIAN_MAGIC = 0x377F0682
_WORD_BITS = 0xFFFFFFFF

Checksum = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Frame:
    offset: int
    header: bytes
    page: bytes


def read_valid_frames(log: bytes) -> Iterator[Frame]:
    """The frames that recovery accepts, up to the first that it does not."""
    if len(log) < LOG_HEADER_BYTES:
        return
    magic, _, page_bytes = struct.unpack(">3I", log[:12])
    order = "<" if magic == LITTLE_ENDIAN_MAGIC else ">"
    salts = log[16:24]
    checksum = _extend(log[:24], (0, 0), order)
    if checksum != struct.unpack(">2I", log[24:32]):
        return
    size = FRAME_HEADER_BYTES + page_bytes
    for offset in range(LOG_HEADER_BYTES, len(log) - size + 1, size):
        header = log[offset : offset + FRAME_HEADER_BYTES]
        page = log[offset + FRAME_HEADER_BYTES : offset + size]
        checksum = _extend(page, _extend(header[:8], checksum, order), order)
        if header[8:16] != salts or checksum != struct.unpack(">2I", header[16:]):
            return
        yield Frame(offset, header, page)


def _extend(data: bytes, checksum: Checksum, order: str) -> Checksum:
    first, second = checksum
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & _WORD_BITS
        second = (second + odd + first) & _WORD_BITS
    return first, second


def find_forged_pages(entries: Sequence[Entry], image: Mapping[str, bytes]) -> list[Frame]:
    """Frames that recovery accepts although their page is not the one that was written under their header."""
    written = {
        first.data: second.data
        for first, second in pairwise(entry for entry in entries if isinstance(entry, Write))
        if len(first.data) == FRAME_HEADER_BYTES and second.offset == first.offset + FRAME_HEADER_BYTES
    }
    return [
        frame
        for name, log in image.items()
        if name.endswith("-wal")
        for frame in read_valid_frames(log)
        if written.get(frame.header, frame.page) != frame.page
    ]
