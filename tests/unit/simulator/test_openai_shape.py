"""The fake provider speaks OpenAI's dialect, in its answers and in its errors."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from simulator.essays import pairs_path
from simulator.provider.api import RateState
from simulator.provider.openai import OpenAIApi
from simulator.provider.server import MAX_BODY_BYTES
from simulator.provider.tokens import estimate_prompt_tokens, estimate_text_tokens

BASE_URL = "http://provider/v1"
HEADERS = {"authorization": "Bearer any"}
COMPARISON = {
    "type": "object",
    "properties": {
        "winner": {"type": "string", "enum": ["essay_a", "essay_b"]},
        "justification": {"type": "string", "maxLength": 500},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
    },
    "required": ["winner", "justification", "confidence"],
    "additionalProperties": False,
}
LONG = {"role": "user", "content": "x" * 600_000}
TOOL = {"type": "function", "function": {"name": "judge", "parameters": COMPARISON}}


PAIR = json.loads(pairs_path().read_text(encoding="utf-8").splitlines()[0])


def ask(**changes: Any) -> dict[str, Any]:
    body = {
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "system", "content": "You are a judge. Answer in JSON."},
            {"role": "user", "content": f"{PAIR['user_prompt']}\n{PAIR['essay_a']}\n\n{PAIR['essay_b']}"},
        ],
        "response_format": use_schema(COMPARISON),
        **changes,
    }
    return {key: value for key, value in body.items() if value is not None}


def use_schema(schema: Any, *, strict: bool = True) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "wanted", "strict": strict, "schema": schema}}


async def post(client: httpx.AsyncClient, body: Any, **headers: str) -> httpx.Response:
    return await client.post("/chat/completions", json=body, headers=headers)


async def test_a_completion_has_openais_shape(client: httpx.AsyncClient) -> None:
    answer = await post(client, ask())
    body = answer.json()
    judgement = json.loads(body["choices"][0]["message"]["content"])
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["openai-processing-ms"] == "0"
    assert body["object"] == "chat.completion"
    assert body["id"].startswith("chatcmpl-")
    assert body["model"] == "gpt-4o-mini-2024-07-18"
    assert [choice["finish_reason"] for choice in body["choices"]] == ["stop"]
    assert body["choices"][0]["message"]["role"] == "assistant"
    assert list(judgement) == ["winner", "justification", "confidence"]
    assert judgement["winner"] in ("essay_a", "essay_b")
    assert 0.5 <= judgement["confidence"] <= 0.99


async def test_usage_agrees_with_the_texts_and_a_token_limit_cuts_them(client: httpx.AsyncClient) -> None:
    request = ask()
    body = (await post(client, request)).json()
    prompt = estimate_prompt_tokens(message["content"] for message in request["messages"])
    completion = estimate_text_tokens(body["choices"][0]["message"]["content"])
    predicted = {"accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
    assert body["usage"] == {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, **predicted},
    }
    for name in ("max_tokens", "max_completion_tokens"):
        cut = (await post(client, ask(**{name: 5}))).json()
        assert cut["choices"][0]["finish_reason"] == "length"
        assert cut["usage"]["completion_tokens"] == 5 < completion
        assert len(cut["choices"][0]["message"]["content"]) == 20


async def test_json_mode_and_prose_are_judgements_unlike_a_greeting(
    client: httpx.AsyncClient,
) -> None:
    as_json = await post(client, ask(response_format={"type": "json_object"}))
    as_prose = await post(client, ask(response_format=None))
    assert json.loads(as_json.json()["choices"][0]["message"]["content"])["winner"] in ("essay_a", "essay_b")
    assert "I prefer essay" in as_prose.json()["choices"][0]["message"]["content"]
    greeting = [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
    remark = await post(client, {"model": "gpt-4o", "messages": greeting})
    assert "simulat" in remark.json()["choices"][0]["message"]["content"]


async def test_a_judgement_shares_its_document_with_other_fields(client: httpx.AsyncClient) -> None:
    schema = {
        "type": "object",
        "properties": {
            "errors": {"type": "array", "items": {"type": "string"}},
            "winner": {"type": "string", "enum": ["essay_a", "essay_b"]},
            "justification": {"type": "string", "maxLength": 10},
            "confidence": {"type": "integer", "minimum": 1, "maximum": 5},
        },
    }
    answer = await post(client, ask(response_format=use_schema(schema, strict=False)))
    document = json.loads(answer.json()["choices"][0]["message"]["content"])
    assert list(document) == ["errors", "winner", "justification", "confidence"]
    assert document["justification"].startswith("Essay ")
    assert len(document["justification"]) == 10
    assert document["confidence"] in (1, 2, 3, 4, 5)


async def test_the_models_are_listed(client: httpx.AsyncClient) -> None:
    listed = [model["id"] for model in (await client.get("/models")).json()["data"]]
    assert {"gpt-4o-mini", "gpt-4o", "gpt-4.1-mini", "gpt-4.1"} <= set(listed)
    for name in listed:
        answer = await post(client, {"model": name, "messages": [{"role": "user", "content": "Hello"}]})
        assert answer.status_code == 200
        assert (await client.get(f"/models/{name}")).json()["id"] == name
    missing = await client.get("/models/gpt-9")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic abc"])
async def test_no_key_is_401(client: httpx.AsyncClient, value: str) -> None:
    """A missing or empty key is refused before the body is looked at."""
    for answer in (
        await post(client, ask(), authorization=value),
        await client.get("/models", headers={"authorization": value}),
    ):
        assert answer.status_code == 401
        assert list(answer.json()["error"]) == ["message", "type", "param", "code"]
        assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("change", "status", "param", "code"),
    [
        ({"model": None}, 400, "model", None),
        ({"model": 4}, 400, "model", "invalid_type"),
        ({"model": "gpt-9"}, 404, None, "model_not_found"),
        ({"max_output_tokens": 5}, 400, "max_output_tokens", "unknown_parameter"),
        ({"max_tokens": 16_385}, 400, "max_tokens", "invalid_value"),
        ({"top_p": 1.5}, 400, "top_p", "decimal_above_max_value"),
        ({"reasoning_effort": "low"}, 400, "reasoning_effort", "unsupported_parameter"),
        ({"reasoning_effort": "huge"}, 400, "reasoning_effort", "invalid_value"),
        ({"model": "gpt-5-mini", "max_tokens": 5}, 400, "max_tokens", "unsupported_parameter"),
        ({"model": "gpt-5-mini", "temperature": 0}, 400, "temperature", "unsupported_value"),
        ({"messages": [LONG]}, 400, "messages", "context_length_exceeded"),
        ({"tool_choice": "required"}, 400, "tool_choice", None),
        ({"tools": [TOOL], "tool_choice": {"function": {"name": "x"}}}, 400, "tool_choice", "invalid_value"),
        ({"tools": [{"type": "web_search"}]}, 400, "tools[0].function", "missing_required_parameter"),
        ({"messages": None}, 400, "messages", "missing_required_parameter"),
        ({"messages": []}, 400, "messages", "empty_array"),
        ({"messages": "hi"}, 400, "messages", "invalid_type"),
        ({"messages": ["hi"]}, 400, "messages[0]", "invalid_type"),
        ({"messages": [{"role": "judge", "content": "hi"}]}, 400, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user"}]}, 400, "messages[0].content", "invalid_type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            400, "messages[0].content[0]", "invalid_value",
        ),
        ({"n": 2}, 400, "n", "unsupported_value"),
        ({"stream": True}, 400, "stream", "unsupported_parameter"),
        ({"tools": [{}]}, 400, "tools[0].function", "missing_required_parameter"),
        ({"temperature": 2.5}, 400, "temperature", "decimal_above_max_value"),
        ({"temperature": -1}, 400, "temperature", "decimal_below_min_value"),
        ({"temperature": "hot"}, 400, "temperature", "invalid_type"),
        ({"max_tokens": 0}, 400, "max_tokens", "integer_below_min_value"),
        ({"max_tokens": "many"}, 400, "max_tokens", "invalid_type"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, 400, "max_tokens", "invalid_parameter_combination"),
        ({"response_format": {"type": "xml"}}, 400, "response_format.type", "invalid_value"),
        ({"response_format": "json"}, 400, "response_format.type", "invalid_value"),
        (
            {"response_format": {"type": "json_schema"}},
            400, "response_format.json_schema", "missing_required_parameter",
        ),
        (
            {"response_format": use_schema(None)},
            400, "response_format.json_schema.schema", "missing_required_parameter",
        ),
        ({"response_format": use_schema({"type": "object"})}, 400, "response_format", None),
        ({"response_format": use_schema({**COMPARISON, "required": []})}, 400, "response_format", None),
        ({"response_format": use_schema({"type": "string", "pattern": "a"})}, 400, "response_format", None),
        (
            {"response_format": {"type": "json_object"}, "messages": [{"role": "user", "content": "hi"}]},
            400, "messages", None,
        ),
    ],
)  # fmt: skip
async def test_a_bad_request_is_refused_in_openais_words(
    client: httpx.AsyncClient, change: dict[str, Any], status: int, param: str | None, code: str | None
) -> None:
    answer = await post(client, ask(**change))
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (status, param, code)
    assert error["message"]
    assert answer.headers["x-request-id"].startswith("req_")


async def test_unknown_routes_and_methods_are_refused(client: httpx.AsyncClient) -> None:
    unknown = await client.post("/completions", json={})
    wrong = await client.get("/chat/completions")
    assert (unknown.status_code, wrong.status_code) == (404, 405)
    assert unknown.json()["error"]["message"] == "Invalid URL (POST /v1/completions)"
    assert wrong.json()["error"]["code"] == "method_not_supported"
    assert wrong.headers["allow"] == "POST"


async def test_a_body_over_four_mebibytes_is_413(client: httpx.AsyncClient) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b" " * (1024 * 1024)

    announced = await client.post("/chat/completions", content=b" " * (MAX_BODY_BYTES + 1))
    streamed = await client.post("/chat/completions", content=stream())
    largest = await client.post("/chat/completions", content=b" " * MAX_BODY_BYTES)
    assert (announced.status_code, streamed.status_code, largest.status_code) == (413, 413, 400)
    assert announced.json()["error"]["code"] == "request_too_large"


async def test_health_needs_no_key(client: httpx.AsyncClient) -> None:
    answer = await client.get("http://provider/healthz", headers={"authorization": ""})
    assert answer.json() == {"status": "ok", "scenario": "calm", "seed": 7, "in_flight": 0}


async def test_a_function_that_must_be_called_is_called(client: httpx.AsyncClient) -> None:
    """Its arguments are the judgement as JSON text; where the model may choose it answers itself."""
    named = {"type": "function", "function": {"name": "judge"}}
    for choice in ("required", named):
        answer = await post(client, ask(tools=[TOOL], tool_choice=choice, response_format=None))
        message = answer.json()["choices"][0]["message"]
        assert message["content"] is None
        assert message["tool_calls"][0]["function"]["name"] == "judge"
        assert json.loads(message["tool_calls"][0]["function"]["arguments"])["confidence"] >= 0.5
    free = (await post(client, ask(tools=[TOOL]))).json()["choices"][0]["message"]
    assert "tool_calls" not in free


async def test_a_thinking_model_may_use_up_its_limit(client: httpx.AsyncClient) -> None:
    asks = [ask(model="gpt-5-mini", reasoning_effort=effort) for effort in ("low", "high")]
    spent = [(await post(client, each)).json()["usage"]["completion_tokens_details"] for each in asks]
    cut = (await post(client, {**asks[1], "max_completion_tokens": 100})).json()
    assert [details["reasoning_tokens"] for details in spent] == [64, 1024]
    assert cut["choices"][0]["message"]["content"] == ""
    assert cut["choices"][0]["finish_reason"] == "length"
    assert cut["usage"]["completion_tokens"] == 100


async def test_a_class_of_choices_behind_a_reference_is_judged(client: httpx.AsyncClient) -> None:
    """Pydantic writes an enum like this."""
    choices = {"type": "string", "enum": ["essay_a", "essay_b"]}
    schema = {
        **COMPARISON,
        "properties": {**COMPARISON["properties"], "winner": {"$ref": "#/$defs/Winner"}},
        "$defs": {"Winner": choices},
    }
    asked = ask(response_format=use_schema(schema))
    document = json.loads((await post(client, asked)).json()["choices"][0]["message"]["content"])
    assert document["justification"].startswith(f"Essay {document['winner'][-1].upper()} ")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0ms"), (0.12, "120ms"), (1.0, "1s"), (1.5, "1.5s"), (60.0, "1m0s"), (362.25, "6m2.25s")],
)
def test_a_reset_is_written_as_openai_does(seconds: float, text: str) -> None:
    state = RateState(now=0.0, requests_limit=500, requests_remaining=499, requests_reset_seconds=seconds)
    assert OpenAIApi().rate_headers(state) == {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": text,
    }
