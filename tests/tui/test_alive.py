"""The screen stays alive whatever becomes of what it watches, and says how old its figures are."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from llmctl.tui.app import Monitor
from llmctl.tui.feeds.kafka import CallbackSource, TopicSource
from llmctl.tui.feeds.service import ServiceFeed
from llmctl.tui.model.clock import LiveClock
from llmctl.tui.session import Session, Source
from simulator.broker.control import BrokerControl
from simulator.kafka_address import KafkaAddress
from tests.flow.conftest import MOCK, make_env
from tests.free_ports import find_free_ports
from tests.tui.conftest import SIZES, Shown, read_screen, until_shown


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are old after one second, and lost sources are read again soon."""
    monkeypatch.setattr("llmctl.tui.model.store.STALE_SECONDS", 1.0)
    monkeypatch.setattr("llmctl.tui.feeds.source.LONGEST_PAUSE_SECONDS", 0.5)


@asynccontextmanager
async def watching(url: str, *kafka: Callable[[LiveClock], Source]) -> AsyncIterator[Shown]:
    """Shows a service, and sources on Kafka."""
    clock = LiveClock()
    sources = [ServiceFeed(url, None, clock), *(make(clock) for make in kafka)]
    app = Monitor(Session("watched", clock, sources))
    async with app.run_test(size=SIZES["middle"]) as shown:
        yield shown
        assert app.is_running, app.failure


@pytest.fixture
def start_service(launcher: Any, bootstrap_servers: str, tmp_path: Path) -> Callable[..., Any]:

    def start(port: int = 0) -> Any:
        env = make_env(bootstrap_servers, tmp_path, **MOCK, PORT=str(port))
        return launcher.start("service", env=env)

    return start


async def test_service_killed_and_started_again(start_service: Callable[..., Any]) -> None:
    (port,) = find_free_ports(1)
    service = start_service(port)
    async with watching(service.ready["url"]) as shown:
        store = shown.app.session.store
        await until_shown(shown, lambda: "stream" in read_screen(shown.app), "figures from the stream")
        service.process.kill()
        service.process.wait()
        await until_shown(
            shown, lambda: "No service answers" in read_screen(shown.app), "the word of its end"
        )
        await until_shown(shown, lambda: "figures are " in read_screen(shown.app), "the figures' age")
        seen_before = store.reading.at
        start_service(port)
        await until_shown(shown, lambda: store.reading.at > seen_before, "new figures")
        await until_shown(shown, lambda: "old" not in read_screen(shown.app).splitlines()[0], "fresh figures")
        assert "service: there again" in [event.text for event in store.events]


async def test_service_that_stands_still(start_service: Callable[..., Any]) -> None:
    service = start_service()
    async with watching(service.ready["url"]) as shown:
        await until_shown(shown, lambda: "stream" in read_screen(shown.app), "figures from the stream")
        os.kill(service.process.pid, signal.SIGSTOP)
        try:
            await until_shown(shown, lambda: "figures are " in read_screen(shown.app), "the figures' age")
            await shown.press("4")
            await until_shown(shown, lambda: "latency p50" in read_screen(shown.app), "the queue's pane")
        finally:
            os.kill(service.process.pid, signal.SIGCONT)
        await until_shown(shown, lambda: "old" not in read_screen(shown.app).splitlines()[0], "fresh figures")


async def test_broker_away(launcher: Any, serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmctl.tui.feeds.kafka.TOPICS_EVERY_SECONDS", 0.1)
    monkeypatch.setattr("llmctl.tui.feeds.source.LONGEST_PAUSE_SECONDS", 0.1)
    broker = launcher.start("simulator.broker", "--port", "0", "--topic", "results.away:2")
    control = BrokerControl(Path(broker.ready["control"]))
    kafka = KafkaAddress(broker.ready["bootstrap_servers"])
    seen_by_service = "up"

    async def tell(request: Request) -> Response:
        if request.url.path.endswith("/stream"):
            return refuse(404, "LLM_NOT_FOUND")
        return JSONResponse(SNAPSHOT | {"broker": seen_by_service})

    async with serve(Starlette(routes=[Route("/admin/v1/{rest:path}", tell)])) as url:
        sources = [partial(source, kafka, ["results.away"]) for source in (CallbackSource, TopicSource)]
        async with watching(url, *sources) as shown:
            store = shown.app.session.store
            await until_shown(shown, lambda: store.topics, "topics")
            await control.down()
            seen_by_service = "down"
            await until_shown(shown, lambda: "Kafka is away" in read_screen(shown.app), "the advice")
            await until_shown(shown, lambda: store.problems, "the loss of the broker")
            await control.up()
            seen_by_service = "up"
            await until_shown(shown, lambda: "Kafka is away" not in read_screen(shown.app), "its return")
            await until_shown(shown, lambda: not store.problems, "the sources' return")


SNAPSHOT = {
    "version": "stub",
    "phase": "ready",
    "accepting": True,
    "queue": {"depth": 7, "capacity": 100, "oldest_age_seconds": 0.5},
    "in_flight": 3,
    "outbox": {"depth": 0, "parked": 0},
    "totals": {"accepted": 10, "published": 3},
}
METRICS = """\
# TYPE llm_queue_depth gauge
llm_queue_depth 42.0
# TYPE llm_service_phase gauge
llm_service_phase{phase="ready"} 1.0
"""


async def test_keys_do_not_wait_for_slow_figures(serve: Any) -> None:
    gate = asyncio.Event()

    async def answer(request: Request) -> Response:
        if request.url.path.endswith("/stream"):
            return refuse(404, "LLM_NOT_FOUND")
        await gate.wait()
        return JSONResponse(SNAPSHOT)

    routes = [Route("/admin/v1/{rest:path}", answer)]
    async with serve(Starlette(routes=routes)) as url, watching(url) as shown:
        await shown.press("6")
        await until_shown(shown, lambda: "EVENTS" in read_screen(shown.app), "the events' pane")
        gate.set()
        await until_shown(shown, lambda: shown.app.session.store.reading, "slow figures")
        assert shown.app.session.store.reading.source == "snapshot"


async def test_without_a_credential_the_metrics_are_read(serve: Any) -> None:
    async def refuse_all(request: Request) -> Response:
        return refuse(401, "LLM_UNAUTHORIZED")

    async def tell(request: Request) -> Response:
        return PlainTextResponse(METRICS)

    routes = [Route("/admin/v1/{rest:path}", refuse_all), Route("/metrics", tell)]
    async with serve(Starlette(routes=routes)) as url, watching(url) as shown:
        await until_shown(shown, lambda: "metrics" in read_screen(shown.app).splitlines()[0], "figures")
        assert shown.app.session.store.reading.queue_depth == 42


async def test_what_is_no_service_at_all(serve: Any) -> None:
    async def page(request: Request) -> Response:
        return PlainTextResponse("<html>hello</html>")

    async with serve(Starlette(routes=[Route("/{rest:path}", page)])) as url, watching(url) as shown:
        await until_shown(shown, lambda: "is not this service" in read_screen(shown.app), "the sentence")


def refuse(status: int, code: str) -> Response:
    return JSONResponse({"error": {"error_code": code, "message": f"refused: {code}"}}, status)
