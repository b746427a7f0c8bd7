"""The rows of the error table on the body and the callback topic, each over real HTTP."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.flow.conftest import Body, ReadError

PATH = "/api/v1/comparison"
JSON = {"content-type": "application/json"}

Change = Callable[[Body], object]


def put(field: str, value: Any) -> Change:
    return lambda body: body.update({field: value})


def override(**values: Any) -> Change:
    return put("llm_config_overrides", values)


def drop(field: str) -> Change:
    return lambda body: body.pop(field)


FIELD_FAULTS: list[tuple[str, Change, str]] = [
    ("prompt missing", drop("user_prompt"), "LLM_INVALID_PROMPT"),
    ("prompt blank", put("user_prompt", " \n\t"), "LLM_INVALID_PROMPT"),
    ("prompt of wrong type", put("user_prompt", 7), "LLM_INVALID_PROMPT"),
    ("essay missing", drop("essay_a"), "LLM_INVALID_PROMPT"),
    ("essay empty", put("essay_b", ""), "LLM_INVALID_PROMPT"),
    ("essay null", put("essay_b", None), "LLM_INVALID_PROMPT"),
    ("unknown field", put("callback_url", "http://x"), "LLM_INVALID_REQUEST"),
    ("correlation id no UUID", put("correlation_id", "abc"), "LLM_INVALID_REQUEST"),
    ("metadata no object", put("metadata", [1]), "LLM_INVALID_REQUEST"),
    ("priority too high", put("priority", 10), "LLM_INVALID_REQUEST"),
    ("priority no integer", put("priority", "1"), "LLM_INVALID_REQUEST"),
    ("deadline in the past", put("ttl_seconds", 0), "LLM_INVALID_REQUEST"),
    ("topic missing", drop("callback_topic"), "LLM_CALLBACK_TOPIC_MISSING"),
    ("topic null", put("callback_topic", None), "LLM_CALLBACK_TOPIC_MISSING"),
    ("topic empty", put("callback_topic", ""), "LLM_CALLBACK_TOPIC_MISSING"),
    ("topic of wrong type", put("callback_topic", ["results.x"]), "LLM_INVALID_CALLBACK_TOPIC"),
    ("topic name illegal", put("callback_topic", "results.ä b"), "LLM_INVALID_CALLBACK_TOPIC"),
    ("topic name of dots", put("callback_topic", ".."), "LLM_INVALID_CALLBACK_TOPIC"),
    ("topic name too long", put("callback_topic", "results." + "x" * 242), "LLM_INVALID_CALLBACK_TOPIC"),
    ("topic internal", put("callback_topic", "__consumer_offsets"), "LLM_INVALID_CALLBACK_TOPIC"),
    ("topic off the list", put("callback_topic", "other.topic"), "LLM_INVALID_CALLBACK_TOPIC"),
    ("topic absent", put("callback_topic", "results.absent"), "LLM_INVALID_CALLBACK_TOPIC"),
    ("provider unknown", override(provider_override="acme"), "LLM_INVALID_CONFIG"),
    ("provider without a key", override(provider_override="anthropic"), "LLM_INVALID_CONFIG"),
    ("model unknown", override(provider_override="openai", model_override="gpt-none"), "LLM_INVALID_CONFIG"),
    ("temperature too high", override(temperature_override=2.5), "LLM_INVALID_CONFIG"),
    ("tokens not positive", override(max_tokens_override=0), "LLM_INVALID_CONFIG"),
    ("metadata too large", put("metadata", {"x": "y" * 16_400}), "LLM_CONTENT_TOO_LONG"),
]


@pytest.mark.parametrize(
    ("change", "code"), [row[1:] for row in FIELD_FAULTS], ids=[row[0] for row in FIELD_FAULTS]
)
async def test_faulty_field_is_refused_with_its_code(
    client: httpx.AsyncClient, body: Body, read_error: ReadError, change: Change, code: str
) -> None:
    change(body)
    status = 413 if code == "LLM_CONTENT_TOO_LONG" else 422
    response = await client.post(PATH, json=body)
    assert (response.status_code, read_error(response)["error_code"]) == (status, code)


RAW_FAULTS = [
    ("not JSON", b"{oops", JSON, 422),
    ("empty", b"", JSON, 422),
    ("no object", b"[1, 2]", JSON, 422),
    ("not UTF-8", b'{"user_prompt": "\xff"}', JSON, 422),
    ("lone surrogate", b'{"user_prompt": "\\ud800"}', JSON, 422),
    ("not a number", b'{"metadata": {"x": NaN}}', JSON, 422),
    ("nested without end", b'{"metadata": ' + b"[" * 100_000, JSON, 422),
    ("form", b"user_prompt=x", {"content-type": "application/x-www-form-urlencoded"}, 415),
]


@pytest.mark.parametrize(
    ("content", "headers", "status"), [row[1:] for row in RAW_FAULTS], ids=[row[0] for row in RAW_FAULTS]
)
async def test_body_that_is_no_json_object_is_refused(
    client: httpx.AsyncClient, read_error: ReadError, content: bytes, headers: dict[str, str], status: int
) -> None:
    response = await client.post(PATH, content=content, headers=headers)
    assert (response.status_code, read_error(response)["error_code"]) == (status, "LLM_INVALID_REQUEST")


async def test_metadata_that_json_cannot_carry_back_is_refused(
    client: httpx.AsyncClient, body: Body, read_error: ReadError
) -> None:
    """A number beyond JSON's range would poison the callback, so it gets no 202."""
    content = json.dumps(body)[:-1] + ', "metadata": {"x": 1e999}}'
    response = await client.post(PATH, content=content.encode(), headers=JSON)
    assert (response.status_code, read_error(response)["error_code"]) == (422, "LLM_INVALID_REQUEST")


async def test_body_over_the_limit_is_refused_by_its_length_and_while_reading(
    client: httpx.AsyncClient, body: Body, read_error: ReadError
) -> None:
    async def drip() -> Any:
        for _ in range(40):
            yield b" " * 65_536

    by_length = await client.post(PATH, json={**body, "essay_a": "x" * 1_100_000})
    while_reading = await client.post(PATH, content=drip(), headers=JSON)

    for response in (by_length, while_reading):
        assert (response.status_code, read_error(response)["error_code"]) == (413, "LLM_CONTENT_TOO_LONG")


PRECEDENCE: list[tuple[str, list[Change], str]] = [
    (
        "size before topic",
        [put("metadata", {"x": "y" * 17_000}), drop("callback_topic")],
        "LLM_CONTENT_TOO_LONG",
    ),
    ("topic before prompt", [drop("callback_topic"), put("user_prompt", "")], "LLM_CALLBACK_TOPIC_MISSING"),
    (
        "absent topic before prompt",
        [put("callback_topic", "results.absent"), put("user_prompt", "")],
        "LLM_INVALID_CALLBACK_TOPIC",
    ),
    (
        "internal topic before unknown field",
        [put("callback_topic", "_internal"), put("unknown", 1)],
        "LLM_INVALID_CALLBACK_TOPIC",
    ),
    (
        "prompt before configuration",
        [put("essay_a", ""), override(temperature_override=9)],
        "LLM_INVALID_PROMPT",
    ),
    (
        "topic before configuration",
        [put("callback_topic", 3), override(provider_override="acme")],
        "LLM_INVALID_CALLBACK_TOPIC",
    ),
]


@pytest.mark.parametrize(
    ("changes", "code"), [row[1:] for row in PRECEDENCE], ids=[row[0] for row in PRECEDENCE]
)
async def test_most_important_fault_is_told(
    client: httpx.AsyncClient, body: Body, read_error: ReadError, changes: list[Change], code: str
) -> None:
    for change in changes:
        change(body)
    response = await client.post(PATH, json=body)
    assert read_error(response)["error_code"] == code


async def test_correlation_id_is_that_of_the_body_or_else_of_the_header(
    client: httpx.AsyncClient, body: Body, read_error: ReadError
) -> None:
    header = {"X-Correlation-ID": "4e9c8d5e-3f0b-4d5a-8a55-0d9d2d0e7a10"}
    own = {"correlation_id": "11111111-2222-4333-8444-555555555555"}

    from_header = await client.post(PATH, json=body, headers=header)
    from_body = await client.post(PATH, json=body | own, headers=header)
    refusal = await client.post(PATH, json=body | own | {"user_prompt": ""})

    assert from_header.json()["correlation_id"] == header["X-Correlation-ID"]
    assert from_body.json()["correlation_id"] == own["correlation_id"]
    assert read_error(refusal)["correlation_id"] == own["correlation_id"]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Correlation-ID": "7"},
        {"X-Run-ID": "a b"},
        {"X-Run-ID": "x" * 65},
        {"Idempotency-Key": ""},
        {"Idempotency-Key": "a b"},
        {"Idempotency-Key": "x" * 256},
    ],
)
async def test_faulty_header_is_refused(
    client: httpx.AsyncClient, body: Body, read_error: ReadError, headers: dict[str, str]
) -> None:
    response = await client.post(PATH, json=body, headers=headers)
    assert (response.status_code, read_error(response)["error_code"]) == (422, "LLM_INVALID_REQUEST")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/v1/comparison/status/1", 404, "LLM_NOT_FOUND"),
        ("GET", "/api/v1/comparison/results/1", 404, "LLM_NOT_FOUND"),
        ("GET", "/nowhere", 404, "LLM_NOT_FOUND"),
        ("GET", "/api/v1/comparison", 405, "LLM_METHOD_NOT_ALLOWED"),
        ("DELETE", "/healthz", 405, "LLM_METHOD_NOT_ALLOWED"),
    ],
)
async def test_unknown_route_and_wrong_method_have_the_one_error_body(
    client: httpx.AsyncClient, read_error: ReadError, method: str, path: str, status: int, code: str
) -> None:
    response = await client.request(method, path)
    assert (response.status_code, read_error(response)["error_code"]) == (status, code)
