import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from simulator.provider.pauses import Pauses
from simulator.provider.scenario import find_scenario
from simulator.provider.server import create_app


@pytest.fixture
def skip_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the clock of the running loop forward: every timer within that time (s) is due at once."""

    def skip(seconds: float) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time
        monkeypatch.setattr(loop, "time", lambda: now() + seconds)

    return skip


@pytest.fixture
async def client(request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a calm fake provider at `BASE_URL`, with the `HEADERS` of the test's module."""
    app = create_app(find_scenario("calm").with_seed(7).with_latency_p50_ms(0), Pauses())
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url=request.module.BASE_URL, headers=request.module.HEADERS
    ) as client:
        yield client
