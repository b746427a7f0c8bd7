"""Every vendor's key is tried with a call that costs nothing, against the fake provider and over sockets."""

import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from service.core.keys import KeyStatus
from service.providers.anthropic import Anthropic
from service.providers.catalogue import CATALOGUE
from service.providers.google import Google
from service.providers.openai import OpenAI
from service.providers.openrouter import OpenRouter
from service.providers.remote import RemoteProvider
from service.providers.transport import open_transport
from tests.waiting import HANG_SECONDS, open_client

KEY = "sk-canary-7f3a91"
DIALECTS: dict[str, Callable[..., Any]] = {
    "openai": OpenAI,
    "anthropic": Anthropic,
    "google": Google,
    "openrouter": OpenRouter,
}

Open = Callable[[str], RemoteProvider]


@pytest.fixture(scope="module")
def fake(session_launcher: Any) -> dict[str, str]:
    return dict(session_launcher.start("simulator.provider", "--port", "0").ready["base_urls"])


@pytest.fixture(params=list(DIALECTS))
async def provider(request: pytest.FixtureRequest, fake: dict[str, str]) -> AsyncIterator[RemoteProvider]:
    provider = open_provider(request.param, fake[request.param])
    yield provider
    await provider.close()


@pytest.fixture
async def control(fake: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(fake["google"]) as client:
        yield client
        await client.patch("/_sim/scenario", json={"outage": None})
        await client.delete("/_sim/journal")


def open_provider(name: str, base_url: str, transport: httpx.AsyncBaseTransport | None = None) -> Any:
    dialect = DIALECTS[name](api_key=KEY, base_url=base_url)
    return RemoteProvider(
        dialect,
        default_model="unused",
        catalogue=CATALOGUE,
        transport=transport or open_transport(max_connections=2, connect_timeout_seconds=HANG_SECONDS),
    )


async def test_a_good_key_is_accepted_and_nothing_is_billed(
    provider: RemoteProvider, control: httpx.AsyncClient
) -> None:
    report = await provider.check_key(HANG_SECONDS)

    journal = (await control.get("/_sim/journal")).text
    assert (report.status, report.usable, journal) == (KeyStatus.ACCEPTED, True, "")
    assert KEY not in report.message


@pytest.mark.parametrize(
    ("outage", "status"),
    [
        ("unauthorized", KeyStatus.REFUSED), ("forbidden", KeyStatus.REFUSED),
        ("quota_exhausted", KeyStatus.QUOTA), ("rate_limited", KeyStatus.LIMITED),
        ("server_error", KeyStatus.UNREACHABLE), ("bad_gateway", KeyStatus.UNREACHABLE),
        ("reset", KeyStatus.UNREACHABLE),
    ],
)  # fmt: skip
async def test_what_the_vendor_says_is_told(
    provider: RemoteProvider, control: httpx.AsyncClient, outage: str, status: KeyStatus
) -> None:
    assert (await control.patch("/_sim/scenario", json={"outage": outage})).is_success

    report = await provider.check_key(HANG_SECONDS)

    assert (report.status, report.usable) == (status, False)
    assert KEY not in report.message
    assert "written to be refused" not in report.message


async def test_a_vendor_that_is_silent_or_away_is_unreachable(
    provider: RemoteProvider, control: httpx.AsyncClient
) -> None:
    assert (await control.patch("/_sim/scenario", json={"outage": "hang"})).is_success
    report = await provider.check_key(0.1)
    assert (report.status, "0.1 seconds" in report.message) == (KeyStatus.UNREACHABLE, True)

    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = open_provider(provider.name, f"http://127.0.0.1:{nobody.getsockname()[1]}")
        report = await away.check_key(HANG_SECONDS)
        await away.close()
    assert (report.status, report.message) == (KeyStatus.UNREACHABLE, "The provider cannot be reached.")


@pytest.mark.parametrize("name", list(DIALECTS))
@pytest.mark.parametrize("answer", [b"<html>Please log in</html>", b"{}", b'["data"]'])
async def test_a_page_is_no_accepted_key(name: str, answer: bytes) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=answer))
    provider = open_provider(name, "https://proxy.example/v1", transport)

    report = await provider.check_key(HANG_SECONDS)

    assert (report.status, "base URL" in report.message) == (KeyStatus.UNEXPECTED, True)


@pytest.mark.parametrize(
    ("name", "base_url", "asked", "header"),
    [
        ("openai", "https://a.example/v1", "https://a.example/v1/models", "authorization"),
        ("anthropic", "https://a.example", "https://a.example/v1/models?limit=1", "x-api-key"),
        ("google", "https://a.example", "https://a.example/v1beta/models?pageSize=1", "x-goog-api-key"),
        ("openrouter", "https://a.example/api/v1", "https://a.example/api/v1/key", "authorization"),
    ],
)
async def test_the_call_is_one_that_needs_the_key(name: str, base_url: str, asked: str, header: str) -> None:
    """OpenRouter's list of models is open to all, so its key is checked elsewhere."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"data": []})

    await open_provider(name, base_url, httpx.MockTransport(answer)).check_key(HANG_SECONDS)

    ((request),) = seen
    assert (request.method, str(request.url)) == ("GET", asked)
    assert KEY in request.headers[header]
    assert KEY not in str(request.url)
