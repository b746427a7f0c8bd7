"""Who may do what: tokens of callers and operators, and a caller's own topics."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from tests.flow.conftest import MOCK, make_env
from tests.waiting import open_client

PATH = "/api/v1/comparison"
ReadError = Callable[[httpx.Response], dict[str, Any]]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def guarded(session_launcher: Any, bootstrap_servers: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A service that knows two callers and two operators' tokens."""
    settings = MOCK | {
        "API_TOKENS": "red:red-1, red:red-2 ,blue-team:blue-canary",
        "ADMIN_TOKEN": "admin-1,admin-2",
        "CALLBACK_TOPIC_ALLOWLIST_BLUE_TEAM": "blue.*",
    }
    env = make_env(bootstrap_servers, tmp_path_factory.mktemp("guarded"), **settings)
    return session_launcher.start("service", env=env)


@pytest.fixture
async def door(guarded: Any) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the guarded service."""
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
@pytest.mark.parametrize(
    ("method", "path"), [("POST", PATH), ("GET", "/api/v1/providers"), ("DELETE", f"{PATH}/x")]
)
async def test_callers_route_needs_a_callers_token(
    door: httpx.AsyncClient,
    body: dict[str, Any],
    read_error: ReadError,
    headers: dict[str, str],
    status: int,
    code: str,
    method: str,
    path: str,
) -> None:
    response = await door.request(method, path, json=body, headers=headers)

    assert (response.status_code, read_error(response)["error_code"]) == (status, code)
    assert ("www-authenticate" in response.headers) == (status == 401)


@pytest.mark.parametrize("token", ["red-1", "red-2"])
async def test_each_of_a_callers_tokens_is_good(
    door: httpx.AsyncClient, body: dict[str, Any], token: str
) -> None:
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
    """A caller cannot look at or drain the service."""
    assert (await door.get(path, headers=headers)).status_code == status


async def test_operators_token_is_checked_before_the_order_is_read(door: httpx.AsyncClient) -> None:
    """Who has no token learns nothing of what is wrong with the body, and cannot fill the memory."""
    response = await door.post("/admin/v1/drain", content=b"{" * 5_000_000)

    assert response.status_code == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_health_and_metrics_need_no_token(door: httpx.AsyncClient, path: str) -> None:
    assert (await door.get(path)).status_code == 200


async def test_size_is_refused_before_the_token_and_the_token_before_the_body(
    door: httpx.AsyncClient, body: dict[str, Any], read_error: ReadError
) -> None:
    large = await door.post(PATH, json=body | {"metadata": {"x": "y" * 17_000}})
    broken = await door.post(PATH, content=b"{", headers={"content-type": "application/json"})

    assert (large.status_code, broken.status_code) == (413, 401)
    assert read_error(large)["error_code"] == "LLM_CONTENT_TOO_LONG"


async def test_callers_own_allowlist_replaces_the_common_one(
    door: httpx.AsyncClient, body: dict[str, Any], create_topic: Any, read_error: ReadError
) -> None:
    await create_topic("blue.results", 1)

    own = await door.post(PATH, json=body | {"callback_topic": "blue.results"}, headers=bearer("blue-canary"))
    other = await door.post(PATH, json=body, headers=bearer("blue-canary"))

    assert own.status_code == 202
    assert (other.status_code, read_error(other)["error_code"]) == (422, "LLM_INVALID_CALLBACK_TOPIC")


async def test_idempotency_keys_of_two_callers_do_not_meet(
    door: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    key = {"Idempotency-Key": "shared-key"}
    red = await door.post(PATH, json=body, headers=bearer("red-1") | key)
    again = await door.post(PATH, json=body, headers=bearer("red-2") | key)
    blue = await door.post(
        PATH, json=body | {"callback_topic": "blue.results"}, headers=bearer("blue-canary") | key
    )

    assert red.json()["queue_id"] == again.json()["queue_id"]
    assert blue.status_code == 202
    assert blue.json()["queue_id"] != red.json()["queue_id"]


async def test_no_token_stands_in_the_log(
    door: httpx.AsyncClient, guarded: Any, body: dict[str, Any]
) -> None:
    await door.post(PATH, json=body, headers=bearer("wrong-canary"))

    assert "canary" not in guarded.log.read_text()
