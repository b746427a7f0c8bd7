"""What became of each intended request at the door: what a sender records and reports are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from simulator.load.ledger import Accepted, Rejected


class SubmitEnd(StrEnum):
    """How an intended request ended at the door."""

    ACCEPTED = "accepted"
    """202: one callback must come."""
    REJECTED = "rejected"
    """Any other clear answer: no callback may come."""
    AMBIGUOUS = "ambiguous"
    """It was sent, and whether it was accepted was not to be found out: a callback may come."""
    UNREACHABLE = "unreachable"
    """It was never sent, for there was no connection."""
    SKIPPED = "skipped"
    """It was never sent, for too many requests were open already."""


@dataclass(frozen=True, slots=True)
class Submit:
    """One intended request. Moments are seconds of CLOCK_MONOTONIC, one clock for all processes."""

    number: int
    """Its place in the run, from 0 on; unique within the run."""
    end: SubmitEnd
    intended: float
    sent: float | None
    """When it was first handed to the connections; None where it was skipped."""
    ended: float
    """When the end was known; for an accepted one, when the 202 came."""
    attempts: int
    """How often it was sent: more than once only after an unclear end, with the same Idempotency-Key."""
    was_ambiguous: bool
    """Whether an attempt had an unclear end, however it was cleared up."""
    correlation_id: str | None
    """None where it was skipped, as is the topic."""
    callback_topic: str | None
    queue_id: str | None = None
    status: int | None = None
    error_code: str | None = None
    reason: str | None = None
    """Why it is ambiguous or unreachable, in half a sentence."""

    def to_fact(self) -> Accepted | Rejected | None:
        """What the ledger is to know of it; None where nothing is owed and nothing forbidden."""
        if self.end is SubmitEnd.ACCEPTED:
            assert self.queue_id is not None
            assert self.callback_topic is not None
            return Accepted(self.queue_id, UUID(self.correlation_id), self.callback_topic, self.ended)
        if self.end is SubmitEnd.REJECTED:
            assert self.status is not None
            return Rejected(self.status, self.error_code)
        return None

    def pack(self) -> tuple[Any, ...]:
        """All of it as a row that JSON takes."""
        return (
            self.number,
            self.end,
            self.intended,
            self.sent,
            self.ended,
            self.attempts,
            self.was_ambiguous,
            self.correlation_id,
            self.callback_topic,
            self.queue_id,
            self.status,
            self.error_code,
            self.reason,
        )

    @classmethod
    def unpack(cls, row: Sequence[Any]) -> Submit:
        """The submit that `pack` made the row of."""
        return cls(row[0], SubmitEnd(row[1]), *row[2:])
