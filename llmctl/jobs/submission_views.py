"""What `submit` says: before it begins, of each request or of those that failed, and the verdict on all."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from llmctl.exits import Failed, LimitNotMet
from llmctl.jobs.batch_file import find_batch_file
from llmctl.jobs.desk import ERROR, QUEUED, REFUSED, SUCCESS, VALID, Desk, Submission
from llmctl.jobs.survey import Batch, Survey
from llmctl.render.tables import BAD, DIM, GOOD, cell, format_cost, make_table
from llmctl.render.terminal import Terminal
from simulator.quantities import format_duration

STYLES = {QUEUED: "", REFUSED: BAD, SUCCESS: GOOD, ERROR: BAD, VALID: GOOD}


def say_before(batch: Batch, found: Survey, terminal: Terminal, *, waits: bool) -> None:
    """What earlier runs have left, and what cannot be had."""
    receipts = batch.receipts
    if batch.swaps is not None and not waits:
        again = " with the same receipts, now or later" if receipts is not None else ""
        terminal.say(f"The flip rate is known from the callbacks: --wait reports it{again}.")
    if receipts is None:
        return
    path = str(receipts.path)
    if receipts.torn_bytes:
        terminal.say(
            f"The last receipt in {path!r} was torn and has been cut off; its request is sent again "
            "under the same key.",
            "yellow",
        )
    if receipts.is_orphaned:
        terminal.say(
            f"There is no {str(find_batch_file(receipts.path))!r}: requests that were under way as the run "
            "before broke off may be accepted twice.",
            "yellow",
        )
    if found.standing:
        followed = "; their callbacks are followed" if waits else ""
        terminal.say(
            f"{found.standing} of {found.requests} requests stand in {path!r} and are left out{followed}."
        )


def show_outcome(desk: Desk, terminal: Terminal) -> None:
    """A table of all, or of those that failed and the sum of the rest."""
    if terminal.as_json or not desk.total:
        return
    if desk.total == 1 and len(desk.rows) == 1:
        _show_one(desk.rows[0], terminal)
        return
    shown = desk.rows or desk.failures
    if shown:
        terminal.show(_make_table(shown))
    if not desk.rows:
        left = desk.counts[REFUSED] + desk.counts[ERROR] - len(shown)
        said = [f"{number} {status}" for status, number in sorted(desk.counts.items())]
        more = f" ({left} more failed than are shown)" if left > 0 else ""
        terminal.show(cell(f"{desk.total} requests: {', '.join(said)}{more}", wrap=True))


def judge(desk: Desk, wait_seconds: float | None, *, resumes: bool) -> None:
    """The verdict on all requests: what was refused, what is missing, what failed."""
    missing = desk.counts[QUEUED]
    if wait_seconds is not None and missing:
        raise LimitNotMet(
            f"{missing} of {desk.total} callbacks are missing after {format_duration(wait_seconds)}; "
            f"{say_how_to_wait(resumes=resumes)}."
        )
    failed = desk.counts[REFUSED] + desk.counts[ERROR]
    if failed:
        first = min(desk.failures, key=lambda each: each.line)
        again = "; the same command again tries those that were refused" if resumes else ""
        raise Failed(
            f"{failed} of {desk.total} requests failed, the first in line {first.line} ({say(first)}){again}"
            if desk.total > 1
            else f"The request failed ({say(first)}){again}"
        )


def say_how_to_wait(*, resumes: bool) -> str:
    """The end of a sentence about callbacks that have not come."""
    if resumes:
        return "the same command again goes on waiting"
    return "`llmctl tail-callbacks` shows their callbacks when they come"


def say(submission: Submission) -> str | None:
    """The outcome in a few words."""
    if submission.error is not None:
        return f"{submission.error.get('error_code')}: {submission.error.get('message')}"
    if submission.result is not None and submission.result.winner is not None:
        return f"{submission.result.winner.value} wins ({submission.result.confidence:.2f})"
    return None


def _make_table(shown: Sequence[Submission]) -> Table:
    table = make_table(("line", "status", "outcome", "request"), right=("line",), flexible=("outcome",))
    for each in sorted(shown, key=lambda submission: (submission.line, bool(submission.swapped))):
        table.add_row(
            cell(f"{each.line} swapped" if each.swapped else each.line),
            cell(each.status, STYLES[each.status]),
            cell(say(each), wrap=True),
            cell(each.queue_id, DIM),
        )
    return table


def _show_one(submission: Submission, terminal: Terminal) -> None:
    """All there is to say about a single request; why it failed is said by the verdict."""
    grid = Table.grid(padding=(0, 2))
    grid.add_row(cell("status", DIM), cell(submission.status, STYLES[submission.status]))
    if submission.queue_id is not None:
        grid.add_row(cell("request", DIM), cell(submission.queue_id))
        grid.add_row(cell("correlation", DIM), cell(submission.correlation_id))
    result = submission.result
    if result is not None:
        if result.winner is not None:
            grid.add_row(
                cell("winner", DIM), cell(f"{result.winner.value} ({result.confidence:.2f})", "bold")
            )
            grid.add_row(cell("because", DIM), cell(result.justification, wrap=True))
        grid.add_row(cell("model", DIM), cell(f"{result.provider.value}/{result.model}"))
        spent = f"{result.token_usage.total_tokens} tokens, {format_cost(result.cost_estimate)}"
        grid.add_row(cell("spent", DIM), cell(f"{spent}, {result.response_time_ms}ms"))
    terminal.show(grid)
