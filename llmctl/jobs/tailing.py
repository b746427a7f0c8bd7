"""`tail-callbacks`: shows callbacks as they arrive, until enough have come or time is up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from rich.text import Text

from llmctl.callback_checks import Fault, Verifier
from llmctl.client.callbacks import CallbackRecord, Start, open_callbacks
from llmctl.exits import CallbackProblem, LimitNotMet
from llmctl.filters import Filter
from llmctl.jobs.views import describe_record, lay_out, render_heading, render_row, view_record
from llmctl.render.safe import safe_line
from llmctl.render.tables import BAD, DIM
from llmctl.render.terminal import Terminal
from llmctl.tracing import open_tracer
from simulator.kafka_address import KafkaAddress
from simulator.quantities import format_duration

POLL_SECONDS = 0.25


@dataclass(frozen=True)
class TailPlan:
    """What to show, and until when; None is without an end."""

    topics: Sequence[str]
    start: Start = field(default_factory=Start)
    count: int | None = None
    timeout_seconds: float | None = None
    filter: Filter = field(default_factory=Filter)
    run_id: str | None = None
    all_runs: bool = False
    verify: bool = False
    """Whether to check each record against the contract and against those before it."""

    def wants_run(self, record: CallbackRecord) -> bool:
        """Whether the record belongs to the traffic that is to be shown: real, of one run, or any."""
        return self.all_runs or record.run_id == self.run_id


async def tail(plan: TailPlan, kafka: KafkaAddress, terminal: Terminal) -> None:
    """Shows records until the plan's end; LimitNotMet where time was up before enough had come."""
    seen: Counter[str] = Counter()
    verifier = Verifier() if plan.verify else None
    async with AsyncExitStack() as closing:
        tracer = closing.enter_context(open_tracer())
        stream = await closing.enter_async_context(open_callbacks(kafka, plan.topics, plan.start))
        started = time.monotonic()  # the time is for callbacks; connecting has a limit of its own
        if terminal.err.is_terminal:
            terminal.say("Waiting for callbacks; Ctrl-C ends it.", DIM)
        try:
            while (wait_seconds := _wait_time(plan, seen, started)) is not None:
                for record in await stream.read(wait_seconds):
                    if plan.count is not None and seen["shown"] >= plan.count:
                        break
                    if _take(record, plan, seen, terminal, verifier):
                        tracer.note_received(record, ours_alone=False)
        finally:
            terminal.say(_summarize(seen), DIM)
    faults = {fault: seen[fault] for fault in Fault if seen[fault]}
    if faults:
        said = ", ".join(f"{count} {fault}" for fault, count in faults.items())
        raise CallbackProblem(f"Callbacks break what was promised: {said}.")
    if plan.count is not None and seen["shown"] < plan.count:
        raise LimitNotMet(
            f"{seen['shown']} of {plan.count} callbacks came in {format_duration(plan.timeout_seconds or 0)}."
        )


def _wait_time(plan: TailPlan, seen: Counter[str], started: float) -> float | None:
    """How long the next read may wait, in seconds; None at the end."""
    if plan.count is not None and seen["shown"] >= plan.count:
        return None
    if plan.timeout_seconds is None:
        return POLL_SECONDS
    left = started + plan.timeout_seconds - time.monotonic()
    return min(left, POLL_SECONDS) if left > 0 else None


def _take(
    record: CallbackRecord,
    plan: TailPlan,
    seen: Counter[str],
    terminal: Terminal,
    verifier: Verifier | None,
) -> bool:
    """Shows a record where it is wanted; whether it was."""
    if not plan.wants_run(record):
        seen["other runs"] += 1
        return False
    finding = None if verifier is None else verifier.check(record)
    if finding is not None:
        seen[finding.fault] += 1
    view = view_record(record)
    if not plan.filter.matches(view):
        seen["filtered"] += 1
        return False
    seen["shown"] += 1
    seen[str(view.texts["status"])] += 1
    if terminal.as_json:
        checked = {} if verifier is None else {"fault": finding and finding.describe()}
        terminal.write(describe_record(record) | checked)
        return True
    layout = lay_out(terminal.out.width)
    if seen["shown"] == 1:
        terminal.show(render_heading(layout))
    terminal.show(render_row(record, layout))
    if finding is not None:
        place = f"{record.topic}/{record.partition}@{record.offset}"
        terminal.show(Text(safe_line(f"         ↑ {finding.fault}: {finding.message} ({place})"), style=BAD))
    return True


def _summarize(seen: Counter[str]) -> str:
    statuses = ", ".join(f"{seen[status]} {status}" for status in ("success", "error", "invalid"))
    noun = "callback" if seen["shown"] == 1 else "callbacks"
    said = [f"{seen['shown']} {noun}: {statuses}"]
    if seen["filtered"]:
        said.append(f"{seen['filtered']} filtered out")
    if seen["other runs"]:
        said.append(f"{seen['other runs']} of other runs left out (--all-runs shows them)")
    return " · ".join(said)
