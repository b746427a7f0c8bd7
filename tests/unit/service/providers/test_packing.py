"""Compressed bodies."""

import gzip

import httpx
import pytest

from service.providers.packing import Unpacker, find_packing


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 131072, 131330, 1_000_000])
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_packed_body_comes_out_whole_in_bounded_pieces(size: int, step: int) -> None:
    packed = gzip.compress(bytes(size))
    unpacker = Unpacker("gzip")
    pieces = [piece for at in range(0, len(packed), step) for piece in unpacker.feed(packed[at : at + step])]
    unpacker.finish()
    assert sum(map(len, pieces)) == size
    assert max(map(len, pieces), default=0) <= 65536


@pytest.mark.parametrize(
    ("value", "packing"),
    [
        (b"gzip", "gzip"),
        (b" GZIP", "gzip"),
        (b"x-gzip", "x-gzip"),
        (b"deflate", "deflate"),
        (b"identity", None),
    ],
)
def test_packing_is_read_from_the_header(value: bytes, packing: str | None) -> None:
    assert find_packing([(b"a", b"b"), (b"Content-Encoding", value)]) == packing


def test_unknown_codings_are_ignored_and_only_one_is_undone() -> None:
    for value, packing in (
        (b"utf-8", None),
        (b"br", None),
        (b"gzip, br", "gzip"),
        (b"identity, gzip", "gzip"),
    ):
        assert find_packing([(b"content-encoding", value)]) == packing
    with pytest.raises(httpx.DecodingError):
        find_packing([(b"content-encoding", b"gzip"), (b"content-encoding", b"gzip")])


def test_an_empty_body_is_not_compressed() -> None:
    Unpacker("gzip").finish()
    cut_off = Unpacker("gzip")
    list(cut_off.feed(b"\x1f\x8b"))
    with pytest.raises(httpx.DecodingError):
        cut_off.finish()
