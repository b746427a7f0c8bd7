"""What is asked of OpenAI, and what is made of its answers."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import respx

from service.contracts.enums import EssayComparisonWinner, LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.core.errors import ProviderFailure
from service.core.outcome import Usage
from service.core.prompt import ANSWER_SCHEMA
from service.core.records import ProviderCall
from service.providers.openai import OpenAI
from service.providers.remote import RemoteProvider

Call = Callable[..., ProviderCall]
Completion = Callable[..., dict[str, Any]]


def sent(route: respx.Route) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(route.calls.last.request.content)
    return document


async def test_good_answer(
    provider: RemoteProvider, route: respx.Route, make_call: Call, completion: Completion
) -> None:
    """A good answer becomes a judgement with the model's full name, all tokens and their cost."""
    route.respond(json=completion())
    reply = await provider.compare(make_call())
    assert reply.judgement.winner is EssayComparisonWinner.ESSAY_B
    assert (reply.judgement.justification, reply.judgement.confidence) == ("canary-answer", 0.75)
    assert reply.model == "gpt-4o-mini-2024-07-18"
    cost = (600 * 0.15 + 400 * 0.075 + 200 * 0.60) / 1_000_000
    assert replace(reply.usage, cost_usd=0.0) == Usage(1000, 200, 400, 50)
    assert reply.usage.cost_usd == pytest.approx(cost)


async def test_request(
    provider: RemoteProvider, route: respx.Route, make_call: Call, completion: Completion
) -> None:
    """The request asks for the answer's schema strictly and carries the key in one header only."""
    route.respond(json=completion())
    await provider.compare(make_call())
    request = route.calls.last.request
    assert request.headers["authorization"] == "Bearer sk-canary-7f3a91"
    assert request.headers["accept"] == "application/json"
    assert request.headers["host"] == "judge.example"
    assert int(request.headers["content-length"]) == len(request.content)
    assert "sk-canary" not in str(request.url)
    assert b"sk-canary" not in request.content
    assert sent(route) == {
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
async def test_temperature(
    provider: RemoteProvider,
    route: respx.Route,
    make_call: Call,
    completion: Completion,
    model: str,
    temperature: float | None,
    expected: float | None,
) -> None:
    """The temperature is sent where it is given and the model accepts one."""
    route.respond(json=completion())
    await provider.compare(make_call(model=model, temperature=temperature))
    assert sent(route).get("temperature") == expected


async def test_token_limit(
    provider: RemoteProvider, route: respx.Route, make_call: Call, completion: Completion
) -> None:
    """A limit on the answer is sent under the name that all of the models take."""
    route.respond(json=completion())
    await provider.compare(make_call(max_tokens=300))
    assert sent(route)["max_completion_tokens"] == 300
    assert "max_tokens" not in sent(route)


@pytest.mark.parametrize(
    ("changes", "code", "retryable"),
    [
        ({"reason": "length", "content": '{"winner": "ess'}, LLMErrorCode.INVALID_RESPONSE, False),
        ({"reason": "content_filter", "content": None}, LLMErrorCode.INVALID_RESPONSE, False),
        ({"content": None, "refusal": "canary-answer"}, LLMErrorCode.INVALID_RESPONSE, False),
        ({"content": None}, LLMErrorCode.PARSING_ERROR, True),
        ({"content": "canary-answer"}, LLMErrorCode.PARSING_ERROR, True),
        ({"content": '{"winner":"canary-answer"}'}, LLMErrorCode.INVALID_RESPONSE, True),
    ],
    ids=["length", "filter", "refusal", "no content", "no JSON", "other schema"],
)
async def test_unusable_answer(
    provider: RemoteProvider,
    route: respx.Route,
    make_call: Call,
    completion: Completion,
    secrets: tuple[str, ...],
    changes: dict[str, Any],
    code: LLMErrorCode,
    retryable: bool,
) -> None:
    """An answer that cannot be used still says what it cost and who gave it, and is never quoted."""
    route.respond(json=completion(**changes), headers={"x-request-id": "req_9"})
    with pytest.raises(ProviderFailure) as caught:
        await provider.compare(make_call())
    failure = caught.value
    assert (failure.code, failure.retryable) == (code, retryable)
    assert failure.usage.total_tokens == 1200
    assert failure.usage.cost_usd > 0
    assert failure.model == "gpt-4o-mini-2024-07-18"
    assert not failure.may_be_billed
    assert failure.details["provider_request_id"] == "req_9"
    assert not any(secret in repr(failure) + str(failure) for secret in secrets)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b"{}",
        b'{"choices":[]}',
        b'{"choices":[1]}',
        b'{"choices":[{}]}',
        b"\xff\xfe",
        b'{"choices":' + b"[" * 3000 + b"]" * 3000 + b"}",
        b'{"choices":[{"message":',
        b'{"error":{"code":1}}',
    ],
)
async def test_malformed_body(
    provider: RemoteProvider, route: respx.Route, make_call: Call, body: bytes
) -> None:
    """A 200 without a chat completion in it is tried again and may have been billed."""
    route.respond(content=body)
    with pytest.raises(ProviderFailure) as caught:
        await provider.compare(make_call())
    assert caught.value.code is LLMErrorCode.PARSING_ERROR
    assert caught.value.retryable
    assert caught.value.may_be_billed
    assert caught.value.model == "gpt-4o-mini"


@pytest.mark.parametrize(
    "usage", [{"prompt_tokens": -5}, {"prompt_tokens": "9"}, {"prompt_tokens": True}, {"a": 1}]
)
async def test_strange_usage(
    provider: RemoteProvider,
    route: respx.Route,
    make_call: Call,
    completion: Completion,
    usage: dict[str, Any],
) -> None:
    """Token counts that are none count as nothing and cost the answer nothing."""
    route.respond(json=completion(usage=usage))
    reply = await provider.compare(make_call())
    assert reply.usage == Usage()


async def test_unwritable_prompt(provider: RemoteProvider, route: respx.Route, make_call: Call) -> None:
    """A prompt that cannot be written as UTF-8 is refused before anything is sent."""
    with pytest.raises(ProviderFailure) as caught:
        await provider.compare(make_call(user_prompt="\ud800"))
    assert caught.value.code is LLMErrorCode.INVALID_PROMPT
    assert not caught.value.retryable
    assert not route.called


@pytest.mark.parametrize("key", ["", "a b", "a\nb", "schlüssel"])
def test_key_that_no_header_carries(key: str) -> None:
    """A key that cannot be sent is refused at the start, without being shown."""
    with pytest.raises(ValueError, match="API key") as caught:
        OpenAI(api_key=key, base_url="https://judge.example/v1")
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "judge.example/v1",
        "ftp://judge.example/v1",
        "https://u:p@judge.example/v1",
        "https://a/v1?k=1",
        "http://[::1/v1",
    ],
)
def test_base_url_that_cannot_be_called(url: str) -> None:
    """A base URL that is none, or that carries a secret, is refused at the start."""
    with pytest.raises(ValueError, match="base URL"):
        OpenAI(api_key="k", base_url=url)


def test_repr_and_name(provider: RemoteProvider) -> None:
    """The provider shows where it calls and never its key."""
    assert repr(provider) == (
        "RemoteProvider('openai at https://judge.example/v1', default_model='gpt-4o-mini')"
    )
    assert provider.name is LLMProviderType.OPENAI
    assert provider.default_model == "gpt-4o-mini"
    assert provider.find_objection("gpt-4o", None) is None
    assert "gpt-4o-mini" in provider.models
