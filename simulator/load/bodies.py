"""What is handed in: real essays in bodies that are all different, put together from prepared pieces."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol

import orjson

from service.contracts.enums import LLMProviderType
from simulator.essays import pairs_path

MAX_NUMBER = 16**12 - 1

_RUN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Body:
    """One request body, and what it says that a callback must agree with."""

    content: bytes
    correlation_id: str
    callback_topic: str
    headers: bytes
    """Header lines of this request alone, each with its line break."""


class BodySource(Protocol):
    """Makes the request of each number."""

    def build(self, number: int) -> Body:
        """The same body for the same number every time: an unclear one is sent again."""


@dataclass(frozen=True, slots=True)
class BodyOptions:
    """What all bodies of a run have in common."""

    run_id: str
    callback_topics: Sequence[str]
    """Taken in turn."""
    provider_override: LLMProviderType | None = None


class EssayBodies:
    """The shipped comparisons in turn; metadata, correlation id and idempotency key tell run and number.

    Correlation ids are made of the run and the number, in the form of a version 4 UUID (RFC 9562).
    """

    def __init__(self, options: BodyOptions) -> None:
        """ValueError where the run's id cannot be a header or there is no topic."""
        if _RUN_ID.fullmatch(options.run_id) is None:
            raise ValueError(f"{options.run_id!r} is no run id; give 1 to 64 of A-Z a-z 0-9 . _ -")
        if not options.callback_topics:
            raise ValueError("a load needs at least one callback topic; name one")
        digest = blake2b(options.run_id.encode(), digest_size=9).hexdigest()
        self._correlation = f"{digest[:8]}-{digest[8:12]}-4{digest[12:15]}-a{digest[15:18]}-"
        self._headers = f"idempotency-key: {options.run_id}-".encode()
        self._topics = tuple(options.callback_topics)
        self._beginnings = tuple(
            _begin_body(line, options) for line in pairs_path().read_bytes().splitlines()
        )
        self._ends = tuple(b'},"callback_topic":' + orjson.dumps(topic) for topic in self._topics)

    def build(self, number: int) -> Body:
        """The body of a number from 0 to `MAX_NUMBER`."""
        place = number % len(self._topics)
        correlation_id = f"{self._correlation}{number:012x}"
        return Body(
            b'%b%d%b,"correlation_id":"%b"}'
            % (
                self._beginnings[number % len(self._beginnings)],
                number,
                self._ends[place],
                correlation_id.encode(),
            ),
            correlation_id,
            self._topics[place],
            b"%b%d\r\n" % (self._headers, number),
        )


def _begin_body(line: bytes, options: BodyOptions) -> bytes:
    """A shipped comparison up to where the number stands in its metadata."""
    document: dict[str, Any] = orjson.loads(line)
    metadata = document.pop("metadata")
    if options.provider_override is not None:
        document["llm_config_overrides"] = {"provider_override": options.provider_override.value}
    document["metadata"] = {**metadata, "run_id": options.run_id, "number": 0}
    return orjson.dumps(document).removesuffix(b"0}}")
