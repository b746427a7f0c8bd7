"""Every way to end without a plain answer gives one callback with the right code, and counts what it cost."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from service.contracts.codec import open_envelope
from service.contracts.events import LLMComparisonResultV1
from tests.flow.conftest import Body
from tests.flow.judge import USAGE, Judge, completion
from tests.waiting import open_client

PATH = "/api/v1/comparison"
# gpt-4o-mini: 0.15 and 0.60 USD per million tokens.
COST = (1000 * 0.15 + 10 * 0.60) / 1_000_000
Ask = Callable[..., Awaitable[LLMComparisonResultV1]]


@pytest.fixture
def ask(start_judged: Callable[..., str], body: Body, topic: str, read_topic: Any) -> Ask:
    """Submits a request and a second one that marks the end; returns the only callback of the first."""

    async def run(**settings: str) -> LLMComparisonResultV1:
        async with open_client(start_judged(**settings)) as client:
            accepted = (await client.post(PATH, json=body)).json()["queue_id"]
            await asyncio.to_thread(read_topic, topic, 1)
            await client.post(PATH, json=body | {"ttl_seconds": 1e-9})
            records = await asyncio.to_thread(read_topic, topic, 2)
        results = [open_envelope(record.value()).data for record in records]
        (result,) = [result for result in results if result.request_id == accepted]
        return result

    return run


async def test_answer_that_misses_the_schema_is_repeated_and_then_told(ask: Ask, judge: Judge) -> None:
    judge.reply = lambda _: completion({"winner": "both", "justification": "x", "confidence": 0.5})
    result = await ask(MAX_ATTEMPTS="3")
    assert result.error_detail is not None
    assert result.error_detail.error_code == "LLM_INVALID_RESPONSE"
    assert judge.calls == 3
    assert result.token_usage.total_tokens == 3 * USAGE["total_tokens"]
    assert result.cost_estimate == pytest.approx(3 * COST)


async def test_justification_that_is_too_long_is_cut_and_not_lost(ask: Ask, judge: Judge) -> None:
    judge.reply = lambda _: completion({"winner": "essay_a", "justification": "ö" * 501, "confidence": 1})
    result = await ask()
    assert result.is_success
    assert result.justification == "ö" * 500


async def test_provider_that_fails_five_times_gives_one_error_callback(ask: Ask, judge: Judge) -> None:
    judge.reply = lambda _: (503, {"retry-after-ms": "1"}, b'{"error": {"message": "overloaded"}}')
    result = await ask()
    assert result.error_detail is not None
    assert result.error_detail.error_code == "LLM_PROVIDER_UNAVAILABLE"
    assert result.error_detail.details["attempts"] == 5
    assert judge.calls == 5


async def test_success_after_a_failure_counts_both(ask: Ask, judge: Judge) -> None:
    good = completion({"winner": "essay_b", "justification": "clear", "confidence": 0.9})
    judge.reply = lambda call: completion("no json") if call == 1 else good
    result = await ask()
    assert result.winner == "essay_b"
    assert result.token_usage.total_tokens == 2 * USAGE["total_tokens"]
    assert result.cost_estimate == pytest.approx(2 * COST)


@pytest.mark.apache
async def test_refused_key_ends_at_once_and_is_never_shown(ask: Ask, judge: Judge) -> None:
    judge.reply = lambda _: (401, {}, b'{"error": {"message": "Incorrect API key provided: fake-key"}}')
    result = await ask()
    assert result.error_detail is not None
    assert result.error_detail.error_code == "LLM_CONFIGURATION_ERROR"
    assert "fake-key" not in result.model_dump_json()
    assert judge.calls == 1
