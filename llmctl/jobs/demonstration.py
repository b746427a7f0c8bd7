"""`demo`: the whole way once, on this machine alone, with a proof at the end that nothing was lost."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from llmctl.client.callbacks import CallbackRecord, CallbackStream, open_callbacks
from llmctl.client.http import Refused
from llmctl.client.service import ServiceClient, open_service
from llmctl.client.topics import TopicWish, bootstrap_topics
from llmctl.exits import CallbackProblem, Failed, LimitNotMet
from llmctl.jobs.batches import Defaults, Line, read_lines
from llmctl.jobs.verdict import Comparison, Demonstration, show_demonstration
from llmctl.loop import own_tasks
from llmctl.render.progress import ProgressLine, progress_line
from llmctl.render.terminal import Terminal
from service.contracts.topics import PLATFORM_TOPICS
from simulator.essays import load_essays, pairs_path
from simulator.load.ledger import Accepted, Ledger, Received, Rejected
from simulator.stack import Stack, StackError, StackPlan

TOPIC = PLATFORM_TOPICS[0]
CONCURRENCY = 8
POLL_SECONDS = 0.1
QUIET_SECONDS = 0.3
"""A second callback to a request would follow the first closely; so long it is waited for after the last."""


@dataclass
class Course:
    """What has happened so far: the ledger's facts, and the comparisons for the table."""

    ledger: Ledger = field(default_factory=Ledger)
    lines: dict[str, Line] = field(default_factory=dict)
    records: dict[str, CallbackRecord] = field(default_factory=dict)
    all_submitted: asyncio.Event = field(default_factory=asyncio.Event)


async def demonstrate(limit_seconds: float, terminal: Terminal) -> None:
    """Runs the demonstration; CallbackProblem, LimitNotMet or Failed where it did not go as promised."""
    started = time.monotonic()
    course = Course()
    in_time = await _run(course, limit_seconds, terminal)
    report = course.ledger.report()
    shown = Demonstration(
        report=report,
        comparisons=_compare(course),
        seconds=time.monotonic() - started,
        exit_code=report.exit_code or (0 if in_time and not report.failed and not report.rejected else 1),
    )
    if not in_time and not shown.comparisons:
        raise LimitNotMet(f"The demo did not come to its first callback within {limit_seconds:g} s.")
    show_demonstration(shown, terminal)
    if not in_time:
        raise LimitNotMet(
            f"{report.missing} of {report.accepted} callbacks are missing after {limit_seconds:g} s."
        )
    if not report.sound:
        raise CallbackProblem(
            "The ledger does not balance: the demo lost or doubled a callback, or got a wrong one."
        )
    if report.failed or report.rejected:
        raise Failed(f"{report.failed} comparisons ended in an error and {report.rejected} were refused.")


async def _run(course: Course, limit_seconds: float, terminal: Terminal) -> bool:
    """Starts everything, does the work, stops everything; False where the time limit cut it short."""
    with tempfile.TemporaryDirectory(prefix="llmctl-demo-") as folder, progress_line(terminal) as progress:
        stack = Stack(StackPlan(Path(folder)))
        try:
            async with AsyncExitStack() as closing:
                async with asyncio.timeout(limit_seconds):
                    progress.begin("starting broker, provider and service")
                    await closing.enter_async_context(stack)
                    async with own_tasks() as tasks:
                        watch = tasks.create_task(stack.wait(), name="watch the stack")
                        await _work(course, stack, progress)
                        watch.cancel()
        except TimeoutError:
            return False
        except StackError as problem:
            raise Failed(str(problem)) from problem
        finally:
            for note in stack.notes:
                terminal.say(note, "yellow")
    return True


async def _work(course: Course, stack: Stack, progress: ProgressLine) -> None:
    where = stack.addresses
    await bootstrap_topics(where.kafka, [TopicWish(TOPIC)])
    with pairs_path().open("rb") as file:
        lines = list(read_lines(file, Defaults(callback_topic=TOPIC)))
    async with (
        open_callbacks(where.kafka, [TOPIC]) as stream,
        open_service(where.service_url) as service,
        own_tasks() as tasks,
    ):
        progress.begin("comparing essays", len(lines))
        tasks.create_task(_listen(course, stream, progress), name="listen")
        await _submit_all(course, lines, service)
        course.all_submitted.set()


async def _submit_all(course: Course, lines: Sequence[Line], service: ServiceClient) -> None:
    waiting = iter(lines)

    async def work() -> None:
        for line in waiting:  # shared: each worker takes the next one
            answer = await service.submit(line.encode())
            if isinstance(answer, Refused):
                course.ledger.fold(Rejected(answer.status, answer.code or None))
                continue
            course.lines[answer.queue_id] = line
            course.ledger.fold(
                Accepted(answer.queue_id, answer.correlation_id, answer.callback_topic, time.monotonic())
            )

    async with own_tasks() as tasks:
        for _ in range(CONCURRENCY):
            tasks.create_task(work())


async def _listen(course: Course, stream: CallbackStream, progress: ProgressLine) -> None:
    """Takes callbacks until every request has one and it has been quiet for a while."""
    quiet_since = time.monotonic()
    while (
        course.ledger.outstanding
        or not course.all_submitted.is_set()
        or (time.monotonic() - quiet_since < QUIET_SECONDS)
    ):
        for record in await stream.read(POLL_SECONDS):
            quiet_since = time.monotonic()
            course.ledger.fold(Received(record.topic, record.key, record.headers, record.value, quiet_since))
            if record.envelope is not None and record.envelope.data.request_id not in course.records:
                course.records[record.envelope.data.request_id] = record
                progress.advance()


def _compare(course: Course) -> tuple[Comparison, ...]:
    """What the judge said of every pair, beside what is known of its essays; in the order of the file."""
    ranks = {essay.id: essay.rank for essay in load_essays()}
    found = []
    for queue_id, line in sorted(course.lines.items(), key=lambda item: item[1].number):
        record = course.records.get(queue_id)
        if record is not None and line.body is not None:
            metadata = json.loads(json.dumps(line.body["metadata"]))
            essays = (str(metadata["essay_a_id"]), str(metadata["essay_b_id"]))
            found.append(
                Comparison(str(metadata["pair_id"]), essays, (ranks[essays[0]], ranks[essays[1]]), record)
            )
    return tuple(found)
