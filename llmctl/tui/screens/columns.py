"""The columns of the monitor's lists: what each says of a callback, a provider, a topic, an event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmctl.render.tables import NOTHING, format_cost
from llmctl.tui.model.alerts import Alert
from llmctl.tui.model.events import Event
from llmctl.tui.model.reading import ProviderReading
from llmctl.tui.model.rows import CallbackRow
from llmctl.tui.widgets.rows import Column
from llmctl.tui.widgets.words import (
    ALERTS,
    BAD,
    DIM,
    LEVELS,
    PLAIN,
    STATUSES,
    WARNING,
    say_circuit,
    say_clock,
    say_count,
    say_rate,
    say_seconds,
    say_share,
    say_stamp,
)


def _say_outcome(row: CallbackRow) -> tuple[str, str]:
    if row.status == "success":
        return row.winner, PLAIN
    return row.error.removeprefix("LLM_") or row.message, BAD


CALLBACKS: tuple[Column[CallbackRow], ...] = (
    Column("time", 12, lambda row: (say_stamp(row.at), DIM), key=lambda row: row.at),
    Column("status", 9, lambda row: STATUSES[row.status], key=lambda row: row.status),
    Column("outcome", 9, _say_outcome, key=lambda row: row.error or row.winner, grows=14),
    Column("provider", 10, lambda row: row.provider or NOTHING, key=lambda row: row.provider),
    Column("e2e", 6, lambda row: say_seconds(row.e2e_seconds), key=lambda row: row.e2e_seconds, right=True),
    Column("request", 8, lambda row: row.request_id or NOTHING, grows=28, rank=1),
    Column("calls", 5, lambda row: str(len(row.attempts) or NOTHING), right=True, rank=4,
           key=lambda row: len(row.attempts)),
    Column("asked", 6, lambda row: say_seconds(row.provider_seconds), right=True, rank=3,
           key=lambda row: row.provider_seconds),
    Column("tokens", 6, lambda row: NOTHING if row.tokens is None else str(row.tokens), right=True, rank=5,
           key=lambda row: row.tokens),
    Column("cost", 8, lambda row: NOTHING if row.cost is None else format_cost(row.cost), right=True, rank=6,
           key=lambda row: row.cost),
    Column("model", 12, lambda row: row.model or NOTHING, key=lambda row: row.model, grows=16, rank=7),
    Column("topic", 12, lambda row: row.topic, key=lambda row: row.topic, grows=32, rank=8),
    Column("place", 10, lambda row: f"{row.partition}:{row.offset}", right=True, rank=9),
    Column("run", 8, lambda row: row.run_id, key=lambda row: row.run_id, grows=20, rank=10),
)  # fmt: skip


def _say_limit(row: ProviderReading) -> str:
    if row.concurrency_limit is None or row.concurrency_limit == row.max_concurrency:
        return NOTHING if row.max_concurrency is None else str(row.max_concurrency)
    return f"{row.concurrency_limit} of {row.max_concurrency}"


def _say_error_share(row: ProviderReading) -> tuple[str, str]:
    if not row.calls:
        return NOTHING, DIM
    share = row.errors / row.calls
    return say_share(share), BAD if share > 0.05 else WARNING if share > 0.01 else PLAIN


def _say_last_error(row: ProviderReading) -> tuple[str, str]:
    if not row.last_error:
        return NOTHING, DIM
    at = f" {say_clock(row.last_error_at)}" if row.last_error_at else ""
    return f"{row.last_error.removeprefix('LLM_')}{at}", PLAIN


PROVIDERS: tuple[Column[ProviderReading], ...] = (
    Column("provider", 10, lambda row: row.name, key=lambda row: row.name),
    Column("circuit", 11, say_circuit, key=lambda row: row.circuit),
    Column("in flight", 9, lambda row: say_count(row.in_flight), key=lambda row: row.in_flight, right=True),
    Column("at most", 10, _say_limit, key=lambda row: row.concurrency_limit, right=True),
    Column("calls", 9, lambda row: say_count(row.calls), key=lambda row: row.calls, right=True),
    Column("errors", 7, _say_error_share, key=lambda row: row.errors, right=True),
    Column("last error", 14, _say_last_error, key=lambda row: row.last_error_at, grows=30, rank=1),
    Column("rpm", 8, lambda row: say_count(row.requests_per_minute), right=True, rank=3),
    Column("tpm", 10, lambda row: say_count(row.tokens_per_minute), right=True, rank=4),
    Column("held until", 10, lambda row: say_clock(row.held_until), rank=2),
    Column("reason", 10, lambda row: row.hold_reason or NOTHING, grows=40, rank=5),
)
EVENTS: tuple[Column[Event], ...] = (
    Column("time", 8, lambda row: (say_clock(row.at), DIM), key=lambda row: row.at),
    Column("", 1, lambda row: LEVELS[row.level]),
    Column("what happened", 20, lambda row: (row.text, LEVELS[row.level][1]), grows=200),
)


def _say_alert_value(row: Alert) -> str:
    if row.value is None:
        return "not known"
    match row.condition.unit:
        case "s":
            return say_seconds(row.value)
        case "%":
            return say_share(row.value)
        case "/s":
            return f"{say_rate(row.value)}/s"
        case _:
            return say_count(row.value)


ALERT_COLUMNS: tuple[Column[Alert], ...] = (
    Column("state", 10, lambda row: ALERTS[row.state], key=lambda row: row.state),
    Column("since", 8, lambda row: say_clock(row.since or None)),
    Column("now", 9, _say_alert_value, right=True),
    Column("fired", 5, lambda row: str(row.fired), key=lambda row: row.fired, right=True),
    Column("rings when", 20, lambda row: str(row.condition), grows=100),
)
TopicRow = Mapping[str, Any]
TOPICS: tuple[Column[TopicRow], ...] = (
    Column("topic", 20, lambda row: str(row["topic"]), key=lambda row: row["topic"], grows=60),
    Column("partitions", 10, lambda row: say_count(row["partitions"]), right=True),
    Column("records", 12, lambda row: say_count(row["records"]), key=lambda row: row["records"], right=True),
    Column("written", 12, lambda row: say_count(row["end_total"]), key=lambda row: row["end_total"],
           right=True, rank=2),
    Column("per s", 8, lambda row: say_rate(row.get("per_second")), right=True, rank=1),
)  # fmt: skip


def _say_lag(row: TopicRow) -> tuple[str, str]:
    lag = row.get("lag")
    return say_count(lag), WARNING if lag else PLAIN


GROUPS: tuple[Column[TopicRow], ...] = (
    Column("consumer group", 20, lambda row: str(row["group"]), key=lambda row: row["group"], grows=40),
    Column("topic", 16, lambda row: str(row["topic"]), key=lambda row: row["topic"], grows=40, rank=2),
    Column("state", 10, lambda row: str(row.get("state") or NOTHING), grows=10, rank=3),
    Column("members", 7, lambda row: say_count(row.get("members")), right=True, rank=1),
    Column("lag", 10, _say_lag, key=lambda row: row.get("lag"), right=True),
    Column("per s", 8, lambda row: say_rate(row.get("per_second")), right=True, rank=4),
)
"""`per s` is by how much the lag grows; negative where the group catches up."""
FaultRow = Mapping[str, Any]
FAULTS: tuple[Column[FaultRow], ...] = (
    Column("at", 8, lambda row: say_seconds(row.get("at")), key=lambda row: row.get("at"), right=True),
    Column("state", 8, lambda row: str(row.get("state") or NOTHING)),
    Column("fault", 20, lambda row: str(row.get("text", "")), grows=100),
)


def _say_met(row: Mapping[str, Any]) -> tuple[str, str]:
    met = row.get("met")
    if met is None:
        return "· later", DIM
    return ("✔ met", "green") if met else ("✖ not met", BAD)


THRESHOLDS: tuple[Column[Mapping[str, Any]], ...] = (
    Column("state", 9, _say_met),
    Column("now", 12, lambda row: str(row.get("said") or NOTHING), right=True),
    Column("threshold", 20, lambda row: str(row.get("text", "")), grows=100),
)
