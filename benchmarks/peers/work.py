"""What every candidate but the service does with a request, and no more: the same client, the same JSON.

Nothing is validated, priced, limited, repeated or counted here, all of which the service does.
"""

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import orjson
import uvicorn
from aiokafka import AIOKafkaProducer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.peers.process import announce, bind
from service.core.prompt import SYSTEM_PROMPT
from service.providers.dialect import list_headers, parse_url, post
from service.providers.exchange import exchange
from service.providers.transport import open_transport

BOOTSTRAP_SERVERS = "CHAIN_BOOTSTRAP_SERVERS"
PROVIDER_BASE_URL = "CHAIN_PROVIDER_BASE_URL"
REDIS_URL = "CHAIN_REDIS_URL"
REQUESTS_TOPIC = "chain.requests"
"""For a candidate that queues in Kafka."""

IN_FLIGHT = 1000
PROVIDER_TIMEOUT_SECONDS = 120.0
PRODUCER: dict[str, Any] = {
    "acks": "all",
    "enable_idempotence": True,
    "linger_ms": 0,
    "max_batch_size": 1_000_000,
}
"""As the service has it: the default of 16 KiB a batch would slow down whoever has 1,000 in flight."""

Document = dict[str, Any]
"""A request's body, with its `queue_id` once it has one."""


@dataclass(frozen=True)
class Callback:
    """A record to publish."""

    topic: str
    key: bytes
    value: bytes


class Judge:
    """Asks the provider and writes the callback."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport
        self._url = parse_url("stub", os.environ[PROVIDER_BASE_URL], "/chat/completions", "")
        self._headers = list_headers(self._url, {"authorization": "Bearer key"})

    async def judge(self, document: Document) -> Callback:
        """One request to its callback."""
        began = time.perf_counter()
        request = post(self._url, self._headers, _compose_chat(document))
        answer = await exchange(self._transport, request, timeout_seconds=PROVIDER_TIMEOUT_SECONDS)
        reply = orjson.loads(answer.body)
        seconds = time.perf_counter() - began
        value = orjson.dumps(_compose_event(document, reply, seconds))
        return Callback(document["callback_topic"], document["correlation_id"].encode(), value)


def _compose_chat(document: Document) -> Document:
    essays = f"<essay_a>\n{document['essay_a']}\n</essay_a>\n\n<essay_b>\n{document['essay_b']}\n</essay_b>"
    return {
        "model": "gpt-4o-mini",
        "messages": (
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": f"{document['user_prompt']}\n\n{essays}"},
        ),
    }


def _compose_event(document: Document, reply: Document, seconds: float) -> Document:
    now = datetime.now(UTC)
    return {
        "event_id": uuid4(),
        "event_type": "llm_provider.comparison_result",
        "event_timestamp": now,
        "source_service": "benchmark",
        "schema_version": 1,
        "correlation_id": document["correlation_id"],
        "data": {
            **orjson.loads(reply["choices"][0]["message"]["content"]),
            "request_id": document["queue_id"],
            "correlation_id": document["correlation_id"],
            "provider": "openai",
            "model": reply["model"],
            "response_time_ms": round(seconds * 1000),
            "token_usage": reply["usage"],
            "completed_at": now,
            "request_metadata": document["metadata"],
        },
        "metadata": {},
    }


def accept(body: bytes) -> tuple[Document, bytes]:
    """A request with its id, and the body of its 202."""
    document = orjson.loads(body)
    document["queue_id"] = str(uuid4())
    receipt = {name: document[name] for name in ("queue_id", "correlation_id", "callback_topic")}
    return document, orjson.dumps({**receipt, "status": "queued", "queue_position": 1, "message": "Queued."})


@asynccontextmanager
async def open_judge() -> AsyncIterator[Judge]:
    """A judge with a client of the service's."""
    transport = open_transport(max_connections=IN_FLIGHT)
    try:
        yield Judge(transport)
    finally:
        await transport.aclose()


@asynccontextmanager
async def open_producer() -> AsyncIterator[AIOKafkaProducer]:
    """A producer with the service's settings."""
    async with AIOKafkaProducer(bootstrap_servers=os.environ[BOOTSTRAP_SERVERS], **PRODUCER) as producer:
        yield producer


async def serve_front(enqueue: Callable[[Document], Awaitable[Any]]) -> None:
    """Serves a peer's front: Starlette under uvicorn, 202 when the peer has taken the request."""

    async def submit(request: Request) -> Response:
        document, receipt = accept(await request.body())
        await enqueue(document)
        return Response(receipt, status_code=202, media_type="application/json")

    app = Starlette(routes=[Route("/api/v1/comparison", submit, methods=["POST"])])
    config = uvicorn.Config(
        app, loop="none", http="httptools", ws="none", lifespan="off", access_log=False, log_level="warning"
    )
    with bind() as listener:
        announce(listener)
        await uvicorn.Server(config).serve([listener])
