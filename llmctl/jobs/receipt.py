"""Receipts: what the service said to requests that it has accepted, each a line of JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from llmctl.exits import UsageProblem
from llmctl.jobs.batches import Line
from service.contracts.requests import LLMQueuedResponse

MAX_LINES = 100_000_000
_BEGINNING = b'{"line": '
"""How each receipt of ours begins."""
_TAIL_BYTES = 4096

_TEXTS = ("queue_id", "correlation_id", "callback_topic", "accepted_at")


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the service said to one request."""

    line: int
    queue_id: str
    correlation_id: str
    callback_topic: str
    accepted_at: str
    """ISO 8601, UTC, by our clock."""
    swapped: bool = False

    @classmethod
    def of(cls, line: Line, answer: LLMQueuedResponse) -> Receipt:
        """The receipt of an answer that has just come."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        correlation_id = str(answer.correlation_id)
        return cls(line.number, answer.queue_id, correlation_id, answer.callback_topic, now, line.swapped)

    @classmethod
    def decode(cls, raw: bytes) -> Receipt:
        """Reads one line; ValueError where it is no receipt. Keys that others may add are borne."""
        try:
            found = json.loads(raw)
            line, swapped = found["line"], found.get("swapped", False)
            texts = {name: found[name] for name in _TEXTS}
            datetime.fromisoformat(found["accepted_at"])
        except (KeyError, TypeError, AttributeError, RecursionError) as problem:
            raise ValueError(f"no receipt: {problem}") from problem
        numbered = type(line) is int and 1 <= line <= MAX_LINES
        if not (numbered and type(swapped) is bool and all(isinstance(each, str) for each in texts.values())):
            raise ValueError("no receipt")
        return cls(line=line, swapped=swapped, **texts)

    @property
    def accepted_ms(self) -> int:
        """Milliseconds since 1970 UTC; a time without a zone is UTC."""
        then = datetime.fromisoformat(self.accepted_at)
        return int((then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp() * 1000)

    def encode(self) -> bytes:
        """As it stands in the file."""
        document: dict[str, Any] = {
            "line": self.line,
            "queue_id": self.queue_id,
            "correlation_id": self.correlation_id,
            "callback_topic": self.callback_topic,
            "accepted_at": self.accepted_at,
        } | ({"swapped": True} if self.swapped else {})
        return json.dumps(document).encode() + b"\n"


class Standing:
    """Which requests have a receipt; a bit for each."""

    def __init__(self) -> None:
        self._bits = bytearray()
        self.count = 0
        self.swapped = 0
        self.last_line = 0

    def add(self, line: int, *, swapped: bool) -> None:
        """This one has; a second receipt of the same request changes nothing."""
        byte, bit = divmod(2 * line + swapped, 8)
        if byte >= len(self._bits):
            self._bits.extend(bytes(byte + 1 + len(self._bits) // 2 - len(self._bits)))
        if not self._bits[byte] >> bit & 1:
            self._bits[byte] |= 1 << bit
            self.count += 1
            self.swapped += swapped
            self.last_line = max(self.last_line, line)

    def holds(self, line: int, *, swapped: bool) -> bool:
        """Whether this one has."""
        byte, bit = divmod(2 * line + swapped, 8)
        return byte < len(self._bits) and bool(self._bits[byte] >> bit & 1)


def read_receipts(file: BinaryIO, path: Path) -> Iterator[Receipt]:
    """Every receipt of a file, in its order, without one that is torn; UsageProblem where it holds others."""
    file.seek(0)
    for number, raw in enumerate(file, start=1):
        if raw.strip() and (raw.endswith(b"\n") or not is_torn(raw)):
            try:
                yield Receipt.decode(raw)
            except ValueError:
                raise UsageProblem(
                    f"Line {number} of {str(path)!r} is no receipt; name a file of `submit --receipts`."
                ) from None


def read_standing(path: Path) -> tuple[Standing, bytes]:
    """Which requests have a receipt, and what stands after the last newline; OSError as `open`."""
    standing = Standing()
    with path.open("rb") as file:
        for receipt in read_receipts(file, path):
            standing.add(receipt.line, swapped=receipt.swapped)
        return standing, _read_tail(file)


def is_torn(tail: bytes) -> bool:
    """Whether it is the beginning of a receipt of ours; zeros can follow where the machine lost power."""
    try:
        Receipt.decode(tail)
    except ValueError:
        return _BEGINNING.startswith(tail.rstrip(b"\0")[: len(_BEGINNING)])
    return False


def _read_tail(file: BinaryIO) -> bytes:
    size = file.seek(0, os.SEEK_END)
    tail = b""
    while len(tail) < size and b"\n" not in tail:
        length = min(size, max(_TAIL_BYTES, 2 * len(tail)))
        file.seek(size - length)
        tail = file.read(length)
    return tail[tail.rfind(b"\n") + 1 :]
