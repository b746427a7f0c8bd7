"""Bodies that come compressed although nobody asked for it: unpacked, but never more than fits."""

import zlib
from collections.abc import Iterable, Iterator
from typing import Final

import httpx

_UNPACKED_PIECE_BYTES: Final = 64 * 1024
_GZIP_WINDOW: Final = zlib.MAX_WBITS | 16
_ZLIB_WINDOW_OF: Final = {"gzip": _GZIP_WINDOW, "x-gzip": _GZIP_WINDOW, "deflate": zlib.MAX_WBITS}


def find_packing(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """How a body is packed, None where it is not. Raises `httpx.DecodingError` for what is not known."""
    for name, value in headers:
        if name.lower() == b"content-encoding":
            packing = value.decode("latin-1").strip().lower()
            if packing not in _ZLIB_WINDOW_OF and packing != "identity":
                raise httpx.DecodingError("The answer is packed in a way that was not asked for.")
            return None if packing == "identity" else packing
    return None


class Unpacker:
    """Unpacks a body in pieces of a bounded size, however well it was packed."""

    def __init__(self, packing: str) -> None:
        self._inflate = zlib.decompressobj(_ZLIB_WINDOW_OF[packing])

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The pieces that a chunk unpacks to."""
        while chunk:
            try:
                piece = self._inflate.decompress(chunk, _UNPACKED_PIECE_BYTES)
            except zlib.error as error:
                raise httpx.DecodingError("The answer cannot be unpacked.") from error
            if piece:
                yield piece
            chunk = self._inflate.unconsumed_tail

    def finish(self) -> None:
        """Raises where something is missing at the end."""
        if not self._inflate.eof:
            raise httpx.DecodingError("The answer ends before it is unpacked.")
