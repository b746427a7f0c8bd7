"""What sources tell the monitor, whatever they are: a frame is one observation at one moment.

A frame has its moment (seconds since 1970, on the monitor's clock). It can be written as plain JSON and
read back, so that a recording replays exactly what was seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from llmctl.tui.model.rows import CallbackRow


@dataclass(frozen=True, slots=True)
class Figures:
    """The live figures of the service, as `GET /admin/v1/snapshot` shows them."""

    at: float
    source: str
    """Where they came from: `stream`, `snapshot` or `metrics`."""
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Callbacks that arrived together on their topics."""

    at: float
    rows: tuple[CallbackRow, ...]


@dataclass(frozen=True, slots=True)
class TopicFigures:
    """Topics, their ends and the consumer groups on them."""

    at: float
    document: Mapping[str, Any]
    """`topics` [{`topic`, `partitions`, `records`, `end_total`}], `groups` [{`group`, `state`, `topic`,
    `lag`, `members`}], `groups_problem`."""


@dataclass(frozen=True, slots=True)
class RunFigures:
    """How a load run stands that drives the service."""

    at: float
    document: Mapping[str, Any]
    """`run_id`, `phase`, `shape`, `seconds`, `intended_per_second`, `counts`, `outstanding`, `lateness_p99`,
    `thresholds` [{`text`, `value`, `met`}], `faults` [{`text`, `at`, `state`}]."""


@dataclass(frozen=True, slots=True)
class SourceState:
    """A source was found or lost; `problem` is one sentence, None where it is there."""

    at: float
    source: str
    """`service`, `kafka`, `topics` or `run`."""
    problem: str | None


@dataclass(frozen=True, slots=True)
class Bookmark:
    """A moment that a person marked."""

    at: float
    text: str


Frame = Figures | Callbacks | TopicFigures | RunFigures | SourceState | Bookmark


class Sink(Protocol):
    """Where a source puts its frames."""

    def take(self, frame: Frame) -> None:
        """Takes one frame in; does not wait."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A frame as it stands in a recording."""

    at: float
    kind: str
    body: dict[str, Any] = field(default_factory=dict)


def pack(frame: Frame, *, with_payloads: bool) -> Packed:
    """The frame as plain JSON values; what a callback says is left out unless `with_payloads`."""
    match frame:
        case Figures(at, source, document):
            return Packed(at, "figures", {"source": source, "document": document})
        case Callbacks(at, rows):
            written = [row.write(with_payload=with_payloads) for row in rows]
            return Packed(at, "callbacks", {"rows": written})
        case TopicFigures(at, document):
            return Packed(at, "topics", {"document": document})
        case RunFigures(at, document):
            return Packed(at, "run", {"document": document})
        case SourceState(at, source, problem):
            return Packed(at, "source", {"source": source, "problem": problem})
        case Bookmark(at, text):
            return Packed(at, "bookmark", {"text": text})


def unpack(packed: Packed) -> Frame:
    """The frame that `pack` wrote; ValueError where the kind is of a later version or the body is damaged."""
    at, body = packed.at, packed.body
    try:
        match packed.kind:
            case "figures":
                return Figures(at, str(body["source"]), dict(body["document"]))
            case "callbacks":
                return Callbacks(at, tuple(CallbackRow.read(each) for each in body["rows"]))
            case "topics":
                return TopicFigures(at, dict(body["document"]))
            case "run":
                return RunFigures(at, dict(body["document"]))
            case "source":
                problem = body["problem"]
                return SourceState(at, str(body["source"]), None if problem is None else str(problem))
            case "bookmark":
                return Bookmark(at, str(body["text"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"a {packed.kind} frame is damaged: {type(error).__name__}") from error
    raise ValueError(f"frames of the kind {packed.kind!r} are not known to this version")
