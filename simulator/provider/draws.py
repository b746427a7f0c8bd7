"""Chance that can be repeated: what happens to a call depends on the call alone."""

from __future__ import annotations

from hashlib import blake2b
from random import Random


class Draws:
    """The random streams of one call, a pure function of seed, canonical request and attempt.

    No stream depends on another, on the order of calls or on the process, so a run with a thousand calls at
    once repeats one made call by call.
    """

    def __init__(self, seed: int, canonical_request: bytes, attempt: int) -> None:
        digest = blake2b(f"{seed}/{attempt}/".encode(), digest_size=32)
        digest.update(canonical_request)
        self._key = digest.digest()

    def stream(self, name: str) -> Random:
        """A fresh generator for one purpose; the same name gives the same numbers."""
        seed = blake2b(name.encode(), key=self._key, digest_size=8).digest()
        return Random(int.from_bytes(seed, "big"))  # noqa: S311 - to be repeated, not to be secret

    def identifier(self, name: str, length: int) -> str:
        """At most 64 hexadecimal digits that name something of this call."""
        return blake2b(name.encode(), key=self._key, digest_size=32).hexdigest()[:length]
