"""The fake provider speaks Anthropic's dialect, in its answers and in its errors."""

import json
from typing import Any

import httpx
import pytest

from simulator.provider.anthropic import AnthropicApi
from simulator.provider.api import RateState, Trouble

BASE_URL = "http://provider"
HEADERS = {"x-api-key": "any", "anthropic-version": "2023-06-01"}
SCHEMA = {
    "type": "object",
    "properties": {"winner": {"type": "string", "enum": ["essay_a", "essay_b"]}},
    "required": ["winner"],
    "additionalProperties": False,
}
LIMITED = {**SCHEMA, "properties": {"winner": {"type": "number", "minimum": 0, "maximum": 1}}}
TOOL = {"name": "judge", "input_schema": SCHEMA}
FORCED = {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "judge"}}
USER = {"role": "user", "content": "Which is better?"}
LONG = {"role": "user", "content": "x" * 900_000}


def ask(**changes: Any) -> dict[str, Any]:
    body = {"model": "claude-haiku-4-5-20251001", "max_tokens": 500, "messages": [USER], **changes}
    return {name: value for name, value in body.items() if value is not None}


async def post(client: httpx.AsyncClient, **changes: Any) -> httpx.Response:
    return await client.post("/v1/messages", json=ask(**changes))


async def test_a_message_has_anthropics_shape(client: httpx.AsyncClient) -> None:
    answer = await post(client)
    body = answer.json()
    assert answer.status_code == 200
    assert answer.headers["request-id"].startswith("req_")
    assert body["id"].startswith("msg_01")
    assert (body["type"], body["role"], body["model"]) == (
        "message",
        "assistant",
        "claude-haiku-4-5-20251001",
    )
    assert [block["type"] for block in body["content"]] == ["text"]
    assert (body["stop_reason"], body["stop_sequence"]) == ("end_turn", None)
    assert body["usage"]["input_tokens"] > 0
    assert body["usage"]["output_tokens"] > 0


async def test_all_ways_to_structured_output_satisfy_the_schema(client: httpx.AsyncClient) -> None:
    wanted = {"type": "json_schema", "schema": SCHEMA}
    by_tool = (await post(client, **FORCED)).json()
    by_any = (await post(client, tools=[TOOL], tool_choice={"type": "any"})).json()
    texts = [
        (await post(client, output_config={"format": wanted})).json()["content"][0]["text"],
        (await post(client, output_format=wanted)).json()["content"][0]["text"],
    ]
    documents = [by_tool["content"][0]["input"], by_any["content"][0]["input"], *map(json.loads, texts)]
    assert by_tool["stop_reason"] == by_any["stop_reason"] == "tool_use"
    assert all(document["winner"] in ("essay_a", "essay_b") for document in documents)


async def test_a_tool_that_is_cut_keeps_the_members_that_were_whole(client: httpx.AsyncClient) -> None:
    properties = {**SCHEMA["properties"], "essay": {"type": "string", "minLength": 400}}
    schema = {**SCHEMA, "properties": properties, "required": ["winner", "essay"]}
    tool = {"name": "judge", "input_schema": schema}
    body = (await post(client, **{**FORCED, "tools": [tool], "max_tokens": 10})).json()
    assert body["stop_reason"] == "max_tokens"
    assert list(body["content"][0]["input"]) == ["winner"]
    assert body["usage"]["output_tokens"] == 10


async def test_thinking_comes_first_and_may_leave_no_room(client: httpx.AsyncClient) -> None:
    """A model that always thinks can use up a small limit before its answer begins."""
    thought = (await post(client, model="claude-haiku-5-5")).json()
    cut = (await post(client, model="claude-haiku-5-5", max_tokens=100)).json()
    assert [block["type"] for block in thought["content"]] == ["thinking", "text"]
    assert [block["type"] for block in cut["content"]] == ["thinking"]
    assert cut["stop_reason"] == "max_tokens"
    assert cut["usage"]["output_tokens_details"]["thinking_tokens"] == 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_tokens": None}, "max_tokens: Field required"),
        ({"max_tokens": 0}, "max_tokens: must be greater than or equal to 1"),
        ({"max_tokens": "9"}, "max_tokens: Input should be a valid integer"),
        ({"max_tokens": 64_001}, "max_tokens: 64001 > 64000, which is the maximum"),
        ({"messages": None}, "messages: Field required"),
        ({"messages": []}, "messages: at least one message is required"),
        ({"messages": [{"role": "system", "content": "x"}]}, 'messages: Unexpected role "system"'),
        ({"messages": [{"role": "judge", "content": "x"}]}, "messages.0.role: Input should be"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages.0: all messages must have non-empty"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages.0.content.0: this"),
        ({"temperature": 1.5}, "temperature: range: 0..1"),
        ({"temperature": 1, "top_p": 1}, "`temperature` and `top_p` cannot both"),
        ({"model": "claude-haiku-5-5", "temperature": 0}, "`temperature` is deprecated"),
        ({"max_completion_tokens": 5}, "max_completion_tokens: Extra inputs are not permitted"),
        ({"stream": True}, "stream: this simulated model does not stream"),
        ({"tool_choice": {"type": "any"}}, "tool_choice: tool_choice may only be specified"),
        ({**FORCED, "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice.name: Tool 'x' not found"),
        ({**FORCED, "thinking": {"type": "enabled", "budget_tokens": 1024}}, "Thinking may not be enabled"),
        ({**FORCED, "model": "claude-haiku-5-5"}, "Thinking may not be enabled"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "`max_tokens` must be greater than"),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, "thinking.enabled.budget_tokens: Input"),
        ({"output_config": {"format": {"type": "json"}}}, "output_config.format.type: Input should be"),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": LIMITED}}},
            "output_config.format.schema: For 'number' type, properties maximum, minimum are not supported",
        ),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
            "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set",
        ),
        (
            {**FORCED, "tools": [{"name": "judge", "input_schema": {"type": "object", "allOf": []}}]},
            "tools.0",
        ),
        ({"model": None}, "model: Field required"),
        ({"messages": [LONG]}, "prompt is too long: 225006 tokens > 200000 maximum"),
    ],
)
async def test_bad_requests_are_400(client: httpx.AsyncClient, change: dict[str, Any], message: str) -> None:
    answer = await post(client, **change)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert error["message"].startswith(message)
    assert answer.json()["request_id"] == answer.headers["request-id"]


async def test_keys_versions_models_routes_and_sizes(client: httpx.AsyncClient) -> None:
    answers = [
        await client.post("/v1/messages", json=ask(), headers={"x-api-key": ""}),
        await client.post("/v1/messages", json=ask(), headers={"anthropic-version": ""}),
        await post(client, model="claude-0"),
        await client.post("/v1/complete", json={}),
        await client.get("/v1/messages"),
        await client.post("/v1/messages", content=b" " * (4 * 1024 * 1024 + 1)),
    ]
    assert [(answer.status_code, answer.json()["error"]["type"]) for answer in answers] == [
        (401, "authentication_error"), (400, "invalid_request_error"), (404, "not_found_error"),
        (404, "not_found_error"), (405, "invalid_request_error"), (413, "request_too_large"),
    ]  # fmt: skip
    assert {answer.json()["type"] for answer in answers} == {"error"}


def test_rates_and_an_overload_are_reported_as_anthropic_does() -> None:
    """Limit, remaining and the moment of the reset; nothing where there is no limit."""
    state = RateState(now=0.0, requests_limit=50, requests_remaining=49, requests_reset_seconds=1.2)
    assert AnthropicApi().rate_headers(state) == {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-requests-reset": "1970-01-01T00:00:02Z",
    }
    wire = AnthropicApi().refuse(Trouble.OVERLOADED, request_id="0" * 32)
    assert (wire.status, json.loads(wire.body)["error"]) == (
        529, {"type": "overloaded_error", "message": "Overloaded"},
    )  # fmt: skip
