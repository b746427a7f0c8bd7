"""A request as it stands in the queue, and a moment, for the tests of pure decisions."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from service.contracts.requests import LLMComparisonRequest, QueuedRequest

NOW = datetime(2025, 3, 14, 9, 27, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def now() -> datetime:
    """The moment at which everything here happens."""
    return NOW


@pytest.fixture(scope="session")
def queued() -> QueuedRequest:
    """A request that was accepted seven seconds ago, of a simulated run and with a trace."""
    correlation_id = UUID("5f0f6a9e-4f0b-4a53-8a4e-0a4f6f0d2c11")
    accepted = NOW - timedelta(seconds=7)
    return QueuedRequest(
        queue_id="0b9f1c62-6a51-4f0e-9d0a-3d9d1f6a7b10",
        correlation_id=correlation_id,
        callback_topic="results.one",
        request_data=LLMComparisonRequest(
            user_prompt="Which essay is better?",
            essay_a="The first essay.",
            essay_b="The second essay.",
            callback_topic="results.one",
            metadata={"pair": 17, "weights": [0.25, 1e22], "note": "å 🙂", "deep": {"a": [None, True]}},
            correlation_id=correlation_id,
        ),
        queued_at=accepted,
        expires_at=accepted + timedelta(hours=1),
        run_id="run-7",
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    )
