"""The OpenAPI document and the service say the same: every operation, asked over real HTTP."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from service.web.answers import ANSWERS
from service.web.openapi import list_operations
from simulator.broker.control import BrokerControl, TopicSpec
from tests.conftest import Child, Launcher
from tests.flow.conftest import make_env
from tests.waiting import HANG_SECONDS, open_client, until

TOKENS = {"caller": "caller-token", "operator": "operator-token"}
SUBMISSION = "POST /api/v1/comparison"
LAST = ("POST /admin/v1/drain", "GET /admin/v1/drain", "POST /admin/v1/resume")
"""What changes what the others answer."""
BODIES: dict[str, Any] = {
    "POST /admin/v1/providers/{name}/hold": {"seconds": 60},
    "PUT /admin/v1/log-level": {"level": "warning", "seconds": 60},
    "POST /admin/v1/undelivered/resend": {"queue_ids": ["unknown"]},
}
Document = dict[str, Any]


@pytest.fixture(scope="module")
def service(
    session_launcher: Launcher, embedded_broker: Child, tmp_path_factory: pytest.TempPathFactory
) -> Child:
    """A service that knows tokens and calls a provider that never answers."""
    provider = session_launcher.start(
        "simulator.provider", "--port", "0", "--latency-p50-ms", str(int(HANG_SECONDS * 10_000))
    )
    settings = {
        "OPENAI_API_KEY": "fake-key",
        "OPENAI_BASE_URL": provider.ready["base_urls"]["openai"],
        "API_TOKENS": f"team:{TOKENS['caller']}",
        "ADMIN_TOKEN": TOKENS["operator"],
        "DRAIN_TIMEOUT_SECONDS": "0",
        "PROVIDER_TIMEOUT_SECONDS": str(10 * HANG_SECONDS),
    }
    servers = embedded_broker.ready["bootstrap_servers"]
    env = make_env(servers, tmp_path_factory.mktemp("openapi"), **settings)
    return session_launcher.start("service", env=env)


@pytest.fixture
async def client(service: Child) -> Any:
    async with open_client(service.ready["url"]) as client:
        yield client


def close(schema: Any) -> None:
    if isinstance(schema, dict):
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
        for part in schema.values():
            close(part)
    elif isinstance(schema, list):
        for part in schema:
            close(part)


def judge(document: Document, operation: Document, answer: httpx.Response) -> None:
    said = operation["responses"].get(str(answer.status_code), operation["responses"]["default"])
    assert [name_media(each) for each in said["content"]] == [name_media(answer.headers["content-type"])]
    assert {name.lower() for name in said.get("headers", ())} <= set(answer.headers)
    if "json" in answer.headers["content-type"]:
        schemas = deepcopy(document["components"]["schemas"])
        close(schemas)
        schema = {**next(iter(said["content"].values()))["schema"], "components": {"schemas": schemas}}
        Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(
            answer.json()
        )


def name_media(content_type: str) -> str:
    return content_type.partition(";")[0]


async def ask(
    client: httpx.AsyncClient, operation: str, body: Any, token: str | None, **places: str
) -> httpx.Response:
    method, path = operation.format(**places).split(" ")
    headers = {} if token is None else {"Authorization": f"Bearer {TOKENS[token]}"}
    async with client.stream(method, path, json=body, headers=headers) as answer:
        if answer.headers["content-type"].startswith("text/event-stream"):
            assert (await anext(answer.aiter_lines())) == "event: snapshot"
            return httpx.Response(answer.status_code, headers=answer.headers, text="")
        await answer.aread()
    return answer


async def leave_traces(client: httpx.AsyncClient, broker: Child, topic: str) -> None:
    refused = f"{topic}.refused"
    control = BrokerControl(Path(broker.ready["control"]))
    await control.create_topics([TopicSpec(refused, 1)])
    for each in (topic, refused):
        queue_id = (await ask(client, SUBMISSION, make_body(each), "caller")).json()["queue_id"]

        async def is_asked() -> bool:
            return bool((await ask(client, "GET /admin/v1/snapshot", None, "operator")).json()["in_flight"])

        await until(is_asked, what="a call")
        if each == refused:  # only now: it has to be there when the request comes
            await control.topic_error(refused, "TOPIC_AUTHORIZATION_FAILED")
        await ask(client, "DELETE /api/v1/comparison/{queue_id}", None, "caller", queue_id=queue_id)
    for name, key in (("undelivered", "items"), ("journal", "items"), ("usage", "rows")):

        async def is_noted(name: str = name, key: str = key) -> bool:
            return bool((await ask(client, f"GET /admin/v1/{name}", None, "operator")).json()[key])

        await until(is_noted, what=f"an entry in {name}")


def make_body(topic: str) -> Document:
    return {"user_prompt": "Which?", "essay_a": "One.", "essay_b": "Two.", "callback_topic": topic}


async def test_every_operation_answers_as_the_document_says(
    client: httpx.AsyncClient, topic: str, embedded_broker: Child
) -> None:
    document = (await client.get("/openapi.json")).json()
    operations = dict(list_operations(document))
    await leave_traces(client, embedded_broker, topic)
    queue_id = (await ask(client, SUBMISSION, make_body(topic), "caller")).json()["queue_id"]

    for name in [*(name for name in operations if name not in LAST), *LAST]:
        token = next((key for entry in operations[name]["security"] for key in entry), None)
        sent = make_body(topic) if name == SUBMISSION else BODIES.get(name)
        answer = await ask(client, name, sent, token, queue_id=queue_id, name="openai")
        assert answer.is_success, (name, answer.text)
        judge(document, operations[name], answer)
    assert set(operations) == set(ANSWERS)


async def test_every_refusal_is_one_that_the_document_names(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    refused: set[tuple[str, int]] = set()
    for name, operation in list_operations(document):
        right = next((key for entry in operation["security"] for key in entry), None)
        if right is None:
            continue
        wrong = next(token for token in TOKENS if token != right)
        places = {"queue_id": "unknown", "name": "unknown"}
        query = "?unknown=1" if any(each["in"] == "query" for each in operation.get("parameters", ())) else ""
        for token, body in ((None, None), (wrong, None), (right, {"unknown": 1})):
            if token == right and not (query or "{" in name or "requestBody" in operation):
                continue
            answer = await ask(client, name + query, body, token, **places)
            if token != right:
                assert answer.status_code == (401 if token is None else 403), (name, answer.text)
            assert str(answer.status_code) in operation["responses"], (name, answer.text)
            judge(document, operation, answer)
            refused.add((name, answer.status_code))
    assert {status for _, status in refused} == {401, 403, 404, 422}
    assert {status for name, status in refused if name == SUBMISSION} == {401, 403, 422}


async def test_the_submission_s_own_refusals_are_named(client: httpx.AsyncClient, topic: str) -> None:
    document = (await client.get("/openapi.json")).json()
    operation = dict(list_operations(document))[SUBMISSION]
    headers = {"Authorization": f"Bearer {TOKENS['caller']}", "Idempotency-Key": f"key-{topic}"}
    body = make_body(topic)

    async def submit(**more: Any) -> httpx.Response:
        answer = await client.post("/api/v1/comparison", **{"headers": headers, "json": body, **more})
        judge(document, operation, answer)
        return answer

    answers = [
        await submit(),
        await submit(json={**body, "priority": 1}),
        await submit(json={**body, "essay_a": "x" * 1_100_000}),
        await submit(json=None, content=b"text", headers={**headers, "Content-Type": "text/plain"}),
    ]
    operator = {"Authorization": f"Bearer {TOKENS['operator']}"}
    (await client.post("/admin/v1/drain", json={"timeout_seconds": 1}, headers=operator)).raise_for_status()
    try:
        answers.append(await submit(json={**body, "priority": 2}))
    finally:
        (await client.post("/admin/v1/resume", headers=operator)).raise_for_status()
    assert [answer.status_code for answer in answers] == [202, 409, 413, 415, 503]
    assert int(answers[-1].headers["retry-after"]) >= 1
