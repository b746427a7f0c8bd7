"""An OTLP collector for tests: takes spans over HTTP, and lets a test wait for those it expects."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.flow.serving import serve
from tests.waiting import HANG_SECONDS


@dataclass(frozen=True)
class CollectedSpan:
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
    """The spans that were sent so far."""

    url: str = ""
    spans: list[CollectedSpan] = field(default_factory=list)
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: Request) -> Response:
        batch = ExportTraceServiceRequest.FromString(await request.body())
        for resource in batch.resource_spans:
            service = read_attributes(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                self.spans.extend(read_span(service, span) for span in scope.spans)
        self._came.set()
        return Response(b"", media_type="application/x-protobuf")

    async def wait_for(self, names: set[str]) -> dict[str, CollectedSpan]:
        """Waits for these names and returns the first span of each."""
        async with asyncio.timeout(HANG_SECONDS):
            while not names <= {span.name for span in self.spans}:
                self._came.clear()
                await self._came.wait()
        return {span.name: span for span in reversed(self.spans)}


def read_attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


def read_span(service: str, span: Any) -> CollectedSpan:
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
    collector = Collector()
    app = Starlette(routes=[Route("/v1/traces", collector.take, methods=["POST"])])
    async with serve(app) as collector.url:
        yield collector
