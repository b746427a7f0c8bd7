"""The service as a source: its stream where it can be had, else its snapshot, else `/metrics`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from llmctl.client.figures import NotOffered, follow_stream, read_metrics, read_snapshot
from llmctl.client.http import open_http
from llmctl.exits import Failed, Unreachable
from llmctl.masking import mask_url
from llmctl.tui.feeds.source import keep_trying
from llmctl.tui.model.clock import Clock
from llmctl.tui.model.frames import Figures, Sink

SOURCE = "service"
POLL_SECONDS = 1.0
POLLS_BEFORE_STREAM = 30
"""After so many polls the better way is tried again."""


class ServiceFeed:
    """Puts the figures of the service at `url` into a sink."""

    def __init__(self, url: str, token: str | None, clock: Clock) -> None:
        self._url = url
        self._token = token
        self._clock = clock

    async def run(self, sink: Sink) -> None:
        """Runs until cancelled."""
        async with open_http(self._url, self._token) as client:
            await keep_trying(SOURCE, sink, self._clock, lambda good: self._follow(client, sink, good))

    async def read_once(self) -> Figures:
        """The figures at this moment; Unreachable, or Failed where none can be had."""
        async with open_http(self._url, self._token) as client:
            try:
                return self._frame("snapshot", await read_snapshot(client))
            except NotOffered:
                return self._frame("metrics", await _read_metrics(client, self._url))

    async def _follow(self, client: httpx.AsyncClient, sink: Sink, succeed: Callable[[], None]) -> None:
        seen = False
        try:
            async for document in follow_stream(client):
                seen = True
                self._put(sink, "stream", document, succeed)
        except NotOffered:
            await self._poll(client, sink, succeed)
        except Unreachable:
            if seen:
                raise
            # A proxy may hold a stream back and still let single answers through.
            await self._poll(client, sink, succeed)

    async def _poll(self, client: httpx.AsyncClient, sink: Sink, succeed: Callable[[], None]) -> None:
        ways: tuple[tuple[str, Callable[[], Awaitable[dict[str, Any]]]], ...] = (
            ("snapshot", lambda: read_snapshot(client)),
            ("metrics", lambda: _read_metrics(client, self._url)),
        )
        way = 0
        for _ in range(POLLS_BEFORE_STREAM):
            name, read = ways[way]
            try:
                document = await read()
            except NotOffered:
                if way:
                    raise
                way = 1
                continue
            self._put(sink, name, document, succeed)
            await asyncio.sleep(POLL_SECONDS)

    def _put(self, sink: Sink, source: str, document: dict[str, Any], succeed: Callable[[], None]) -> None:
        try:
            sink.take(self._frame(source, document))
        except ValueError as problem:
            raise Failed(f"What answers at {self._url} is not this service: {problem}.") from problem
        succeed()

    def _frame(self, source: str, document: dict[str, Any]) -> Figures:
        return Figures(self._clock.now(), source, document)


async def _read_metrics(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    try:
        return await read_metrics(client)
    except ValueError as problem:
        raise Failed(f"What answers at {mask_url(url)}/metrics is not this service: {problem}.") from problem
