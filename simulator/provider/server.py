"""The fake provider as a server: routes, simulated latency, start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from simulator.essays import load_essays
from simulator.provider import openai
from simulator.provider.draws import Draws
from simulator.provider.judge import Judge
from simulator.provider.openai import Refusal
from simulator.provider.pauses import Pauses
from simulator.provider.scenario import Scenario

LOOPBACK = "127.0.0.1"
MAX_BODY_BYTES = 4 * 1024 * 1024
KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep idle connections, so that they are the ones to close them."""
STOP_SECONDS = 2
"""Requests that are still being sent get so long when the server stops; what waits is answered at once."""
BACKLOG = 4096


class ProviderError(Exception):
    """The fake provider cannot run; the message says why and what to do."""


@dataclass(frozen=True)
class ProviderAddress:
    """Where the provider answers."""

    port: int

    @property
    def base_urls(self) -> dict[str, str]:
        """By provider, the base URL as the vendor's SDK takes it."""
        return {"openai": f"http://{LOOPBACK}:{self.port}/v1"}


class OpenAIRoutes:
    """OpenAI's API over HTTP."""

    def __init__(self, judge: Judge, scenario: Scenario, pauses: Pauses) -> None:
        self._judge = judge
        self._scenario = scenario
        self._pauses = pauses

    async def complete(self, request: Request) -> Response:
        """`POST /v1/chat/completions`."""
        openai.check_authorization(request.headers.get("authorization"))
        chat = openai.read_chat_request(await _read_body(request))
        attempt = openai.read_attempt(request.headers.get("x-stainless-retry-count"))
        draws = Draws(self._scenario.seed, chat.canonical, attempt)
        completion = openai.complete(chat, self._judge, draws)
        seconds = self._scenario.latency.sample_seconds(draws.stream("latency"))
        await self._pauses.pause(seconds)
        return _answer(
            200,
            completion.as_body(int(time.time())),
            request_id=draws.identifier("request", 32),
            processing_ms=round(seconds * 1000),
        )

    async def list_models(self, request: Request) -> Response:
        """`GET /v1/models`."""
        openai.check_authorization(request.headers.get("authorization"))
        return _answer(200, openai.list_models(), request_id=_identify(request))


def create_app(scenario: Scenario, pauses: Pauses) -> Starlette:
    """The ASGI application: OpenAI's API under `/v1`, and `/healthz`."""
    routes = OpenAIRoutes(Judge(load_essays()), scenario, pauses)

    async def tell_health(_: Request) -> Response:
        return _json(
            200,
            {"status": "ok", "scenario": scenario.name, "seed": scenario.seed, "in_flight": pauses.under_way},
        )

    return Starlette(
        routes=[
            Route("/v1/chat/completions", routes.complete, methods=["POST"]),
            Route("/v1/models", routes.list_models, methods=["GET"]),
            Route("/healthz", tell_health, methods=["GET"]),
        ],
        exception_handlers={Refusal: _answer_refusal, HTTPException: _answer_http_exception},
    )


async def run_provider(
    port: int,
    scenario: Scenario,
    *,
    on_ready: Callable[[ProviderAddress], None],
    stop: asyncio.Event,
) -> None:
    """Serves on the loopback interface until `stop` is set; port 0 takes any free one.

    Raises `ProviderError` where the port cannot be had.
    """
    with _listen(port) as listener:
        address = ProviderAddress(listener.getsockname()[1])
        pauses = Pauses()
        server = _Server(create_app(scenario, pauses), lambda: on_ready(address))
        serving = asyncio.create_task(server.serve(sockets=[listener]), name="fake provider")
        stopping = asyncio.create_task(stop.wait(), name="fake provider's stop")
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            server.should_exit = True
            pauses.end()
            await serving


class _Server(uvicorn.Server):
    """Uvicorn that leaves the signals to its owner and says when it answers."""

    def __init__(self, app: Starlette, on_started: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )
        self._on_started = on_started

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
    except OSError as error:
        listener.close()
        raise ProviderError(
            f"The fake provider cannot listen on {LOOPBACK}:{port}: {os.strerror(error.errno or 0)}. "
            "Choose another port, or 0 for any free one."
        ) from error
    return listener


async def _read_body(request: Request) -> bytes:
    """The body, refused as soon as it is too large; no more than that is kept of it."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise openai.refuse_size(MAX_BODY_BYTES)
    return bytes(body)


def _answer(status: int, body: dict[str, Any], *, request_id: str, processing_ms: int = 0) -> Response:
    headers = {"x-request-id": f"req_{request_id}", "openai-processing-ms": str(processing_ms)}
    return _json(status, body, headers)


def _json(status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, headers, media_type="application/json")


def _identify(request: Request) -> str:
    """A request id for an answer that drew nothing: it depends on the request line alone."""
    return blake2b(f"{request.method} {request.url.path}".encode(), digest_size=16).hexdigest()


async def _answer_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _answer(error.status, error.body, request_id=_identify(request))


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refusal = openai.refuse_route(error.status_code, request.method, request.url.path)
    response = await _answer_refusal(request, refusal)
    response.headers.update(error.headers or {})
    return response
