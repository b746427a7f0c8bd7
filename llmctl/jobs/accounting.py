"""`usage`: adds up what calls have used, by the service's account or by the events on topics."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from llmctl.client.callbacks import CallbackRecord, Start, open_callbacks
from llmctl.client.http import refuse_stranger
from llmctl.client.operators import open_operator
from llmctl.exits import UsageProblem
from llmctl.render.progress import progress_line
from llmctl.render.tables import BAD, DIM, cell, format_cost, make_table
from llmctl.render.terminal import Terminal
from llmctl.targets import Target
from service.contracts.codec import open_usage, read_header
from service.contracts.enums import ProcessingEvent
from service.contracts.events import LLMComparisonResultV1, LLMUsageV1
from simulator.kafka_address import KafkaAddress

NEARLY_SPENT = 0.8
_FIGURES = ("calls", "prompt_tokens", "completion_tokens")


@dataclass
class Sum:
    """What was used under one combination of keys."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0

    def add(self, row: Mapping[str, Any]) -> None:
        """Adds one row; KeyError, TypeError or ValueError where it is none."""
        self.calls += int(row["calls"])
        self.prompt_tokens += int(row["prompt_tokens"])
        self.completion_tokens += int(row["completion_tokens"])
        self.cost_usd += float(row["cost_usd"])


Sums = dict[tuple[str | None, ...], Sum]


async def account_service(days: int, keys: Sequence[str], target: Target, terminal: Terminal) -> None:
    """Shows the service's own account."""
    async with open_operator(target.url, target.bearer_token) as operator:
        document = await operator.read_usage(days)
    try:
        sums = add_up(document["rows"], keys)
        today_usd = float(document["today_usd"])
        limit_usd = document["limits"]["day_usd"]
    except (KeyError, TypeError, ValueError):
        raise refuse_stranger(target.url, 200) from None
    budget = {"today_usd": today_usd, "day_limit_usd": limit_usd}
    _report(sums, keys, terminal, {"days": days, "budget": budget})
    if terminal.as_json:
        return
    if limit_usd is None:
        terminal.say(f"Today {format_cost(today_usd)} so far; no limit is set (MAX_COST_USD_PER_DAY).", DIM)
        return
    share = today_usd / limit_usd
    style = BAD if share >= NEARLY_SPENT else ""
    terminal.say(
        f"Today {format_cost(today_usd)} of {format_cost(limit_usd)} are spent ({share:.0%}).", style
    )


async def account_events(
    topics: Sequence[str],
    since_seconds: float | None,
    keys: Sequence[str],
    kafka: KafkaAddress,
    terminal: Terminal,
) -> None:
    """Shows what callbacks and usage events on topics say, each request once."""
    since = None if since_seconds is None else int((time.time() - since_seconds) * 1000)
    sums: Sums = {}
    seen: set[str] = set()
    invalid = 0
    with progress_line(terminal, counted=False) as progress:
        progress.begin("reading the events")
        start = Start(from_beginning=since is None, since_milliseconds=since)
        async with open_callbacks(kafka, topics, start) as stream:
            async for batch in stream.read_standing():
                for record in batch:
                    row = _describe(record)
                    if row is None:
                        invalid += 1
                        continue
                    _require_caller(row, record, keys)
                    if row["request_id"] not in seen:
                        seen.add(row["request_id"])
                        _add(sums, row, keys)
    _report(sums, keys, terminal, {"requests": len(seen), "invalid": invalid})
    if not terminal.as_json:
        left_out = f"; {invalid} records that tell of no usage left out" if invalid else ""
        terminal.say(f"By the events of {len(seen)} requests{left_out}.", DIM)


def add_up(rows: Iterable[Mapping[str, Any]], keys: Sequence[str]) -> Sums:
    """The sums by keys; KeyError, TypeError or ValueError where a row is none."""
    sums: Sums = {}
    for row in rows:
        _add(sums, row, keys)
    return sums


def _add(sums: Sums, row: Mapping[str, Any], keys: Sequence[str]) -> None:
    values = tuple(row[key] for key in keys)
    sums.setdefault(values, Sum()).add(row)


def _require_caller(row: Mapping[str, Any], record: CallbackRecord, keys: Sequence[str]) -> None:
    if "caller" in keys and "caller" not in row:
        raise UsageProblem(
            f"The callbacks on {record.topic} do not say whose they are: by caller only the service's usage "
            "topic tells (its setting USAGE_TOPIC), and its account (no topic)."
        )


def _describe(record: CallbackRecord) -> dict[str, Any] | None:
    """One callback or usage event as a row of an account; None where it is neither."""
    if read_header(record.headers, "event_type") == ProcessingEvent.LLM_USAGE:
        try:
            event = open_usage(record.value or b"").data
        except ValueError:
            return None
        return {
            **_describe_data(record, event),
            # It may have waited for its topic for days: it counts on the day of the account.
            "day": event.completed_at.astimezone(UTC).date().isoformat(),
            "caller": event.caller,
            "calls": event.calls,
            "cost_usd": event.cost_estimate + event.unconfirmed_cost_usd,
        }
    if record.envelope is None:
        return None
    calls = record.envelope.metadata.get("attempts") if record.envelope.metadata else None
    return {
        **_describe_data(record, record.envelope.data),
        "calls": len(calls) if isinstance(calls, list) else 1,
    }


def _describe_data(record: CallbackRecord, data: LLMComparisonResultV1 | LLMUsageV1) -> dict[str, Any]:
    return {
        "request_id": data.request_id,
        "day": datetime.fromtimestamp(record.timestamp_milliseconds / 1000, UTC).date().isoformat(),
        "topic": record.topic,
        "provider": data.provider.value,
        "model": data.model,
        "prompt_tokens": data.token_usage.prompt_tokens,
        "completion_tokens": data.token_usage.completion_tokens,
        "cost_usd": data.cost_estimate,
    }


def _report(sums: Sums, keys: Sequence[str], terminal: Terminal, more: Mapping[str, Any]) -> None:
    ordered = sorted(sums.items(), key=lambda each: (-each[1].cost_usd, -each[1].calls, str(each[0])))
    if terminal.as_json:
        rows = [dict(zip(keys, values, strict=True)) | vars(total) for values, total in ordered]
        terminal.write({**more, "rows": rows})
        return
    if not ordered:
        terminal.say("Nothing was used.")
        return
    table = make_table(
        (*keys, "calls", "prompt", "answer", "cost"), right=("calls", "prompt", "answer", "cost")
    )
    for values, total in ordered:
        table.add_row(*(cell(value) for value in values), *_figures(total))
    if len(ordered) > 1:
        whole = Sum()
        for _, total in ordered:
            whole.add(vars(total))
        table.add_section()
        table.add_row("together", *("" for _ in keys[1:]), *_figures(whole))
    terminal.show(table)


def _figures(total: Sum) -> tuple[Any, ...]:
    counts = (cell(f"{getattr(total, name):,}") for name in _FIGURES)
    return (*counts, cell(format_cost(total.cost_usd)))
