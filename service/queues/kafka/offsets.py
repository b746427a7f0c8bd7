"""Out-of-order completion on a log that can commit one offset: pure arithmetic.

Kafka commits, for each partition, one offset: everything before it is finished. Requests finish in any order,
so what is finished above the first unfinished one travels in the commit's metadata, a string of at most 4,096
bytes (`offset.metadata.max.bytes`): one bit for each offset, deflated, in base64.
"""

import zlib
from base64 import b64decode, b64encode

MAX_METADATA_CHARACTERS = 4000
_VERSION = "1:"


class MetadataUnreadable(ValueError):
    """The metadata of a commit was not written by this version, or not by us."""


class Progress:
    """Which offsets of one partition are finished. `base` is the first that is not."""

    def __init__(self, base: int = 0, finished_above: int = 0) -> None:
        self._base = base
        self._above = finished_above
        """Bit i: whether `base + i` is finished."""
        self._advance()

    @property
    def base(self) -> int:
        """The first offset that is not finished: what is committed."""
        return self._base

    def finish(self, offset: int) -> None:
        """An offset is finished; saying so again changes nothing."""
        if offset >= self._base:
            self._above |= 1 << (offset - self._base)
            self._advance()

    def skip(self, first: int, end: int) -> None:
        """The offsets from `first` to before `end` hold nothing: they are gone, or never were a request."""
        first = max(first, self._base)
        if end > first:
            self._above |= ((1 << (end - first)) - 1) << (first - self._base)
            self._advance()

    def is_finished(self, offset: int) -> bool:
        """Whether an offset is finished."""
        return offset < self._base or bool(self._above >> (offset - self._base) & 1)

    def count_above(self) -> int:
        """How many offsets above the first unfinished one are finished."""
        return self._above.bit_count()

    def pack(self, limit: int = MAX_METADATA_CHARACTERS) -> str:
        """What is finished above `base`, in at most `limit` characters.

        Where it does not fit, the furthest are left out: they count as unfinished to whoever reads it.
        """
        above = self._above
        while above:
            length = above.bit_length()
            packed = _VERSION + b64encode(zlib.compress(above.to_bytes((length + 7) // 8, "little"))).decode()
            if len(packed) <= limit:
                return packed
            above &= (1 << (length * 3 // 4)) - 1
        return ""

    @classmethod
    def unpack(cls, base: int, metadata: str) -> "Progress":
        """What `pack` wrote beside the offset `base`. Raises `MetadataUnreadable`."""
        if not metadata:
            return cls(base)
        if not metadata.startswith(_VERSION):
            raise MetadataUnreadable(f"A commit's metadata begins with {metadata[:8]!r}.")
        try:
            bits = zlib.decompress(b64decode(metadata[len(_VERSION) :], validate=True))
        except (ValueError, zlib.error) as error:
            raise MetadataUnreadable("A commit's metadata is damaged.") from error
        return cls(base, int.from_bytes(bits, "little"))

    def _advance(self) -> None:
        # The lowest bits that are set: what follows the base without a gap.
        reached = ((self._above + 1) & ~self._above).bit_length() - 1
        self._above >>= reached
        self._base += reached
