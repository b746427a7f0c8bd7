"""Decompresses bodies that come compressed although nobody asked for it, in pieces of a bounded size."""

import zlib
from collections.abc import Iterable, Iterator
from typing import Final

import httpx

_UNPACKED_PIECE_BYTES: Final = 64 * 1024
_GZIP_WINDOW: Final = zlib.MAX_WBITS | 16
_ZLIB_WINDOW_OF: Final = {"gzip": _GZIP_WINDOW, "x-gzip": _GZIP_WINDOW, "deflate": zlib.MAX_WBITS}


def find_packing(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Returns the content coding of a body, None if there is none that is known.

    An unknown coding is ignored, as httpx does: some gateways send `utf-8` as one. Raises
    `httpx.DecodingError` if a body was compressed more than once.
    """
    named = [
        coding.strip().lower()
        for name, value in headers
        if name.lower() == b"content-encoding"
        for coding in value.decode("latin-1").split(",")
    ]
    known = [coding for coding in named if coding in _ZLIB_WINDOW_OF]
    if len(known) > 1:
        raise httpx.DecodingError("The answer was compressed more than once.")
    return known[0] if known else None


class Unpacker:
    """Decompresses a body in pieces of a bounded size, however well it was compressed."""

    def __init__(self, packing: str) -> None:
        self._inflate = zlib.decompressobj(_ZLIB_WINDOW_OF[packing])
        self._is_empty = True

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yields the pieces that a chunk decompresses to."""
        while chunk:
            self._is_empty = False
            try:
                piece = self._inflate.decompress(chunk, _UNPACKED_PIECE_BYTES)
            except zlib.error as error:
                raise httpx.DecodingError("The answer cannot be unpacked.") from error
            if piece:
                yield piece
            chunk = self._inflate.unconsumed_tail

    def finish(self) -> None:
        """Raises `httpx.DecodingError` if the end is missing; an empty body is not compressed at all."""
        if not self._inflate.eof and not self._is_empty:
            raise httpx.DecodingError("The answer ends before it is unpacked.")
