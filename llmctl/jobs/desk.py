"""Where the requests of a run meet their answers and their callbacks; it keeps only what is still open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from llmctl.client.callbacks import CallbackRecord
from llmctl.jobs.flips import FlipTally
from llmctl.render.terminal import Terminal
from service.contracts.events import LLMComparisonResultV1

QUEUED, REFUSED, SUCCESS, ERROR, VALID = "queued", "refused", "success", "error", "valid"
MAX_ROWS = 50
"""So many requests are shown one by one in a table; of more only those that failed."""
MAX_FAILURES = 20


@dataclass(frozen=True, slots=True)
class Draft:
    """A request that is not sent: its body, and what it would take; None where that is not known."""

    body: Mapping[str, Any] | None
    tokens: int | None
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class Submission:
    """What became of one request."""

    line: int
    status: str
    queue_id: str | None = None
    correlation_id: str | None = None
    error: dict[str, Any] | None = None
    result: LLMComparisonResultV1 | None = None
    swapped: bool | None = None
    """Which of the two of its line it is; None where there is one."""
    draft: Draft | None = None

    def describe(self, *, waited: bool) -> dict[str, Any]:
        """The same as one JSON document."""
        document: dict[str, Any] = {
            "queue_id": self.queue_id,
            "correlation_id": self.correlation_id,
            "line": self.line,
            "status": self.status,
            "error": self.error,
        }
        if self.swapped is not None:
            document["swapped"] = self.swapped
        if self.draft is not None:
            document["body"] = self.draft.body
            document["estimated_tokens"] = self.draft.tokens
            document["estimated_cost_usd"] = self.draft.cost_usd
        if waited:
            document["result"] = None if self.result is None else self.result.model_dump(mode="json")
        return document

    @property
    def failed(self) -> bool:
        """Whether it did not come to a verdict, and never will."""
        return self.status in {REFUSED, ERROR}


class Desk:
    """Keeps what is still open, and tells what has become of a request as soon as it is final."""

    def __init__(
        self,
        terminal: Terminal,
        *,
        waits: bool = False,
        flips: FlipTally | None = None,
        keeps_rows: bool = False,
    ) -> None:
        self._waits = waits
        self._terminal = terminal
        self._flips = flips
        self._keeps_rows = keeps_rows
        self._open: dict[str, Submission] = {}
        # A callback can be faster than the answer that names it: then it has come after that request was
        # begun to be sent. What has come before all that are being sent now is somebody else's.
        self._ticks = count(1)
        self._now = 0
        self._under_way: dict[int, None] = {}
        self._early: dict[str, tuple[int, LLMComparisonResultV1]] = {}
        self.counts: Counter[str] = Counter()
        self.rows: list[Submission] = []
        self.failures: list[Submission] = []
        """Those of the lowest lines among the first that failed."""

    @property
    def missing(self) -> int:
        """How many callbacks are still awaited."""
        return len(self._open)

    @property
    def kept_early(self) -> int:
        """How many callbacks are kept that nobody is known to await."""
        return len(self._early)

    @property
    def total(self) -> int:
        """Of how many requests it is known what became of them."""
        return self.counts.total()

    @contextmanager
    def sending(self) -> Iterator[None]:
        """While a request is being sent: its callback can come before its answer."""
        self._now = next(self._ticks)
        tick = self._now
        self._under_way[tick] = None
        try:
            yield
        finally:
            del self._under_way[tick]
            self._forget_strangers()

    def expect(self, submission: Submission) -> None:
        """It was accepted before, and its callback is awaited."""
        assert submission.queue_id is not None
        self._open[submission.queue_id] = submission

    def take_answer(self, submission: Submission) -> None:
        """The service has answered, or was not asked."""
        if not self._waits or submission.queue_id is None:
            self._finish(submission)
        elif (early := self._early.pop(submission.queue_id, None)) is not None:
            self._finish(_join(submission, early[1]))
        else:
            self._open[submission.queue_id] = submission

    def take_callback(self, record: CallbackRecord) -> bool:
        """A callback has come. True where it was awaited."""
        if record.envelope is None:
            return False
        result = record.envelope.data
        submission = self._open.pop(result.request_id, None)
        if submission is not None:
            self._finish(_join(submission, result))
            return True
        if self._under_way:
            self._early.setdefault(result.request_id, (self._now, result))
        return False

    def close(self) -> None:
        """What is still open stays as it is."""
        while self._open:
            self._finish(self._open.popitem()[1])

    def _forget_strangers(self) -> None:
        oldest = next(iter(self._under_way), None)
        while self._early:
            first = next(iter(self._early))
            if oldest is not None and self._early[first][0] >= oldest:
                return
            del self._early[first]

    def _finish(self, submission: Submission) -> None:
        self.counts[submission.status] += 1
        if self._flips is not None:
            self._flips.take(submission.line, submission.result)
        if submission.failed and len(self.failures) < MAX_FAILURES:
            self.failures.append(submission)
        if self._terminal.as_json:
            self._terminal.write(submission.describe(waited=self._waits))
        elif self._keeps_rows:
            self.rows.append(submission)


def _join(submission: Submission, result: LLMComparisonResultV1) -> Submission:
    error = result.error_detail
    return replace(
        submission,
        status=SUCCESS if error is None else ERROR,
        error=None if error is None else error.model_dump(mode="json"),
        result=result,
    )
