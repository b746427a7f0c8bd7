"""What the simulated APIs have alike: equal calls, equal answers; every ending and trouble has a shape."""

import json
from dataclasses import replace
from typing import Any

import orjson
import pytest

from service.contracts.enums import LLMProviderType
from service.contracts.requests import LLMComparisonRequest
from service.core.prompt import compose_user_prompt
from service.providers.catalogue import CATALOGUE
from simulator.essays import load_essays
from simulator.provider import catalogue
from simulator.provider.anthropic import AnthropicApi
from simulator.provider.api import (
    Api,
    Ask,
    Call,
    Completion,
    Ending,
    Refusal,
    Trouble,
    Wire,
    read_attempt,
    sort_document,
)
from simulator.provider.completion import complete, salvage_object
from simulator.provider.draws import Draws
from simulator.provider.google import GoogleApi
from simulator.provider.judge import Judge
from simulator.provider.openai import OpenAIApi
from simulator.provider.openrouter import OpenRouterApi
from simulator.provider.server import APIS, ProviderAddress

SCHEMA = {
    "type": "object",
    "properties": {"winner": {"type": "string", "enum": ["essay_a", "essay_b"]}, "why": {"type": "string"}},
    "required": ["winner", "why"],
    "additionalProperties": False,
}
USER = {"role": "user", "content": "Which is better?"}
NAMED = {"type": "json_schema", "json_schema": {"name": "judge", "strict": True, "schema": SCHEMA}}
CREATED = 1_700_000_000
REQUEST_ID = "0123456789abcdef" * 2


def write_call(path: str, headers: dict[str, str], body: dict[str, Any], **path_params: str) -> Call:
    return Call("POST", path, headers, path_params=path_params, body=orjson.dumps(body))


BEARER = {"authorization": "Bearer key"}
CHAT = {"messages": [USER], "response_format": NAMED}
MESSAGE = {
    "model": "claude-haiku-4-5", "max_tokens": 500, "messages": [USER],
    "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
}  # fmt: skip
CONTENT = {
    "contents": [{"role": "user", "parts": [{"text": "Which is better?"}]}],
    "generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA},
}
ANTHROPIC_HEADERS = {"x-api-key": "key", "anthropic-version": "2023-06-01"}
GEMINI = "gemini-2.0-flash"
GOOGLE_PATH = f"/v1beta/models/{GEMINI}:generateContent"
CALLS: dict[str, tuple[Api, Call]] = {
    "openai": (OpenAIApi(), write_call("/v1/chat/completions", BEARER, {"model": "gpt-4o-mini", **CHAT})),
    "openrouter": (
        OpenRouterApi(),
        write_call("/api/v1/chat/completions", BEARER, {"model": "openai/gpt-4o-mini", **CHAT}),
    ),
    "anthropic": (AnthropicApi(), write_call("/v1/messages", ANTHROPIC_HEADERS, MESSAGE)),
    "google": (GoogleApi(), write_call(GOOGLE_PATH, {"x-goog-api-key": "key"}, CONTENT, model=GEMINI)),
}
ENDING_WORDS = {
    "openai": {Ending.LENGTH: "length", Ending.SAFETY: "content_filter"},
    "openrouter": {Ending.LENGTH: "length", Ending.SAFETY: "content_filter"},
    "anthropic": {Ending.LENGTH: "max_tokens", Ending.SAFETY: "refusal", Ending.REFUSAL: "refusal"},
    "google": {Ending.LENGTH: "MAX_TOKENS", Ending.SAFETY: "SAFETY", Ending.REFUSAL: "PROHIBITED_CONTENT"},
}
"""The vendors' words for what does not end of itself."""
UNEVENTFUL = {"openai": "stop", "openrouter": "stop", "anthropic": "end_turn", "google": "STOP"}

vendors = pytest.mark.parametrize("vendor", CALLS)


def ask_of(vendor: str, **headers: str) -> Ask:
    api, call = CALLS[vendor]
    return api.read(replace(call, headers={**call.headers, **headers}))


def complete_for(ask: Ask, seed: int = 1) -> Completion:
    return complete(ask, Judge(load_essays()), Draws(seed, ask.canonical, ask.attempt))


def answer(vendor: str, ending: Ending = Ending.STOP, seed: int = 1, **headers: str) -> Wire:
    ask = ask_of(vendor, **headers)
    return CALLS[vendor][0].answer(ask, complete_for(ask, seed), ending, CREATED)


def read_answer(vendor: str, wire: Wire) -> tuple[str, str]:
    body: dict[str, Any] = json.loads(wire.body)
    if vendor == "anthropic":
        return "".join(block["text"] for block in body["content"]), body["stop_reason"]
    if vendor == "google":
        if "candidates" not in body:
            return "", body["promptFeedback"]["blockReason"]
        candidate = body["candidates"][0]
        parts = candidate.get("content", {}).get("parts", [])
        return "".join(part["text"] for part in parts), candidate["finishReason"]
    choice = body["choices"][0]
    return choice["message"]["content"] or choice["message"]["refusal"] or "", choice["finish_reason"]


@vendors
def test_an_answer_depends_on_seed_request_and_attempt_alone(vendor: str) -> None:
    assert answer(vendor) == answer(vendor)
    others = [answer(vendor, seed=2), answer(vendor, **{"x-stainless-retry-count": "1"})]
    assert len({wire.body for wire in (answer(vendor), *others)}) == 3


@vendors
def test_the_key_and_the_order_of_the_keys_change_nothing(vendor: str) -> None:
    api, call = CALLS[vendor]
    turned = dict(reversed(json.loads(call.body).items()))
    header = {"openai": "authorization", "openrouter": "authorization", "anthropic": "x-api-key"}
    other = {**call.headers, header.get(vendor, "x-goog-api-key"): "Bearer other"}
    one, two = api.read(call), api.read(replace(call, body=orjson.dumps(turned), headers=other))
    assert one.canonical == two.canonical
    assert one.key_digest != two.key_digest
    assert "key" not in one.key_digest


def test_no_two_apis_draw_from_the_same_request() -> None:
    forms = [ask_of(vendor).canonical for vendor in CALLS]
    assert [form.startswith(b"{") for form in forms] == [vendor == "openai" for vendor in CALLS]
    assert len({form.split(b"/")[0] for form in forms if not form.startswith(b"{")}) == 3


@vendors
@pytest.mark.parametrize("ending", Ending)
def test_every_ending_has_a_shape(vendor: str, ending: Ending) -> None:
    wire = answer(vendor, ending)
    text, word = read_answer(vendor, wire)
    assert wire.status == 200
    assert word == ENDING_WORDS[vendor].get(ending, UNEVENTFUL[vendor])
    match ending:
        case Ending.STOP:
            assert json.loads(text)["winner"] in ("essay_a", "essay_b")
        case Ending.SCHEMA_BREAKING:
            assert json.loads(text)["winner"] == "both"
        case Ending.SAFETY | Ending.EMPTY:
            assert text == ""
        case Ending.REFUSAL:
            assert vendor in ("anthropic", "google") or text.startswith("I'm sorry")
        case _:
            assert text
            with pytest.raises(json.JSONDecodeError):
                json.loads(text)


@vendors
@pytest.mark.parametrize("trouble", Trouble)
def test_every_trouble_has_an_error_status(vendor: str, trouble: Trouble) -> None:
    api = CALLS[vendor][0]
    usual = api.refuse(trouble, retry_after_seconds=2.5, request_id=REQUEST_ID)
    wanted = api.refuse(trouble, status=418, request_id=REQUEST_ID)
    assert 400 <= usual.status <= 529
    assert wanted.status == 418
    if trouble is Trouble.UNAUTHORIZED:
        assert usual.status == (400 if vendor == "google" else 401)
    if usual.headers["content-type"] == "application/json":
        assert json.loads(usual.body)["error"]
        assert (vendor == "google") == ("retry-after" not in usual.headers)
    else:
        assert trouble in (Trouble.BAD_GATEWAY, Trouble.UNAVAILABLE, Trouble.TIMEOUT)
        assert str(usual.status).encode() in usual.body


@vendors
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"model":' + b"[" * 300])
def test_a_body_that_is_not_a_json_object_is_400_in_the_vendors_words(vendor: str, content: bytes) -> None:
    api, call = CALLS[vendor]
    with pytest.raises(Refusal, match=r"^400: ") as refused:
        api.read(replace(call, body=content))
    error = json.loads(refused.value.wire.body)["error"]
    word = {"google": error.get("status"), "openrouter": error.get("code")}.get(vendor, error.get("type"))
    assert refused.value.wire.status == 400
    assert word == {"google": "INVALID_ARGUMENT", "openrouter": 400}.get(vendor, "invalid_request_error")


@pytest.mark.parametrize(
    ("headers", "attempt"),
    [
        ({}, 0),
        ({"x-stainless-retry-count": "2"}, 2),
        ({"x-client-request-id": "3f2504e0-4f89-41d3-9a0c-030582330112-3"}, 3),
        ({"x-client-request-id": "3f2504e0-4f89-41d3-9a0c-030582330112"}, 0),
        ({"x-stainless-retry-count": "many", "x-client-request-id": "call-7"}, 7),
        ({"x-stainless-retry-count": "-1"}, 0),
        ({"x-stainless-retry-count": "٣"}, 0),
    ],
)
def test_the_attempt_is_what_the_caller_says(headers: dict[str, str], attempt: int) -> None:
    """The SDKs' header or the end of a request id says it; anything else is the first attempt."""
    assert read_attempt(headers) == attempt


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ('{"a":1,"b":"x, y"}', {"a": 1, "b": "x, y"}), ('{"a":1,"b":"x, y', {"a": 1}),
        ('{"a":{"b":1},"c', {"a": {"b": 1}}), ('{"a', {}), ("", {}), ("Both, {", {}),
    ],
)  # fmt: skip
def test_what_is_whole_in_a_cut_object_is_kept(text: str, whole: dict[str, Any]) -> None:
    assert salvage_object(text) == whole


def test_every_api_has_its_base_url_and_its_own_route() -> None:
    assert ProviderAddress(8089).base_urls == {
        "openai": "http://127.0.0.1:8089/v1",
        "anthropic": "http://127.0.0.1:8089",
        "google": "http://127.0.0.1:8089",
        "openrouter": "http://127.0.0.1:8089/api/v1",
    }
    routes = [route for api in APIS for route in api.routes()]
    assert len(set(routes)) == len(routes)


@pytest.mark.parametrize(
    ("path", "headers", "vendor"),
    [
        ("/v1/models", {"authorization": "Bearer x"}, "openai"),
        ("/v1/models", {"authorization": "Bearer x", "anthropic-version": "2023-06-01"}, "anthropic"),
        ("/v1/models", {"x-api-key": "x"}, "anthropic"),
        ("/v1/models", {"x-goog-api-key": "x"}, "google"),
        ("/v1beta/ghosts", {"authorization": "Bearer x"}, "google"),
        ("/api/v1/ghosts", {"authorization": "Bearer x"}, "openrouter"),
        ("/v1/messages", {}, "anthropic"),
    ],
)
def test_a_call_is_claimed_by_one_api(path: str, headers: dict[str, str], vendor: str) -> None:
    assert [api.name for api in APIS if api.claims(Call("GET", path, headers))] == [vendor]


def test_every_model_that_the_service_knows_is_offered() -> None:
    offered = {
        LLMProviderType.OPENAI: catalogue.OPENAI_MODELS,
        LLMProviderType.ANTHROPIC: catalogue.ANTHROPIC_MODELS,
        LLMProviderType.GOOGLE: catalogue.GOOGLE_MODELS,
        LLMProviderType.OPENROUTER: catalogue.OPENROUTER_MODELS,
    }
    for provider, models in offered.items():
        assert CATALOGUE.names(provider)
        assert [
            name for name in CATALOGUE.names(provider) if catalogue.find_model(models, name) is None
        ] == []
    for name in ("gpt-4o-mini", "claude-haiku-4-5-20251001", "gemini-2.0-flash", "openai/gpt-4o-mini"):
        assert any(catalogue.find_model(models, name) for models in offered.values())


def test_the_boundary_around_essays_changes_no_verdict() -> None:
    """It differs from request to request; what says the same is the same to the fake provider."""
    request = LLMComparisonRequest(user_prompt="Which?", essay_a="a", essay_b="b", callback_topic="t")
    one, other = (
        {"messages": [{"content": compose_user_prompt(request, queue_id)}]} for queue_id in ("q-1", "q-2")
    )
    assert one != other
    assert sort_document(one) == sort_document(other)
    assert b"<essay_a>" in sort_document(one)
    assert b"boundary" not in sort_document(one)
