"""`submit`: hands requests in, a few at a time, and follows their callbacks where that is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from rich.table import Table

from llmctl.client.callbacks import CallbackRecord, CallbackStream, open_callbacks
from llmctl.client.http import Refused
from llmctl.client.service import ServiceClient, open_service
from llmctl.client.topics import read_topics
from llmctl.exits import Failed, LimitNotMet, UsageProblem
from llmctl.jobs.batches import Defaults, Line, read_lines
from llmctl.loop import own_tasks
from llmctl.render.progress import ProgressLine, progress_line
from llmctl.render.tables import BAD, DIM, GOOD, cell, format_cost, make_table
from llmctl.render.terminal import Terminal
from llmctl.targets import Target
from service.contracts.error_codes import LLMErrorCode
from service.contracts.events import LLMComparisonResultV1
from simulator.quantities import format_duration

POLL_SECONDS = 0.1
FILE_RETRY_LIMIT_SECONDS = 60.0
"""So long a line of a file is offered again to a service that is full or draining."""

QUEUED, REFUSED, SUCCESS, ERROR, VALID = "queued", "refused", "success", "error", "valid"
_STYLES = {QUEUED: "", REFUSED: BAD, SUCCESS: GOOD, ERROR: BAD, VALID: GOOD}


@dataclass(frozen=True)
class SubmissionPlan:
    """How to hand in: how many at a time, whether to wait for callbacks, whether to send at all."""

    concurrency: int = 8
    wait_timeout_seconds: float | None = None
    """None does not wait for callbacks."""
    retry_limit_seconds: float = FILE_RETRY_LIMIT_SECONDS
    dry_run: bool = False


@dataclass(frozen=True)
class Submission:
    """What became of one line."""

    line: int
    status: str
    queue_id: str | None = None
    correlation_id: str | None = None
    error: dict[str, Any] | None = None
    result: LLMComparisonResultV1 | None = None

    def describe(self, *, waited: bool) -> dict[str, Any]:
        """The same as one JSON document."""
        document: dict[str, Any] = {
            "queue_id": self.queue_id,
            "correlation_id": self.correlation_id,
            "line": self.line,
            "status": self.status,
            "error": self.error,
        }
        if waited:
            document["result"] = None if self.result is None else self.result.model_dump(mode="json")
        return document


class Desk:
    """Keeps what became of every line, and says it as soon as it is final."""

    def __init__(self, plan: SubmissionPlan, terminal: Terminal) -> None:
        self._waits = plan.wait_timeout_seconds is not None
        self._terminal = terminal
        self._open: dict[str, Submission] = {}
        self._early: dict[str, LLMComparisonResultV1] = {}
        self.finished: list[Submission] = []

    @property
    def missing(self) -> int:
        """How many callbacks are still awaited."""
        return len(self._open)

    def take_answer(self, submission: Submission) -> None:
        """The service has answered, or was not asked."""
        if not self._waits or submission.queue_id is None:
            self._finish(submission)
        elif (result := self._early.pop(submission.queue_id, None)) is not None:
            self._finish(_join(submission, result))
        else:
            self._open[submission.queue_id] = submission

    def take_callback(self, record: CallbackRecord) -> bool:
        """A callback has come; it can be faster than the answer that names it. True where it was awaited."""
        if record.envelope is None:
            return False
        result = record.envelope.data
        submission = self._open.pop(result.request_id, None)
        if submission is None:
            self._early[result.request_id] = result
            return False
        self._finish(_join(submission, result))
        return True

    def close(self) -> None:
        """What is still open stays as it is."""
        for submission in self._open.values():
            self._finish(submission)

    def forget_strangers(self) -> None:
        """Every id of ours is known now: callbacks to others need not be kept."""
        self._early.clear()

    def _finish(self, submission: Submission) -> None:
        self.finished.append(submission)
        if self._terminal.as_json:
            self._terminal.write(submission.describe(waited=self._waits))


async def submit_lines(
    file: BinaryIO, defaults: Defaults, plan: SubmissionPlan, target: Target, terminal: Terminal
) -> None:
    """Hands in every line of the file; Failed, LimitNotMet or Unreachable where not all went well."""
    desk = Desk(plan, terminal)
    lines = 0
    topics: set[str] = set()
    for line in read_lines(file, defaults):
        lines += 1
        topics |= {line.callback_topic} if line.callback_topic else set()
    if not lines:
        raise UsageProblem("There is nothing to submit: the file holds no line.")
    try:
        with progress_line(terminal) as progress:
            if plan.dry_run:
                _check(read_lines(file, defaults), desk)
            else:
                progress.begin("submitting", lines)
                await _hand_in(read_lines(file, defaults), sorted(topics), plan, target, desk, progress)
    finally:
        desk.close()
        _report(desk.finished, terminal)
    _judge(desk.finished, plan)


def _check(lines: Iterator[Line], desk: Desk) -> None:
    for line in lines:
        objection = line.find_objection()
        if objection is None:
            desk.take_answer(Submission(line.number, VALID))
        else:
            desk.take_answer(_refuse_locally(line.number, objection))


async def _hand_in(
    lines: Iterator[Line],
    topics: Sequence[str],
    plan: SubmissionPlan,
    target: Target,
    desk: Desk,
    progress: ProgressLine,
) -> None:
    async with AsyncExitStack() as closing:
        service = await closing.enter_async_context(open_service(target.url, target.bearer_token))
        if plan.wait_timeout_seconds is None:
            await _send_all(lines, service, plan, desk, progress.advance)
            return
        # A topic that does not exist has no callbacks: the service refuses its lines.
        existing = await read_topics(target.bootstrap_servers)
        known = [topic for topic in topics if topic in existing]
        if not known:
            await _send_all(lines, service, plan, desk, progress.advance)
            return
        stream = await closing.enter_async_context(open_callbacks(target.bootstrap_servers, known))
        all_sent = asyncio.Event()
        async with own_tasks() as tasks:
            tasks.create_task(_follow(stream, desk, all_sent, plan.wait_timeout_seconds, progress))
            await _send_all(lines, service, plan, desk, progress.advance)
            progress.begin("waiting for callbacks", desk.missing)
            all_sent.set()


async def _send_all(
    lines: Iterator[Line],
    service: ServiceClient,
    plan: SubmissionPlan,
    desk: Desk,
    on_sent: Callable[[], None],
) -> None:
    async def work() -> None:
        for line in lines:  # shared: each worker takes the next one
            desk.take_answer(await _send(line, service, plan.retry_limit_seconds))
            on_sent()

    async with own_tasks() as tasks:
        for _ in range(plan.concurrency):
            tasks.create_task(work())


async def _send(line: Line, service: ServiceClient, retry_limit_seconds: float) -> Submission:
    if line.body is None:
        return _refuse_locally(line.number, line.problem or "the line is empty")
    answer = await service.submit(line.encode(), retry_limit_seconds=retry_limit_seconds)
    if isinstance(answer, Refused):
        return Submission(
            line.number, REFUSED, correlation_id=answer.error.get("correlation_id"), error=answer.error
        )
    return Submission(line.number, QUEUED, answer.queue_id, str(answer.correlation_id))


async def _follow(
    stream: CallbackStream,
    desk: Desk,
    all_sent: asyncio.Event,
    timeout_seconds: float,
    progress: ProgressLine,
) -> None:
    """Takes callbacks until every request has its own; time counts from the moment at which all were sent."""
    clock = asyncio.get_running_loop().time
    deadline: float | None = None
    while True:
        if all_sent.is_set():
            deadline = deadline or clock() + timeout_seconds
            if not desk.missing or clock() >= deadline:
                return
        for record in await stream.read(POLL_SECONDS):
            if desk.take_callback(record) and all_sent.is_set():
                progress.advance()
        if all_sent.is_set():
            desk.forget_strangers()


def _join(submission: Submission, result: LLMComparisonResultV1) -> Submission:
    error = result.error_detail
    return replace(
        submission,
        status=SUCCESS if error is None else ERROR,
        error=None if error is None else error.model_dump(mode="json"),
        result=result,
    )


def _refuse_locally(line: int, why: str) -> Submission:
    return Submission(line, REFUSED, error={"error_code": LLMErrorCode.INVALID_REQUEST.value, "message": why})


def _report(finished: Sequence[Submission], terminal: Terminal) -> None:
    if terminal.as_json or not finished:
        return
    if len(finished) == 1:
        _report_one(finished[0], terminal)
        return
    table = make_table(("line", "status", "outcome", "request"), right=("line",), flexible=("outcome",))
    for each in sorted(finished, key=lambda submission: submission.line):
        status = cell(each.status, _STYLES[each.status])
        table.add_row(cell(each.line), status, cell(_say(each), wrap=True), cell(each.queue_id, DIM))
    terminal.show(table)


def _report_one(submission: Submission, terminal: Terminal) -> None:
    """All there is to say about a single request; why it failed is said by the verdict."""
    grid = Table.grid(padding=(0, 2))
    grid.add_row(cell("status", DIM), cell(submission.status, _STYLES[submission.status]))
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


def _say(submission: Submission) -> str | None:
    if submission.error is not None:
        return f"{submission.error.get('error_code')}: {submission.error.get('message')}"
    if submission.result is not None and submission.result.winner is not None:
        return f"{submission.result.winner.value} wins ({submission.result.confidence:.2f})"
    return None


def _judge(finished: Sequence[Submission], plan: SubmissionPlan) -> None:
    """The verdict on all lines: what was refused, what is missing, what failed."""
    count = {status: sum(each.status == status for each in finished) for status in _STYLES}
    waited = plan.wait_timeout_seconds
    if waited is not None and count[QUEUED]:
        raise LimitNotMet(
            f"{count[QUEUED]} of {len(finished)} callbacks are missing after {format_duration(waited)}; "
            "`llmctl tail-callbacks` shows them when they come."
        )
    first = next((each for each in finished if each.status in {REFUSED, ERROR}), None)
    if first is not None:
        failed = count[REFUSED] + count[ERROR]
        raise Failed(
            f"{failed} of {len(finished)} requests failed, the first in line {first.line} ({_say(first)})"
            if len(finished) > 1
            else f"The request failed ({_say(first)})"
        )
