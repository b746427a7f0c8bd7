"""Who may do what: tokens of callers and operators, and a caller's own topics."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.flow.conftest import MOCK, Body, ReadError, make_env
from tests.waiting import open_client

PATH = "/api/v1/comparison"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def guarded(session_launcher: Any, bootstrap_servers: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    settings = MOCK | {
        "API_TOKENS": "red:red-1, red:red-2 ,blue-team:blue-canary",
        "ADMIN_TOKEN": "admin-1,admin-2",
        "CALLBACK_TOPIC_ALLOWLIST_BLUE_TEAM": "blue.*",
    }
    env = make_env(bootstrap_servers, tmp_path_factory.mktemp("guarded"), **settings)
    return session_launcher.start("service", env=env)


@pytest.fixture
async def door(guarded: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(guarded.ready["url"]) as client:
        yield client


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "LLM_UNAUTHORIZED"),
        (bearer("unknown"), 401, "LLM_UNAUTHORIZED"),
        ({"Authorization": "Bearer"}, 401, "LLM_UNAUTHORIZED"),
        ({"Authorization": "Basic red-1"}, 401, "LLM_UNAUTHORIZED"),
        (bearer("admin-1"), 403, "LLM_FORBIDDEN"),
    ],
)
async def test_callers_route_needs_a_callers_token(
    door: httpx.AsyncClient,
    body: Body,
    read_error: ReadError,
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    response = await door.post(PATH, json=body, headers=headers)
    assert (response.status_code, read_error(response)["error_code"]) == (status, code)
    assert ("www-authenticate" in response.headers) == (status == 401)


@pytest.mark.parametrize("token", ["red-1", "red-2"])
async def test_each_of_a_callers_tokens_is_good(door: httpx.AsyncClient, body: Body, token: str) -> None:
    """Two tokens of one name allow a rotation without a gap."""
    response = await door.post(PATH, json=body, headers=bearer(token))
    assert response.status_code == 202


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), (bearer("red-1"), 403), (bearer("admin-1"), 200), (bearer("admin-2"), 200)],
)
@pytest.mark.parametrize("path", ["/admin/v1/snapshot", "/admin/v1/drain"])
async def test_operators_route_needs_an_operators_token(
    door: httpx.AsyncClient, headers: dict[str, str], status: int, path: str
) -> None:
    assert (await door.get(path, headers=headers)).status_code == status


async def test_operators_token_is_checked_before_the_order_is_read(door: httpx.AsyncClient) -> None:
    """A client without a token learns nothing about its body, and cannot fill the memory."""
    response = await door.post("/admin/v1/drain", content=b"{" * 5_000_000)
    assert response.status_code == 401


async def test_health_and_metrics_need_no_token(door: httpx.AsyncClient) -> None:
    health, readiness, metrics = [await door.get(path) for path in ("/healthz", "/readyz", "/metrics")]
    assert (health.status_code, readiness.status_code, metrics.status_code) == (200, 200, 200)
    assert readiness.json() == {"status": "ready", "broker": "up"}
    assert metrics.headers["content-type"].startswith("text/plain")
    assert 'llm_service_phase{phase="ready"} 1.0' in metrics.text


async def test_size_is_refused_before_the_token_and_the_token_before_the_body(
    door: httpx.AsyncClient, body: Body, read_error: ReadError
) -> None:
    large = await door.post(PATH, json=body | {"metadata": {"x": "y" * 17_000}})
    broken = await door.post(PATH, content=b"{", headers={"content-type": "application/json"})
    assert (large.status_code, broken.status_code) == (413, 401)
    assert read_error(large)["error_code"] == "LLM_CONTENT_TOO_LONG"


@pytest.fixture
async def blue_body(body: Body, create_topic: Any) -> Body:
    """A request for a topic of the blue team."""
    topic = f"blue.{uuid4().hex}"
    await create_topic(topic, 1)
    return body | {"callback_topic": topic}


async def test_callers_own_allowlist_replaces_the_common_one(
    door: httpx.AsyncClient, body: Body, blue_body: Body, read_error: ReadError
) -> None:
    own = await door.post(PATH, json=blue_body, headers=bearer("blue-canary"))
    other = await door.post(PATH, json=body, headers=bearer("blue-canary"))
    assert own.status_code == 202
    assert (other.status_code, read_error(other)["error_code"]) == (422, "LLM_INVALID_CALLBACK_TOPIC")


async def test_idempotency_keys_of_two_callers_do_not_meet(
    door: httpx.AsyncClient, body: Body, blue_body: Body
) -> None:
    key = {"Idempotency-Key": "shared-key"}
    red = await door.post(PATH, json=body, headers=bearer("red-1") | key)
    again = await door.post(PATH, json=body, headers=bearer("red-2") | key)
    blue = await door.post(PATH, json=blue_body, headers=bearer("blue-canary") | key)
    assert red.json()["queue_id"] == again.json()["queue_id"]
    assert blue.status_code == 202
    assert blue.json()["queue_id"] != red.json()["queue_id"]


async def test_no_token_stands_in_the_log(door: httpx.AsyncClient, guarded: Any, body: Body) -> None:
    await door.post(PATH, json=body, headers=bearer("wrong-canary"))
    assert "canary" not in guarded.log.read_text()
