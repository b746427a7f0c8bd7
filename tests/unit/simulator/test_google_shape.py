"""The fake provider speaks Google's dialect, in its answers and in its errors."""

import json
from typing import Any

import httpx
import pytest

from simulator.provider.api import RateState, Trouble
from simulator.provider.google import GoogleApi

BASE_URL = "http://provider"
HEADERS = {"x-goog-api-key": "any"}
PATH = "/v1beta/models/gemini-2.0-flash:generateContent"
GOOGLES_SCHEMA = {
    "type": "OBJECT",
    "properties": {
        "score": {"type": "INTEGER", "format": "int32", "minimum": 3, "maximum": 4, "nullable": True},
        "tags": {"type": "ARRAY", "items": {"type": "STRING"}, "minItems": "2", "maxItems": "2"},
        "winner": {"type": "STRING", "format": "enum", "enum": ["essay_a", "essay_b"]},
    },
    "required": ["winner", "score", "tags"],
    "propertyOrdering": ["winner", "score", "tags"],
}
CONTENTS = [{"role": "user", "parts": [{"text": "Which is better?"}]}]


async def generate(client: httpx.AsyncClient, path: str = PATH, **changes: Any) -> httpx.Response:
    return await client.post(path, json={"contents": CONTENTS, **changes})


def as_json(**config: Any) -> dict[str, Any]:
    return {"generationConfig": {"responseMimeType": "application/json", **config}}


async def test_an_answer_has_googles_shape(client: httpx.AsyncClient) -> None:
    answer = await generate(client)
    body = answer.json()
    usage = body["usageMetadata"]
    assert answer.status_code == 200
    assert body["modelVersion"] == "gemini-2.0-flash"
    assert body["responseId"]
    assert [candidate["finishReason"] for candidate in body["candidates"]] == ["STOP"]
    assert body["candidates"][0]["content"]["role"] == "model"
    assert body["candidates"][0]["content"]["parts"][0]["text"]
    assert usage["totalTokenCount"] == usage["promptTokenCount"] + usage["candidatesTokenCount"]
    assert answer.headers["server-timing"] == "gfet4t7; dur=0"


@pytest.mark.parametrize("version", ["v1", "v1beta"])
async def test_googles_own_schema_is_satisfied_in_its_order(client: httpx.AsyncClient, version: str) -> None:
    path = PATH.replace("v1beta", version)
    body = (await generate(client, path, **as_json(responseSchema=GOOGLES_SCHEMA))).json()
    document = json.loads(body["candidates"][0]["content"]["parts"][0]["text"])
    assert list(document) == ["winner", "score", "tags"]
    assert document["winner"] in ("essay_a", "essay_b")
    assert document["score"] in (3, 4)
    assert len(document["tags"]) == 2


async def test_fields_may_have_their_names_of_protocol_buffers(client: httpx.AsyncClient) -> None:
    config = {"response_mime_type": "application/json", "response_schema": GOOGLES_SCHEMA}
    snake = (await generate(client, generation_config=config)).json()
    camel = (await generate(client, **as_json(responseSchema=GOOGLES_SCHEMA))).json()
    assert snake == camel
    free = (await generate(client, **as_json())).json()  # any JSON is given where no schema is
    assert "winner" in json.loads(free["candidates"][0]["content"]["parts"][0]["text"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"contents": []}, "* GenerateContentRequest.contents: contents is not specified"),
        ({"contents": [{"role": "system", "parts": [{"text": "x"}]}]}, "Please use a valid role"),
        ({"contents": [{"parts": []}]}, "* GenerateContentRequest.contents[0].parts: contents.parts must"),
        ({"contents": [{"parts": [{"inlineData": {}}]}]}, "'contents[0].parts[0]' is not text"),
        ({"max_tokens": 5}, 'Invalid JSON payload received. Unknown name "maxTokens"'),
        ({"generationConfig": {"maxTokens": 5}}, 'Invalid JSON payload received. Unknown name "maxTokens"'),
        ({"generationConfig": {"temperature": 2.5}}, "* GenerateContentRequest.generation_config"),
        ({"generationConfig": {"temperature": "1"}}, "Invalid value at 'generation_config.temperature'"),
        ({"generationConfig": {"maxOutputTokens": 0}}, "Unable to submit request because it has a max"),
        ({"generationConfig": {"maxOutputTokens": 8193}}, "Unable to submit request because it has a max"),
        ({"generationConfig": {"candidateCount": 2}}, "Multiple candidates is not enabled"),
        ({"generationConfig": {"thinkingConfig": {"thinkingBudget": 9}}}, "Thinking is not enabled"),
        ({"generationConfig": {"responseMimeType": "text/html"}}, "* GenerateContentRequest.generation_"),
        ({"generationConfig": {"responseSchema": GOOGLES_SCHEMA}}, "A response schema requires"),
        (as_json(responseSchema={"type": "OBJECT"}), "* GenerateContentRequest.generation_config.response_"),
        (as_json(responseSchema={"type": "STRING", "const": "x"}), 'Invalid JSON payload received. Unknown'),
        (as_json(responseSchema={"type": "GHOST"}), "* GenerateContentRequest.generation_config.response_"),
        (as_json(responseSchema={}, responseJsonSchema={}), "Only one of response_schema and response_json"),
        ({"tools": [{"googleSearch": {}}]}, "This simulated model has no tools of its own"),
    ],
)  # fmt: skip
async def test_bad_requests_are_400(client: httpx.AsyncClient, change: dict[str, Any], message: str) -> None:
    answer = await generate(client, **change)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")
    assert error["message"].startswith(message)


async def test_keys_models_routes_and_streams(client: httpx.AsyncClient) -> None:
    without = await client.post(PATH, json={"contents": CONTENTS}, headers={"x-goog-api-key": ""})
    unknown = await generate(client, PATH.replace("2.0", "0"))
    route = await generate(client, PATH.replace("generateContent", "embedContent"))
    stream = await generate(client, PATH.replace("generateContent", "streamGenerateContent"))
    query = await client.post(f"{PATH}?key=any", json={"contents": CONTENTS}, headers={"x-goog-api-key": ""})
    answers = (without, unknown, route, stream, query)
    assert [answer.status_code for answer in answers] == [403, 404, 404, 400, 200]
    assert without.json()["error"]["status"] == "PERMISSION_DENIED"
    assert unknown.json()["error"]["message"].startswith("models/gemini-0-flash is not found for API version")
    assert route.json()["error"]["status"] == "NOT_FOUND"


async def test_thoughts_are_counted_beside_the_candidates(client: httpx.AsyncClient) -> None:
    """A budget is kept, and a limit that thinking uses up leaves nothing to say."""
    path = PATH.replace("2.0", "2.5")
    budget = {"generationConfig": {"thinkingConfig": {"thinkingBudget": 10}}}
    thought = (await generate(client, path, **budget)).json()
    cut = (await generate(client, path, generationConfig={"maxOutputTokens": 50})).json()
    assert thought["usageMetadata"]["thoughtsTokenCount"] == 10
    assert cut["candidates"][0] == {"finishReason": "MAX_TOKENS", "index": 0, "content": {"role": "model"}}
    assert cut["usageMetadata"]["thoughtsTokenCount"] == 50
    assert cut["usageMetadata"]["candidatesTokenCount"] == 0


def test_a_rate_and_a_quota_differ_in_their_details() -> None:
    """Both are RESOURCE_EXHAUSTED; the name of the quota tells the minute from the day."""
    names = []
    for trouble in (Trouble.RATE_LIMITED, Trouble.QUOTA_EXHAUSTED):
        wire = GoogleApi().refuse(trouble, retry_after_seconds=0.25, request_id="0" * 32)
        details = json.loads(wire.body)["error"]["details"]
        names.append(details[0]["violations"][0]["quotaId"])
        assert details[1] == {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.25s"}
        assert "retry-after" not in wire.headers
    assert ["PerMinute" in names[0], "PerDay" in names[1]] == [True, True]
    assert GoogleApi().rate_headers(RateState(now=0.0, requests_limit=5)) == {}
