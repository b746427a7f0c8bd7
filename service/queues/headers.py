"""Record headers as JSON can carry them: pairs of texts, a character for each byte of the value."""

from collections.abc import Iterable, Sequence

from service.contracts.codec import Headers


def list_headers(headers: Headers) -> list[list[str]]:
    """Name and value of each; `join_headers` reads it."""
    return [[name, value.decode("latin-1")] for name, value in headers]


def join_headers(pairs: Iterable[Sequence[str]]) -> Headers:
    """What `list_headers` was given. Raises `ValueError` where it is something else."""
    headers = tuple((name, text) for name, text in pairs)
    if not all(isinstance(part, str) for header in headers for part in header):
        raise ValueError("A header is not a pair of texts.")
    return tuple((name, text.encode("latin-1")) for name, text in headers)
