"""What is asked of OpenAI, and what is made of its answers."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
import respx

from service.contracts.enums import EssayComparisonWinner, LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.core.errors import ProviderFailure
from service.core.outcome import ProviderReply, Usage
from service.core.prompt import ANSWER_SCHEMA
from service.providers.remote import RemoteProvider
from tests.ports.making import make_call

Fail = Callable[..., Awaitable[ProviderFailure]]
Completion = Callable[..., dict[str, Any]]


@pytest.fixture
def ask(provider: RemoteProvider, route: respx.Route, completion: Completion) -> Any:
    """Makes a call that is answered well; returns the reply, and the request as it was sent."""

    async def ask(usage: Any = None, **changes: Any) -> tuple[ProviderReply, httpx.Request]:
        route.respond(json=completion(usage=usage))
        reply = await provider.compare(make_call(**changes))
        return reply, route.calls.last.request

    return ask


async def test_good_answer_becomes_a_judgement_with_model_tokens_and_cost(ask: Any) -> None:
    reply, _ = await ask()
    assert reply.judgement.winner is EssayComparisonWinner.ESSAY_B
    assert (reply.judgement.justification, reply.judgement.confidence) == ("canary-answer", 0.75)
    assert reply.model == "gpt-4o-mini-2024-07-18"
    cost = (600 * 0.15 + 400 * 0.075 + 200 * 0.60) / 1_000_000
    assert replace(reply.usage, cost_usd=0.0) == Usage(1000, 200, 400, 50)
    assert reply.usage.cost_usd == pytest.approx(cost)


async def test_request_asks_for_the_schema_and_has_the_key_in_one_header(ask: Any) -> None:
    _, request = await ask()
    assert request.headers["authorization"] == "Bearer sk-canary-7f3a91"
    assert request.headers["accept"] == "application/json"
    assert request.headers["host"] == "judge.example"
    assert int(request.headers["content-length"]) == len(request.content)
    assert "sk-canary" not in str(request.url)
    assert b"sk-canary" not in request.content
    assert json.loads(request.content) == {
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "system", "content": "canary-system"},
            {"role": "user", "content": "canary-essay"},
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "essay_comparison", "strict": True, "schema": ANSWER_SCHEMA},
        },
    }


@pytest.mark.parametrize(
    ("model", "temperature", "expected"),
    [("gpt-4o", 0.0, 0.0), ("gpt-4o", None, None), ("o4-mini", 0.3, None), ("o4-mini-2025-04-16", 0.3, None)],
)
async def test_temperature_is_sent_if_the_model_accepts_one(
    ask: Any, model: str, temperature: float | None, expected: float | None
) -> None:
    _, request = await ask(model=model, temperature=temperature)
    assert json.loads(request.content).get("temperature") == expected


async def test_token_limit_is_sent_as_max_completion_tokens(ask: Any) -> None:
    _, request = await ask(max_tokens=300)
    assert json.loads(request.content)["max_completion_tokens"] == 300
    assert "max_tokens" not in json.loads(request.content)


@pytest.mark.parametrize(
    "usage", [{"prompt_tokens": -5}, {"prompt_tokens": "9"}, {"prompt_tokens": True}, {"a": 1}]
)
async def test_strange_token_counts_count_as_nothing(ask: Any, usage: dict[str, Any]) -> None:
    reply, _ = await ask(usage)
    assert reply.usage == Usage()


async def test_answer_without_content_has_its_cost(fail: Fail, completion: Completion) -> None:
    failure = await fail(json=completion(None), headers={"x-request-id": "req_9"})
    assert (failure.code, failure.retryable) == (LLMErrorCode.PARSING_ERROR, True)
    assert failure.usage.total_tokens == 1200
    assert failure.usage.cost_usd > 0
    assert failure.model == "gpt-4o-mini-2024-07-18"
    assert not failure.may_be_billed
    assert failure.details["provider_request_id"] == "req_9"


async def test_prompt_with_a_lone_surrogate_is_refused_before_the_call(
    provider: RemoteProvider, route: respx.Route
) -> None:
    with pytest.raises(ProviderFailure) as caught:
        await provider.compare(make_call(user_prompt="\ud800"))
    assert caught.value.code is LLMErrorCode.INVALID_PROMPT
    assert not caught.value.retryable
    assert not route.called


def test_repr_shows_the_address_and_not_the_key(provider: RemoteProvider) -> None:
    assert repr(provider) == (
        "RemoteProvider('openai at https://judge.example/v1', default_model='gpt-4o-mini')"
    )
    assert provider.name is LLMProviderType.OPENAI
    assert provider.default_model == "gpt-4o-mini"
    assert provider.find_objection("gpt-4o", None) is None
    assert "gpt-4o-mini" in provider.models
