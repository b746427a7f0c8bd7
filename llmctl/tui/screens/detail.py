"""One callback in full: the timeline of its request, and the facts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widget import Widget

from llmctl.render.safe import safe_line
from llmctl.render.tables import NOTHING, format_cost
from llmctl.tui.model.rows import CallbackRow
from llmctl.tui.widgets.panels import Facts
from llmctl.tui.widgets.rows import fit
from llmctl.tui.widgets.words import BAD, DIM, GOOD, PLAIN, STATUSES, WARNING, say_seconds, say_stamp

_LABEL = 34
_TIMES = 18
_NAMES = 16


@dataclass(frozen=True)
class Span:
    """A part of a request's way, in seconds since it was accepted."""

    name: str
    begin: float
    end: float
    colour: str
    glyph: str


def read_timeline(row: CallbackRow) -> tuple[Span, ...]:
    """The parts of a request's way: queued, each attempt, the waits between, published, read here."""
    return tuple(_read_spans(row))


def _read_spans(row: CallbackRow) -> Iterator[Span]:
    if row.accepted_at is None:
        return
    zero, at = row.accepted_at, 0.0
    for number, attempt in enumerate(row.attempts, 1):
        begin = attempt.started_at - zero
        yield Span("queued" if number == 1 else "waits", at, begin, DIM, "░")
        at = begin + attempt.seconds
        good = attempt.outcome == "success"
        said = "answered" if good else attempt.outcome.removeprefix("LLM_")
        yield Span(f"#{number} {attempt.provider} {said}", begin, at, GOOD if good else BAD, "█")
    completed = (row.completed_at or row.written_at) - zero
    yield Span("outcome stored" if row.attempts else "queued", at, completed, DIM, "░")
    yield Span("handed to Kafka", completed, row.written_at - zero, WARNING, "▓")
    yield Span("read here", row.written_at - zero, row.at - zero, DIM, "▒")


class Timeline(Widget):
    """The parts of a request's way as bars below each other."""

    DEFAULT_CSS = "Timeline { height: auto; padding: 0 1; }"

    def __init__(self, spans: Sequence[Span]) -> None:
        super().__init__()
        self._spans = spans

    def render(self) -> Text:
        """The bars for the width."""
        if not self._spans:
            return Text("the record is no valid envelope, so nothing is known of its way", style=DIM)
        whole = max(span.end for span in self._spans) or 1.0
        room = max(8, self.size.width - _LABEL - _TIMES - 2)
        lines = []
        for span in self._spans:
            begin = max(0, min(room - 1, round(span.begin / whole * room)))
            end = max(begin + 1, min(room, round(span.end / whole * room)))
            took = max(0.0, span.end - span.begin)
            times = f"{say_seconds(max(0.0, span.begin)):>7} +{say_seconds(took):<7}"
            lines.append(
                Text.assemble(
                    fit(safe_line(span.name), _LABEL),
                    " ",
                    (fit(times, _TIMES), DIM),
                    (" " * begin + span.glyph * (end - begin), span.colour),
                    no_wrap=True,
                )
            )
        return Text("\n").join(lines)


class CallbackDetail(ModalScreen[None]):
    """One callback in full. What the judge wrote is covered until it is asked for."""

    DEFAULT_CSS = """
    CallbackDetail { align: center middle; }
    CallbackDetail VerticalScroll {
        width: 96%; max-width: 140; height: auto; max-height: 92%;
        border: round $accent; background: $surface;
    }
    CallbackDetail Facts { border: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "dismiss", "back"),
        Binding("v", "uncover", "show what it says"),
        Binding("y", "app.copy", "copy the id"),
    ]

    def __init__(self, row: CallbackRow) -> None:
        super().__init__()
        self.row = row
        self._covered = True

    def compose(self) -> ComposeResult:
        """The timeline above the facts."""
        with VerticalScroll() as box:
            box.border_title = Text(
                safe_line(f"{self.row.request_id or 'invalid record'} → {self.row.topic}")
            )
            box.border_subtitle = "esc back · y copy id · v show what it says"
            yield Timeline(read_timeline(self.row))
            yield Facts("", id="facts", names_width=_NAMES)

    def on_mount(self) -> None:
        """Fills in the facts."""
        self._present()

    def action_uncover(self) -> None:
        """Shows what the judge wrote, or covers it again."""
        self._covered = not self._covered
        self._present()

    def _present(self) -> None:
        self.query_one("#facts", Facts).present(tuple(self._read_facts()))

    def _read_facts(self) -> Iterator[tuple[str, str, str]]:
        row = self.row
        yield "status", *STATUSES[row.status]
        yield "winner" if row.winner else "error", row.winner or row.error or NOTHING, PLAIN
        if row.message:
            yield "message", row.message, PLAIN
        yield "confidence", NOTHING if row.confidence is None else f"{row.confidence:.2f}", PLAIN
        if row.justification:
            yield "justification", "covered, v shows it" if self._covered else row.justification, PLAIN
        yield "provider, model", f"{row.provider or NOTHING}, {row.model or NOTHING}", PLAIN
        cost = NOTHING if row.cost is None else format_cost(row.cost)
        yield "tokens, cost", f"{NOTHING if row.tokens is None else row.tokens}, {cost}", PLAIN
        yield "end to end", say_seconds(row.e2e_seconds), PLAIN
        if row.accepted_at is not None:
            yield "accepted", say_stamp(row.accepted_at), PLAIN
        yield "on Kafka", f"{say_stamp(row.written_at)} at {row.topic}[{row.partition}]@{row.offset}", PLAIN
        yield "correlation id", row.correlation_id or NOTHING, PLAIN
        yield "event id", row.event_id or NOTHING, PLAIN
        if row.trace_id:
            yield "trace id", row.trace_id, PLAIN
        if row.run_id:
            yield "load run", row.run_id, PLAIN
        for key, value in row.metadata.items():
            yield f"meta.{key}", str(value), PLAIN
