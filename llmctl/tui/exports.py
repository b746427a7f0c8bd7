"""What leaves the monitor: rows as JSON, and the words that are copied."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from typing import Any

from llmctl.tui.model.rows import CallbackRow


def describe_row(row: object) -> dict[str, Any]:
    """A row of any list as plain JSON values; what a callback says is left out."""
    if isinstance(row, CallbackRow):
        return row.write(with_payload=False)
    if is_dataclass(row) and not isinstance(row, type):
        return {name.lstrip("_"): value for name, value in asdict(row).items()}
    assert isinstance(row, dict), "lists hold data classes and JSON objects"
    return row


def name_row(row: object) -> str:
    """What people would paste elsewhere: an id, a name."""
    if isinstance(row, CallbackRow):
        return row.request_id or f"{row.topic}[{row.partition}]@{row.offset}"
    for name in ("name", "group", "topic", "text", "condition"):
        found = row.get(name) if isinstance(row, dict) else getattr(row, name, None)
        if found:
            return str(found)
    return ""
