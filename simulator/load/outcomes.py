"""What the end of an attempt says about its request: accepted, rejected, never sent, or not clear yet."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from simulator.load.connection import Answered, Broken, Outcome, Unreachable
from simulator.load.submits import SubmitEnd

_ACCEPTED = 202
_PASSED_ON = frozenset({502, 504})
"""A gateway's word about a service that it got no answer from."""
_SAYS_NOTHING_OF_THE_FIRST = frozenset({401, 403, 408, 425, 429})
"""Refusals of a repeated request that do not tell whether the first one was accepted."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an outcome means for the request; AMBIGUOUS is: not clear yet."""

    end: SubmitEnd
    queue_id: str | None = None
    status: int | None = None
    error_code: str | None = None
    reason: str | None = None
    retry_after_seconds: float | None = None


def judge_outcome(outcome: Outcome, *, doubtful: bool) -> Judgement:
    """What the end of an attempt says about a request that is, or is not, in doubt already."""
    match outcome:
        case Broken(reason):
            return Judgement(SubmitEnd.AMBIGUOUS, reason=reason)
        case Unreachable(reason):
            return Judgement(SubmitEnd.AMBIGUOUS if doubtful else SubmitEnd.UNREACHABLE, reason=reason)
        case Answered(status, body, retry_after_seconds):
            if status == _ACCEPTED:
                queue_id = _read(body, "queue_id")
                if queue_id is None:
                    return Judgement(SubmitEnd.AMBIGUOUS, status=status, reason="the 202 names no queue_id")
                return Judgement(SubmitEnd.ACCEPTED, queue_id, status)
            unclear = status in _PASSED_ON or (
                doubtful and (status >= 500 or status in _SAYS_NOTHING_OF_THE_FIRST)
            )
            return Judgement(
                SubmitEnd.AMBIGUOUS if unclear else SubmitEnd.REJECTED,
                status=status,
                error_code=_read(body, "error", "error_code"),
                reason=f"the answer was {status}" if unclear else None,
                retry_after_seconds=retry_after_seconds,
            )


def _read(body: bytes, *names: str) -> str | None:
    """A text in a JSON document, None where it has none there."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, str) else None
