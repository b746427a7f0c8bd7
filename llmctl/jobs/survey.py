"""A batch of requests as a whole: what is in it, and whether it is still the one of its receipts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO
from uuid import UUID, uuid4

from llmctl.exits import UsageProblem
from llmctl.jobs.batches import Defaults, Line, read_lines
from llmctl.jobs.receipts import Receipts
from llmctl.jobs.swaps import NameKeys, add_swapped


@dataclass(frozen=True)
class Batch:
    """The requests of a run, and of the runs before it that had the same receipts."""

    file: BinaryIO
    defaults: Defaults
    swaps: NameKeys | None = None
    """Where given, each line is sent twice, the second time with the essays exchanged."""
    receipts: Receipts | None = None
    own_id: UUID = field(default_factory=uuid4)

    @property
    def id(self) -> UUID:
        """Of which keys and pairs are made."""
        return self.own_id if self.receipts is None else self.receipts.batch_id

    def read(self) -> Iterator[Line]:
        """Every request, from the first."""
        lines = read_lines(self.file, self.defaults)
        return lines if self.swaps is None else add_swapped(lines, self.id, self.swaps)


@dataclass(frozen=True)
class Survey:
    """What is known of a batch before anything is sent."""

    requests: int
    standing: int
    """So many of them have a receipt."""
    topics: frozenset[str]


def survey(batch: Batch) -> Survey:
    """Looks through a batch; UsageProblem where its lines are not those of the receipts."""
    requests = standing = 0
    topics: set[str] = set()
    receipts = batch.receipts
    for line in batch.read():
        requests += 1
        topics |= {line.callback_topic} if line.callback_topic else set()
        if receipts is not None and receipts.holds(line):
            standing += 1
            if line.body is None or receipts.is_changed(line):
                raise _refuse_change(line, receipts)
    if not requests:
        raise UsageProblem("There is nothing to submit: the file holds no line.")
    if receipts is not None and standing < receipts.standing.count:
        raise _refuse_other_batch(batch, receipts, standing)
    return Survey(requests, standing, frozenset(topics))


def _refuse_change(line: Line, receipts: Receipts) -> UsageProblem:
    return UsageProblem(
        f"Line {line.number} is not what was accepted as line {line.number} in {str(receipts.path)!r}: the "
        "file or the options have changed. Put them back to go on, or name other receipts for a new batch."
    )


def _refuse_other_batch(batch: Batch, receipts: Receipts, found: int) -> UsageProblem:
    path = str(receipts.path)
    if receipts.standing.swapped and batch.swaps is None:
        return UsageProblem(f"The receipts {path!r} are of a run with --swap-check; give it again to go on.")
    return UsageProblem(
        f"The receipts {path!r} hold {receipts.standing.count - found} requests that the file does not have "
        f"(the last is of line {receipts.standing.last_line}). Name other receipts for another file."
    )
