"""`submit`: hands requests in, a few at a time, and follows their callbacks where that is wanted.

What is kept in memory does not grow with the file, only with what is still awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx

from llmctl.client.callbacks import CallbackStream, Start, open_callbacks
from llmctl.client.http import Refused
from llmctl.client.patience import Patience
from llmctl.client.service import ServiceClient, open_service
from llmctl.client.topics import read_topics
from llmctl.exits import CliError, Failed, Interrupted
from llmctl.jobs.batches import Line
from llmctl.jobs.desk import MAX_ROWS, QUEUED, REFUSED, Desk, Submission
from llmctl.jobs.flips import FlipTally
from llmctl.jobs.receipt import Receipt
from llmctl.jobs.submission_views import judge, say_before, say_how_to_wait, show_outcome
from llmctl.jobs.survey import Batch, Survey
from llmctl.loop import own_tasks
from llmctl.render.progress import ProgressLine, progress_line
from llmctl.render.terminal import Terminal
from llmctl.targets import Target
from llmctl.tracing import Tracer, open_tracer
from service.contracts.error_codes import LLMErrorCode
from simulator.kafka_address import KafkaAddress
from simulator.quantities import format_duration

POLL_SECONDS = 0.1
BREATHE_EVERY = 200
DEFAULT_PATIENCE_SECONDS = 600.0
"""So long the lines of a file are offered to a service that takes none: a drain and a restart fit in."""
CLOCK_MARGIN_MILLISECONDS = 300_000
"""Our clock and the broker's may differ by so much where callbacks of an earlier run are looked for."""


@dataclass(frozen=True)
class SubmissionPlan:
    """How to hand in: how many at a time, how long to bear refusals, whether to wait for callbacks."""

    concurrency: int = 1
    wait_timeout_seconds: float | None = None
    """None does not wait for callbacks."""
    patience_seconds: float = 0.0
    """A service that takes nothing for so long ends the run; 0 takes its first refusal for the answer."""


async def submit_batch(
    batch: Batch, found: Survey, plan: SubmissionPlan, target: Target, terminal: Terminal
) -> None:
    """Hands in what has no receipt; Failed, LimitNotMet or Unreachable where not all went well."""
    waits = plan.wait_timeout_seconds is not None
    flips = FlipTally() if waits and batch.swaps is not None else None
    desk = Desk(terminal, waits=waits, flips=flips, keeps_rows=found.requests <= MAX_ROWS)
    course = _Course(batch, found, plan, desk)
    say_before(batch, found, terminal, waits=waits)
    try:
        with progress_line(terminal, paced=True) as progress:
            await course.run(target, progress)
    except asyncio.CancelledError:
        if found.requests == 1:
            raise
        raise Interrupted(f"Interrupted; {course.say_rest()}") from None
    except CliError as problem:
        if not course.accepted or found.requests == 1:
            raise
        raise type(problem)(f"{problem} {course.say_rest()}") from problem
    finally:
        desk.close()
        show_outcome(desk, terminal)
        if flips is not None:
            flips.show(terminal)
    judge(desk, plan.wait_timeout_seconds, resumes=batch.receipts is not None)


class _Course:
    """One run through a batch."""

    def __init__(self, batch: Batch, found: Survey, plan: SubmissionPlan, desk: Desk) -> None:
        self._batch = batch
        self._receipts = batch.receipts
        self._found = found
        self._plan = plan
        self._desk = desk
        self.accepted = found.standing
        """Of this run and those before it."""

    def say_rest(self) -> str:
        """How far it came, and how it can go on."""
        said = f"{self.accepted} of {self._found.requests} requests are accepted"
        if self.accepted == self._found.requests:
            return f"{said}; {say_how_to_wait(resumes=self._receipts is not None)}."
        if self._receipts is not None:
            return f"{said} and stand in the receipts; the same command again sends the rest, and none twice."
        return f"{said}; with --receipts the same command again would send the rest."

    async def run(self, target: Target, progress: ProgressLine) -> None:
        """Sends what has no receipt, and waits where that is wanted."""
        patience = Patience(self._plan.patience_seconds, progress.explain)
        async with AsyncExitStack() as closing:
            tracer = closing.enter_context(open_tracer())
            service = await closing.enter_async_context(open_service(target.url, target.bearer_token, tracer))
            if self._receipts is not None:
                await closing.enter_async_context(self._receipts.kept_on_disk())
            sender = _Sender(self._batch, service, patience, self._plan)
            timeout_seconds = self._plan.wait_timeout_seconds
            topics = [] if timeout_seconds is None else await self._find_topics(target.kafka)
            progress.begin("submitting", self._found.requests, done=self._found.standing)
            if timeout_seconds is None or not topics:
                await self._send_all(sender, progress, self._has_no_receipt)
                return
            start = await self._take_up(sender, progress)
            stream = await closing.enter_async_context(open_callbacks(target.kafka, topics, start))
            all_sent = asyncio.Event()
            async with own_tasks() as tasks:
                following = self._follow(stream, all_sent, timeout_seconds, progress, tracer)
                tasks.create_task(following)
                await self._send_all(sender, progress, self._is_new)
                progress.begin("awaiting callbacks", self._desk.missing)
                all_sent.set()

    async def _find_topics(self, kafka: KafkaAddress) -> list[str]:
        """Where callbacks can come. A topic that does not exist has none: the service refuses its lines."""
        existing = await read_topics(kafka)
        return sorted(topic for topic in self._found.topics if topic in existing)

    async def _take_up(self, sender: _Sender, progress: ProgressLine) -> Start | None:
        """Takes up what earlier runs have left; where their callbacks begin, None where there were none."""
        receipts = self._receipts
        if receipts is None or not receipts.goes_on:
            return None
        # Their queue ids must be known before the topics are read from so far back: their callbacks can
        # stand there already, among those of others.
        await self._send_all(sender, progress, receipts.is_in_doubt)
        since_ms = receipts.begun_ms
        for number, receipt in enumerate(receipts.read()):
            await _breathe(number)
            since_ms = min(since_ms, receipt.accepted_ms)
            self._desk.expect(
                Submission(
                    receipt.line,
                    QUEUED,
                    receipt.queue_id,
                    receipt.correlation_id,
                    swapped=receipt.swapped if self._batch.swaps is not None else None,
                )
            )
        return Start(since_milliseconds=max(0, since_ms - CLOCK_MARGIN_MILLISECONDS))

    def _has_no_receipt(self, line: Line) -> bool:
        return self._receipts is None or not self._receipts.holds(line)

    def _is_new(self, line: Line) -> bool:
        """Whether no run has sent it, this one included."""
        return self._has_no_receipt(line) and (self._receipts is None or not self._receipts.is_in_doubt(line))

    async def _send_all(
        self, sender: _Sender, progress: ProgressLine, chosen: Callable[[Line], bool]
    ) -> None:
        lines = enumerate(self._batch.read())

        async def work() -> None:
            for number, line in lines:  # shared: each worker takes the next one
                if not chosen(line):
                    await _breathe(number)
                    continue
                with self._desk.sending():
                    submission = await sender.send(line)
                    self.accepted += submission.queue_id is not None
                    self._desk.take_answer(submission)
                progress.advance()

        async with own_tasks() as tasks:
            for _ in range(self._plan.concurrency):
                tasks.create_task(work())

    async def _follow(
        self,
        stream: CallbackStream,
        all_sent: asyncio.Event,
        timeout_seconds: float,
        progress: ProgressLine,
        tracer: Tracer,
    ) -> None:
        """Takes callbacks until every request has its own; time counts from when all were sent."""
        clock = asyncio.get_running_loop().time
        deadline: float | None = None
        while True:
            if all_sent.is_set():
                deadline = deadline or clock() + timeout_seconds
                if not self._desk.missing or clock() >= deadline:
                    return
            for record in await stream.read(POLL_SECONDS):
                tracer.note_received(record, ours_alone=True)
                if self._desk.take_callback(record) and all_sent.is_set():
                    progress.advance()


class _Sender:
    """Sends one request at a time, and keeps its receipt before anything else is told of it."""

    def __init__(
        self, batch: Batch, service: ServiceClient, patience: Patience, plan: SubmissionPlan
    ) -> None:
        self._batch = batch
        self._service = service
        self._patience = patience
        self._plan = plan

    async def send(self, line: Line) -> Submission:
        """What the service says to it; Failed or Unreachable where the whole run is at its end."""
        if line.body is None:
            return self._tell(line, REFUSED, error=_object(line.problem or "the line is empty"))
        receipts = self._batch.receipts
        if receipts is not None:
            receipts.note(line)
        answer = await self._service.submit(
            line.encode(), key=line.key_in(self._batch.id), patience=self._patience
        )
        if isinstance(answer, Refused):
            return self._refuse(line, answer)
        if receipts is not None:
            receipts.write(Receipt.of(line, answer))
        return self._tell(line, QUEUED, queue_id=answer.queue_id, correlation_id=str(answer.correlation_id))

    def _refuse(self, line: Line, answer: Refused) -> Submission:
        if answer.status == httpx.codes.SERVICE_UNAVAILABLE and self._plan.patience_seconds:
            limit = format_duration(self._plan.patience_seconds)
            raise Failed(f"The service has taken nothing for {limit}: {answer.message} ({answer.code})")
        error = dict(answer.error)
        if answer.code == LLMErrorCode.IDEMPOTENCY_CONFLICT and self._batch.receipts is not None:
            error["message"] = (
                "An earlier run has sent this line with another text, and that was accepted; "
                "put the line back to get its receipt."
            )
        return self._tell(line, REFUSED, correlation_id=answer.error.get("correlation_id"), error=error)

    def _tell(self, line: Line, status: str, **known: Any) -> Submission:
        half = None if self._batch.swaps is None else line.swapped
        return Submission(line.number, status, swapped=half, **known)


async def _breathe(number: int) -> None:
    """Lets the loop see to others, now and then, where a long file is passed over."""
    if not number % BREATHE_EVERY:
        await asyncio.sleep(0)


def _object(why: str) -> dict[str, Any]:
    return {"error_code": LLMErrorCode.INVALID_REQUEST.value, "message": why}
