"""An OTLP collector for tests: takes spans over HTTP, and lets a test wait for those it expects."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.waiting import HANG_SECONDS


@dataclass(frozen=True)
class CollectedSpan:
    """One span, with the service that sent it."""

    service: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    failed: bool


@dataclass
class Collector:
    """What has been sent so far."""

    url: str = ""
    spans: list[CollectedSpan] = field(default_factory=list)
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: Request) -> Response:
        """`POST /v1/traces`, protobuf."""
        batch = ExportTraceServiceRequest.FromString(await request.body())
        for resource in batch.resource_spans:
            service = read_attributes(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                self.spans.extend(read_span(service, span) for span in scope.spans)
        self._came.set()
        return Response(b"", media_type="application/x-protobuf")

    async def wait_for(self, names: set[str]) -> dict[str, CollectedSpan]:
        """The first span of each of these names, once all have come."""
        async with asyncio.timeout(HANG_SECONDS):
            while not names <= {span.name for span in self.spans}:
                self._came.clear()
                await self._came.wait()
        return {span.name: span for span in reversed(self.spans)}


def read_attributes(pairs: Any) -> dict[str, Any]:
    """Attributes as plain values."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


def read_span(service: str, span: Any) -> CollectedSpan:
    """One span of a batch."""
    return CollectedSpan(
        service,
        span.name,
        span.kind,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        read_attributes(span.attributes),
        span.status.code == 2,  # STATUS_CODE_ERROR
    )


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector on a port of its own."""
    collector = Collector()
    app = Starlette(routes=[Route("/v1/traces", collector.take, methods=["POST"])])
    config = uvicorn.Config(app, port=0, log_level="critical", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    async with asyncio.timeout(HANG_SECONDS):
        await server.startup()
    serving = asyncio.create_task(server.main_loop())
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        collector.url = f"http://127.0.0.1:{port}"
        yield collector
    finally:
        server.should_exit = True
        await serving
        await server.shutdown()
