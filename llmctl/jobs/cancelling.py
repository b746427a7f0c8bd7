"""`cancel`: takes requests back, a few at a time, and says what became of each."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llmctl.client.cancellation import cancel
from llmctl.client.http import Refused, open_http
from llmctl.exits import Failed, UsageProblem
from llmctl.jobs.batches import STANDARD_INPUT
from llmctl.jobs.receipt_files import read_receipt_file
from llmctl.loop import own_tasks
from llmctl.render.progress import progress_line
from llmctl.render.tables import BAD, GOOD, cell, make_table
from llmctl.render.terminal import Terminal
from llmctl.targets import Target

CONCURRENCY = 16
SHOWN_AT_MOST = 20
CANCELLED, TOO_LATE, REFUSED = "cancelled", "too late", "refused"
_NOT_FOUND = 404


@dataclass(frozen=True)
class Cancelled:
    """What became of one id."""

    queue_id: str
    refusal: Refused | None

    @property
    def status(self) -> str:
        """In a word."""
        if self.refusal is None:
            return CANCELLED
        return TOO_LATE if self.refusal.status == _NOT_FOUND else REFUSED

    def describe(self) -> dict[str, Any]:
        """The same as one JSON document."""
        error = None if self.refusal is None else self.refusal.error
        return {"queue_id": self.queue_id, "status": self.status.replace(" ", "_"), "error": error}


def read_ids(given: Sequence[str]) -> list[str]:
    """The ids as they were given, each once; `-` stands for those on standard input, one a line."""
    ids: list[str] = []
    for each in given:
        ids += sys.stdin.read().split() if each == STANDARD_INPUT else [each]
    if not ids:
        raise UsageProblem("There is nothing to cancel: standard input names no queue id.")
    return list(dict.fromkeys(ids))


def read_receipt_ids(path: str) -> list[str]:
    """The ids of all receipts in a file, `-` is standard input; UsageProblem where there is none."""
    ids = [receipt.queue_id for receipt in read_receipt_file(path)]
    if not ids:
        raise UsageProblem(f"There is nothing to cancel: {path!r} holds no receipt.")
    return list(dict.fromkeys(ids))


async def cancel_and_report(queue_ids: Sequence[str], target: Target, terminal: Terminal) -> None:
    """Cancels each; Failed names how many could not be."""
    ended: list[Cancelled] = []
    url = target.url
    try:
        with progress_line(terminal) as progress:
            progress.begin("cancelling", len(queue_ids))
            async with open_http(url, target.bearer_token) as client, own_tasks() as tasks:

                async def work(ids: Iterator[str]) -> None:
                    for queue_id in ids:  # shared: each worker takes the next one
                        one = Cancelled(queue_id, await cancel(client, url, queue_id))
                        ended.append(one)
                        if terminal.as_json:
                            terminal.write(one.describe())
                        progress.advance()

                waiting = iter(queue_ids)
                for _ in range(min(CONCURRENCY, len(queue_ids))):
                    tasks.create_task(work(waiting))
    finally:
        _report(ended, terminal)
    _judge(ended)


def _report(ended: Sequence[Cancelled], terminal: Terminal) -> None:
    if terminal.as_json or not ended:
        return
    many = len(ended) > SHOWN_AT_MOST
    shown = [one for one in ended if one.refusal is not None or not many][:SHOWN_AT_MOST]
    if shown:
        table = make_table(
            ("request", "status", "what the service says"), flexible=("what the service says",)
        )
        for one in shown:
            good = one.refusal is None
            said = "its callback says so" if one.refusal is None else one.refusal.message
            table.add_row(cell(one.queue_id), cell(one.status, GOOD if good else BAD), cell(said, wrap=True))
        terminal.show(table)
    if many:
        cancelled = sum(one.refusal is None for one in ended)
        terminal.say(f"{cancelled} of {len(ended)} cancelled; --output json lists them all.")


def _judge(ended: Iterable[Cancelled]) -> None:
    failed = [one for one in ended if one.refusal is not None]
    if not failed:
        return
    first = failed[0]
    assert first.refusal is not None
    others = f"{len(failed)} requests were not cancelled, the first" if len(failed) > 1 else "Not cancelled:"
    raise Failed(f"{others} {first.queue_id}: {first.refusal.message} ({first.refusal.code})")
