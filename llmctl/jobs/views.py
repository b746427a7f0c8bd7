"""A callback as people and programs see it: one JSON document, one row, one view for filters."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from llmctl.client.callbacks import CallbackRecord
from llmctl.filters import RecordView
from llmctl.render.safe import safe_line
from llmctl.render.tables import BAD, DIM, GOOD, NOTHING, format_cost, shorten
from service.contracts.events import LLMComparisonResultV1
from simulator.quantities import format_duration

INVALID = "invalid"
_ERROR_PREFIX = "LLM_"
_ROOMY_WIDTH = 100
_FIXED_WIDTHS = {"time": 8, "status": 7, "conf": 4, "tokens": 6, "cost": 8, "e2e": 6}
_FLEXIBLE_WIDTHS = {"outcome": (8, 24), "provider/model": (9, 32), "request": (8, 36)}
_COLUMNS = ("time", "status", "outcome", "conf", "provider/model", "tokens", "cost", "e2e", "request")
_FIGURES = frozenset({"conf", "tokens", "cost", "e2e"})


def read_e2e_seconds(record: CallbackRecord) -> float | None:
    """From acceptance to the moment at which Kafka has the callback, in seconds; None if it is invalid."""
    if record.envelope is None:
        return None
    return record.timestamp_milliseconds / 1000 - record.envelope.data.requested_at.timestamp()


def describe_record(record: CallbackRecord) -> dict[str, Any]:
    """The record as one JSON document, with what it says exactly as it stands on the topic."""
    document: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "key": None if record.key is None else _decode(record.key),
        "timestamp": _stamp(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "headers": {name: None if value is None else _decode(value) for name, value in record.headers},
    }
    if record.envelope is not None and record.value is not None:
        return document | {"envelope": json.loads(record.value)}
    return document | {"error": record.problem, "raw": base64.b64encode(record.value or b"").decode()}


def view_record(record: CallbackRecord) -> RecordView:
    """What a filter can ask of the record."""
    texts: dict[str, str | None] = {"topic": record.topic, "status": INVALID}
    numbers: dict[str, float | None] = {}
    metadata: Mapping[str, Any] = {}
    if record.envelope is not None:
        data = record.envelope.data
        error = data.error_detail
        texts |= {
            "status": "success" if error is None else "error",
            "provider": data.provider.value,
            "model": data.model,
            "winner": None if data.winner is None else data.winner.value,
            "error": None if error is None else error.error_code.value,
            "request_id": data.request_id,
            "correlation_id": str(data.correlation_id),
        }
        numbers = {
            "confidence": data.confidence,
            "cost": data.cost_estimate,
            "tokens": data.token_usage.total_tokens,
            "e2e": read_e2e_seconds(record),
        }
        metadata = data.request_metadata
    return RecordView(texts, numbers, metadata, lambda: _read_everything(record))


@dataclass(frozen=True)
class Layout:
    """How wide the columns are, and how far apart."""

    widths: Mapping[str, int]
    gap: int

    @property
    def total(self) -> int:
        """The whole line's width."""
        return sum(self.widths.values()) + self.gap * (len(self.widths) - 1)


def lay_out(width: int) -> Layout:
    """The columns on a terminal so wide; what is left over goes to those that can use it."""
    gap = 1 if width < _ROOMY_WIDTH else 2
    widths = {name: _FIXED_WIDTHS.get(name) or _FLEXIBLE_WIDTHS[name][0] for name in _COLUMNS}
    left = width - 1 - sum(widths.values()) - gap * (len(_COLUMNS) - 1)
    for name in ("provider/model", "outcome", "request"):
        more = max(0, min(left, _FLEXIBLE_WIDTHS[name][1] - widths[name]))
        widths[name] += more
        left -= more
    return Layout(widths, gap)


def render_heading(layout: Layout) -> Text:
    """The names of the columns."""
    names = (_fit(name, name, layout.widths[name]) for name in _COLUMNS)
    return Text((" " * layout.gap).join(names).rstrip(), style="bold")


def render_row(record: CallbackRecord, layout: Layout) -> Text:
    """The record in one line."""
    if record.envelope is None:
        return _render_invalid(record, layout)
    row = Text(no_wrap=True, overflow="ellipsis")
    for name, (said, style) in _read_cells(record, record.envelope.data, layout).items():
        row.append(" " * layout.gap if row else "")
        row.append(_fit(name, safe_line(said), layout.widths[name]), style=style)
    row.rstrip()
    return row


def _render_invalid(record: CallbackRecord, layout: Layout) -> Text:
    """What is no callback has no columns: where it stands, and what is wrong with it."""
    place = f"{record.topic}/{record.partition}@{record.offset}"
    row = Text(no_wrap=True, overflow="ellipsis")
    row.append(_say_time(record) + " " * layout.gap, style=DIM)
    row.append(INVALID.ljust(layout.widths["status"]) + " " * layout.gap, style=BAD)
    return row.append(shorten(safe_line(f"{place}  {record.problem}"), layout.total - len(row)))


def _read_cells(
    record: CallbackRecord, data: LLMComparisonResultV1, layout: Layout
) -> dict[str, tuple[str, str]]:
    cells = dict.fromkeys(_COLUMNS, (NOTHING, DIM))
    cells["time"] = (_say_time(record), DIM)
    model = f"{data.provider.value}/{data.model}"
    if len(model) > layout.widths["provider/model"]:
        model = data.model  # it names the provider well enough
    cells |= {
        "provider/model": (model, ""),
        "tokens": (str(data.token_usage.total_tokens), ""),
        "cost": (format_cost(data.cost_estimate), ""),
        "e2e": (format_duration(max(0.0, read_e2e_seconds(record) or 0.0)), ""),
        "request": (data.request_id, DIM),
    }
    if data.error_detail is not None:
        said = data.error_detail.error_code.value.removeprefix(_ERROR_PREFIX)
        return cells | {"status": ("error", BAD), "outcome": (said, BAD)}
    cells |= {"status": ("success", GOOD), "outcome": (str(data.winner), "bold")}
    return cells | {"conf": (f"{data.confidence:.2f}", "")}


def _fit(name: str, said: str, width: int) -> str:
    # An id is as good without its end, and better without an ellipsis.
    short = said[:width] if name == "request" else shorten(said, width)
    return short.rjust(width) if name in _FIGURES else short.ljust(width)


def _say_time(record: CallbackRecord) -> str:
    return _stamp(record).astimezone().strftime("%H:%M:%S")


def _stamp(record: CallbackRecord) -> datetime:
    return datetime.fromtimestamp(record.timestamp_milliseconds / 1000, UTC)


def _decode(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _read_everything(record: CallbackRecord) -> str:
    """Key, headers and value; JSON is unescaped, so that a text is found as it was written."""
    headers = " ".join(f"{name}={_decode(value or b'')}" for name, value in record.headers)
    value = record.value or b""
    if record.envelope is not None:
        said = json.dumps(json.loads(value), ensure_ascii=False)
    else:
        said = _decode(value)
    return f"{record.topic} {_decode(record.key or b'')} {headers} {said}"
