"""`audit`: reads the topics of accepted requests to their end, and says what does not fit."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from llmctl.auditing import Audit, Expectation, Problem
from llmctl.callback_checks import Fault
from llmctl.client.callbacks import CallbackStream, Start, open_callbacks
from llmctl.client.http import refuse_stranger
from llmctl.client.kafka import name_near
from llmctl.client.operators import OperatorClient, open_operator
from llmctl.client.topics import read_topics
from llmctl.exits import CallbackProblem, UsageProblem
from llmctl.jobs.receipt import Receipt
from llmctl.jobs.receipt_files import read_receipt_file
from llmctl.render.progress import progress_line
from llmctl.render.tables import BAD, DIM, GOOD, cell, make_table
from llmctl.render.terminal import Terminal
from llmctl.targets import Target
from simulator.kafka_address import KafkaAddress
from simulator.quantities import format_duration

POLL_SECONDS = 0.25
CLOCK_MARGIN_SECONDS = 600.0
"""By how much our clock, the service's and the broker's may differ when reading begins by time."""
PAGE_SIZE = 5000
SHOWN_AT_MOST = 50
SHOWN_HINTS = 3


@dataclass(frozen=True)
class AuditPlan:
    """What to hold against the topics."""

    receipts: str | None
    """A file of receipts, `-` is standard input; None is the service's journal."""
    topics: Sequence[str] = ()
    """Only requests for these; none is for all."""
    since_unix_seconds: float | None = None
    late_after_seconds: float | None = None
    wait_seconds: float = 5.0
    """So long is waited for callbacks that are not there yet."""

    def wants(self, expectation: Expectation) -> bool:
        """Whether a request is part of the audit."""
        recent = expectation.accepted_unix_seconds >= (self.since_unix_seconds or 0)
        return recent and (not self.topics or expectation.topic in self.topics)


async def audit(plan: AuditPlan, target: Target, terminal: Terminal) -> None:
    """Compares and reports; CallbackProblem where anything does not fit."""
    with progress_line(terminal, counted=False) as progress:
        progress.begin("reading what was accepted")
        judged = await _collect(plan, target)
        if not judged.expected:
            raise UsageProblem(
                "There is nothing to audit: "
                + ("the receipts name" if plan.receipts else "the service's journal names")
                + " no request that was asked for."
            )
        progress.begin(f"reading the callbacks of {judged.expected} requests")
        hints = await _read_topics(judged, plan, target.kafka)
    for hint in hints[:SHOWN_HINTS]:
        terminal.say(hint, "yellow")
    _report(judged, plan, terminal)


async def _collect(plan: AuditPlan, target: Target) -> Audit:
    if plan.receipts is not None:
        found = map(_expect, read_receipt_file(plan.receipts))
        return Audit((each for each in found if plan.wants(each)), plan.late_after_seconds)
    async with open_operator(target.url, target.bearer_token) as operator:
        entries = [_read_entry(each, target.url) async for each in operator.read_journal(PAGE_SIZE)]
        expected = filter(plan.wants, entries)
        judged = Audit(expected, plan.late_after_seconds)
        judged.note_undelivered([each async for each in _read_undelivered(operator)])
        return judged


def _expect(receipt: Receipt) -> Expectation:
    return Expectation(
        receipt.queue_id,
        receipt.callback_topic,
        receipt.correlation_id,
        receipt.accepted_ms / 1000,
        receipt.line,
    )


def _read_entry(entry: Mapping[str, Any], url: str) -> Expectation:
    try:
        return Expectation(
            str(entry["queue_id"]),
            str(entry["topic"]),
            str(entry["correlation_id"]),
            float(entry["accepted_unix_seconds"]),
        )
    except (KeyError, TypeError, ValueError):
        raise refuse_stranger(url, 200) from None


async def _read_undelivered(operator: OperatorClient) -> AsyncIterator[str]:
    after: int | None = 0
    while after is not None:
        page = await operator.list_undelivered(after, PAGE_SIZE // 5)
        for each in page.items:
            yield each.queue_id
        after = page.next


async def _read_topics(judged: Audit, plan: AuditPlan, kafka: KafkaAddress) -> list[str]:
    """Judges what stands there; returns a sentence for each topic that does not exist."""
    existing = await read_topics(kafka)
    topics = [topic for topic in judged.list_topics() if topic in existing]
    hints = [
        _say_absent(each, kafka, list(existing)) for each in judged.list_topics() if each not in existing
    ]
    if not topics:
        return hints  # then all are missing, and the report says where
    begin = judged.find_earliest_unix_seconds() - CLOCK_MARGIN_SECONDS
    async with open_callbacks(kafka, topics, Start(since_milliseconds=int(begin * 1000))) as stream:
        async for batch in stream.read_standing():
            for record in batch:
                judged.take(record)
        await _wait_for_the_rest(judged, stream, plan.wait_seconds)
    return hints


def _say_absent(topic: str, kafka: KafkaAddress, existing: list[str]) -> str:
    near = name_near(topic, existing)
    # To create it now would bring no callback back.
    return f"There is no topic {topic!r} at {kafka}{f'; {near}' if near.endswith('?') else '.'}"


async def _wait_for_the_rest(judged: Audit, stream: CallbackStream, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    while judged.missing and (left := deadline - time.monotonic()) > 0:
        for record in await stream.read(min(POLL_SECONDS, left)):
            judged.take(record)


def _report(judged: Audit, plan: AuditPlan, terminal: Terminal) -> None:
    counts: Counter[Fault] = Counter(problem.fault for problem in judged.list_problems())
    answers, errors = judged.count_outcomes()
    if terminal.as_json:
        terminal.write(
            {
                "expected": judged.expected,
                "success": answers,
                "error": errors,
                "faults": {fault.value.replace(" ", "_"): counts[fault] for fault in Fault},
                "others": judged.others,
                "late_after_seconds": plan.late_after_seconds,
                "problems": [_describe(problem) for problem in judged.list_problems()],
            }
        )
    else:
        _show(judged.list_problems(), counts.total(), terminal)
        terminal.say(
            f"{judged.expected} accepted · {answers} answered · {errors} told an error"
            + "".join(f" · {counts[fault]} {fault}" for fault in Fault if counts[fault])
            + (f" · {judged.others} of others" if judged.others else ""),
            BAD if counts else GOOD,
        )
        if plan.late_after_seconds is None:
            terminal.say("Whether they came in time was not judged; --late DURATION does.", DIM)
    if counts:
        said = ", ".join(f"{counts[fault]} {fault}" for fault in Fault if counts[fault])
        waited = f" after {format_duration(plan.wait_seconds)} of waiting" if counts[Fault.MISSING] else ""
        raise CallbackProblem(f"The topics do not hold what was promised: {said}{waited}.")


def _show(problems: Iterator[Problem], total: int, terminal: Terminal) -> None:
    if not total:
        return
    table = make_table(("fault", "request", "where", "what"), flexible=("where", "what"))
    for problem in islice(problems, SHOWN_AT_MOST):
        expectation = problem.expectation
        where = ", ".join(map(str, problem.positions)) or (expectation and expectation.topic)
        table.add_row(
            cell(problem.fault, BAD),
            cell(expectation and expectation.queue_id),
            cell(where, DIM, wrap=True),
            cell(problem.message, wrap=True),
        )
    terminal.show(table)
    if total > SHOWN_AT_MOST:
        terminal.say(f"{total - SHOWN_AT_MOST} more are not shown; --output json lists them all.")


def _describe(problem: Problem) -> dict[str, Any]:
    expectation = problem.expectation
    return {
        "fault": problem.fault.value.replace(" ", "_"),
        "queue_id": expectation and expectation.queue_id,
        "correlation_id": expectation and expectation.key,
        "callback_topic": expectation and expectation.topic,
        "line": expectation and expectation.line,
        "message": problem.message,
        "records": [
            {"topic": each.topic, "partition": each.partition, "offset": each.offset}
            for each in problem.positions
        ],
    }
