"""A clock that tests own, and requests to work on."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from service.contracts.requests import LLMComparisonRequest, QueuedRequest


@dataclass
class ManualClock:
    """A clock that stands still until it is moved."""

    seconds: float = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


MakeRequest = Callable[..., QueuedRequest]


@pytest.fixture
def make_request(clock: ManualClock) -> MakeRequest:
    """Makes requests that are accepted now and expire in an hour."""

    def make(**fields: Any) -> QueuedRequest:
        data = LLMComparisonRequest(
            **{
                "user_prompt": "Which is better?",
                "essay_a": "one",
                "essay_b": "two",
                "callback_topic": "results",
                **fields,
            }
        )
        return QueuedRequest(
            queue_id=str(uuid4()),
            correlation_id=data.correlation_id,
            callback_topic=data.callback_topic,
            request_data=data,
            queued_at=clock.now(),
            expires_at=clock.now() + timedelta(seconds=min(data.ttl_seconds or 3600, 1e6)),
        )

    return make
