"""Serves an ASGI application on a free port, in the process of the test."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette

from tests.waiting import HANG_SECONDS


@asynccontextmanager
async def serve(app: Starlette) -> AsyncIterator[str]:
    """Yields the URL."""
    config = uvicorn.Config(
        app, port=0, log_level="critical", lifespan="off", ws="none", timeout_keep_alive=30
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    async with asyncio.timeout(HANG_SECONDS):
        await server.startup()
    serving = asyncio.create_task(server.main_loop())
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
        await server.shutdown()
