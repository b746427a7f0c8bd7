"""What `submit` hands in: request bodies, from options or from a file of JSON lines."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID, uuid5

from pydantic import ValidationError

from llmctl.exits import UsageProblem
from service.contracts.requests import LLMComparisonRequest

STANDARD_INPUT = "-"
DIGEST_BYTES = 8
_PROVIDER, _MODEL = "provider_override", "model_override"


@dataclass(frozen=True)
class Defaults:
    """What the options say for every request that does not say otherwise itself."""

    callback_topic: str | None = None
    provider: str | None = None
    model: str | None = None
    priority: int | None = None
    ttl_seconds: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The body with what it lacks; what it says itself stays as it is."""
        own = {
            "callback_topic": self.callback_topic,
            "priority": self.priority,
            "ttl_seconds": self.ttl_seconds,
        }
        whole = {name: value for name, value in own.items() if value is not None} | dict(body)
        overrides = {_PROVIDER: self.provider, _MODEL: self.model}
        for name, options in (("llm_config_overrides", overrides), ("metadata", dict(self.metadata))):
            given = {key: value for key, value in options.items() if value is not None}
            there = whole.get(name)
            if given and (there is None or isinstance(there, dict)):
                whole[name] = given | (there or {})
        return whole


@dataclass(frozen=True)
class Line:
    """One request to hand in: its number in the file, and its body or why there is none."""

    number: int
    body: Mapping[str, Any] | None
    problem: str | None = None
    swapped: bool = False
    """Whether it is the second request of its line, with the essays exchanged."""

    def encode(self) -> bytes:
        """The body as it is sent."""
        return json.dumps(self.body, ensure_ascii=False).encode("utf-8", "surrogatepass")

    def digest(self) -> bytes:
        """Tells one body from another; white space and the order of fields make no difference."""
        canonical = json.dumps(self.body, sort_keys=True, separators=(",", ":"))
        return sha256(canonical.encode()).digest()[:DIGEST_BYTES]

    def key_in(self, batch_id: UUID) -> str:
        """Its idempotency key, the same in every run of a batch.

        The body is no part of it: where a line was changed after it had been accepted, the service notices
        (409) and does not take it for a new request.
        """
        return str(uuid5(batch_id, f"{self.number}{':swapped' if self.swapped else ''}"))

    @property
    def callback_topic(self) -> str | None:
        """The topic that the body names, if it names one."""
        topic = (self.body or {}).get("callback_topic")
        return topic if isinstance(topic, str) else None

    def read_request(self) -> LLMComparisonRequest | str:
        """The body as the published contract reads it, or its objection in one sentence."""
        if self.body is None:
            return self.problem or "the line is empty"
        try:
            return LLMComparisonRequest.model_validate_json(self.encode())
        except ValidationError as refusal:
            first = refusal.errors(include_url=False, include_input=False, include_context=False)[0]
            return f"{'.'.join(str(step) for step in first['loc']) or 'body'}: {first['msg']}"


def read_lines(file: BinaryIO, defaults: Defaults) -> Iterator[Line]:
    """Every line of the file that is not empty, from its beginning."""
    file.seek(0)
    for number, raw in enumerate(file, start=1):
        if raw.strip():
            yield _read_line(number, raw, defaults)


def read_text(path: str, option: str) -> str:
    """The text of a file, or of standard input for `-`; UsageProblem where it cannot be read."""
    try:
        raw = sys.stdin.buffer.read() if path == STANDARD_INPUT else Path(path).read_bytes()
        return raw.decode("utf-8")
    except OSError as problem:
        raise _refuse_file(path, option, problem.strerror or str(problem)) from problem
    except UnicodeDecodeError as problem:
        raise _refuse_file(path, option, "it is no UTF-8 text") from problem


@contextmanager
def open_lines(path: str, option: str = "--file") -> Iterator[BinaryIO]:
    """JSON lines that can be read more than once; what cannot be wound back is kept on disk for that."""
    try:
        with ExitStack() as closing:
            file: BinaryIO = (
                sys.stdin.buffer if path == STANDARD_INPUT else closing.enter_context(Path(path).open("rb"))
            )
            if path == STANDARD_INPUT or not file.seekable():
                copy = closing.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(file, copy)
                file = copy
            file.read(1)  # a folder opens, and only here says what it is
            opened = closing.pop_all()
    except OSError as problem:
        raise _refuse_file(path, option, problem.strerror or str(problem)) from problem
    with opened:
        yield file


def _read_line(number: int, raw: bytes, defaults: Defaults) -> Line:
    try:
        body = json.loads(raw)
    except ValueError:
        return Line(number, None, "the line is not JSON")
    except RecursionError:
        return Line(number, None, "the line is nested too deeply")
    if not isinstance(body, dict):
        return Line(number, None, "the line is not a JSON object")
    return Line(number, defaults.complete(body))


def _refuse_file(path: str, option: str, why: str) -> UsageProblem:
    return UsageProblem(f"The file {path!r} of {option} cannot be read: {why}.")
