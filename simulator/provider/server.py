"""The fake provider as a server: routes, start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from simulator.essays import load_essays
from simulator.provider.anthropic import AnthropicApi
from simulator.provider.api import Api, Call, Refusal, Wire
from simulator.provider.connection import Connection, ConnectionProtocol
from simulator.provider.control import control_routes
from simulator.provider.delivery import send_whole
from simulator.provider.google import GoogleApi
from simulator.provider.judge import Judge
from simulator.provider.openai import OpenAIApi
from simulator.provider.openrouter import OpenRouterApi
from simulator.provider.pauses import Pauses
from simulator.provider.scenario import Scenario
from simulator.provider.simulation import Simulation

LOOPBACK = "127.0.0.1"
MAX_BODY_BYTES = 4 * 1024 * 1024
KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep idle connections, so that they are the ones to close them."""
STOP_SECONDS = 2
"""Requests that are still being sent get so long when the server stops; what waits is answered at once."""
BACKLOG = 4096
APIS: tuple[Api, ...] = (OpenAIApi(), AnthropicApi(), GoogleApi(), OpenRouterApi())
"""Each vendor's API; the first one answers what belongs to none."""


class ProviderError(Exception):
    """The fake provider cannot run; the message says why and what to do."""


@dataclass(frozen=True)
class ProviderAddress:
    """Where the provider answers."""

    port: int

    @property
    def base_urls(self) -> dict[str, str]:
        """By provider, the base URL as the vendor's SDK takes it."""
        return {api.name: f"http://{LOOPBACK}:{self.port}{api.base_path}" for api in APIS}


def create_app(scenario: Scenario, pauses: Pauses, apis: Sequence[Api] = APIS) -> Starlette:
    """The ASGI application: each API under its own paths, the control under `/_sim`, and `/healthz`."""
    simulation = Simulation(scenario, Judge(load_essays()), pauses)

    async def tell_health(_: Request) -> Response:
        body = {
            "status": "ok", "scenario": simulation.scenario.name, "seed": simulation.scenario.seed,
            "in_flight": pauses.under_way,
        }  # fmt: skip
        return Response(orjson.dumps(body), media_type="application/json")

    def look_up(choices: Sequence[Api]) -> ASGIApp:
        async def handle(scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope, receive)
            call = _read_call(request)
            api = _find_api(choices, call)
            try:
                call = replace(call, body=await _read_body(request, api, call))
                if await simulation.meet_outage(api, call, Connection.of(scope), send):
                    return
                wire = api.look_up(call)
            except Refusal as refusal:
                wire = refusal.wire
            await send_whole(send, wire)

        return _Endpoint(handle)

    async def refuse_route(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        call = _read_call(request)
        response = _respond(_find_api(apis, call).refuse_route(error.status_code, call))
        response.headers.update(error.headers or {})
        return response

    others: dict[tuple[str, str], list[Api]] = {}
    for api in apis:
        for route in api.other_routes():
            others.setdefault(route, []).append(api)
    return Starlette(
        routes=[
            *(
                Route(path, _Completions(simulation, api), methods=[method])
                for api in apis
                for method, path in api.routes()
            ),
            *(Route(path, look_up(choices), methods=[method]) for (method, path), choices in others.items()),
            *control_routes(simulation),
            Route("/healthz", tell_health, methods=["GET"]),
        ],
        exception_handlers={HTTPException: refuse_route},
    )


class _Endpoint:
    """An ASGI application that Starlette's routes take as such: they know it from a handler by its class."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


class _Completions:
    """One API's calls for a completion."""

    def __init__(self, simulation: Simulation, api: Api) -> None:
        self._simulation = simulation
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        call = _read_call(request)
        try:
            call = replace(call, body=await _read_body(request, self._api, call))
        except Refusal as refusal:
            await send_whole(send, refusal.wire)
        except ClientDisconnect:
            pass  # nobody is there to be answered
        else:
            await self._simulation.attend(self._api, call, Connection.of(scope), send)


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
                http=ConnectionProtocol,
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


def _read_call(request: Request) -> Call:
    """The request line and the headers; the body is still to be read."""
    return Call(
        method=request.method,
        path=request.url.path,
        headers=request.headers,
        path_params=request.path_params,
        query=request.query_params,
    )


async def _read_body(request: Request, api: Api, call: Call) -> bytes:
    """The body, refused as soon as it is too large; no more than that is kept of it."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise Refusal(api.refuse_size(MAX_BODY_BYTES, call))
    return bytes(body)


def _find_api(choices: Sequence[Api], call: Call) -> Api:
    return next((api for api in choices if api.claims(call)), choices[0])


def _respond(wire: Wire) -> Response:
    return Response(wire.body, wire.status, wire.headers)
