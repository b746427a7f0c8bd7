"""A fake service with faults that a load run must find.

    python -m tests.process.bad_service --bootstrap-servers HOST:PORT [--lose N] [--double N]
        [--misplace-key N] [--delay-seconds S]

Every N-th accepted request gets the fault; its id is under `wrong` in the snapshot. `--delay-seconds` delays
every 202.
"""

import argparse
import asyncio
import json
import sys
import time
from datetime import UTC, datetime
from uuid import UUID, uuid4

import uvicorn
from confluent_kafka import Producer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.contracts.codec import seal
from service.contracts.enums import EssayComparisonWinner, LLMProviderType
from service.contracts.events import EventEnvelope, LLMComparisonResultV1
from service.contracts.topics import derive_event_id

POLL_SECONDS = 0.01


class BadService:
    """Accepts requests and sends their callbacks at once."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._producer = Producer({"bootstrap.servers": options.bootstrap_servers, "linger.ms": 2})
        self._accepted = 0
        self._wrong: list[str] = []

    async def accept(self, request: Request) -> Response:
        """`POST /api/v1/comparison`."""
        body = await request.json()
        if self._options.delay_seconds:
            await asyncio.sleep(self._options.delay_seconds)
        self._accepted += 1
        queue_id, correlation_id = str(uuid4()), UUID(body["correlation_id"])
        self._call_back(body["callback_topic"], queue_id, correlation_id, request.headers["x-run-id"])
        accepted = {"queue_id": queue_id, "correlation_id": str(correlation_id), "status": "queued"}
        place = {"callback_topic": body["callback_topic"], "queue_position": 1, "message": "queued"}
        return JSONResponse(accepted | place, 202)

    async def get_snapshot(self, _: Request) -> Response:
        """`GET /admin/v1/snapshot`."""
        snapshot = {"queue": {"depth": 0}, "in_flight": 0, "outbox": {"depth": 0}}
        return JSONResponse({**snapshot, "accepted": self._accepted, "wrong": self._wrong})

    async def keep_polling(self) -> None:
        while True:
            self._producer.poll(0)
            await asyncio.sleep(POLL_SECONDS)

    def _call_back(self, topic: str, queue_id: str, correlation_id: UUID, run_id: str) -> None:
        now = datetime.now(UTC)
        result = LLMComparisonResultV1(
            request_id=queue_id,
            correlation_id=correlation_id,
            winner=EssayComparisonWinner.ESSAY_A,
            justification="better",
            confidence=0.9,
            provider=LLMProviderType.OPENAI,
            model="gpt-4o-mini",
            response_time_ms=5,
            cost_estimate=0.0,
            requested_at=now,
            completed_at=now,
        )
        envelope = EventEnvelope[LLMComparisonResultV1](
            event_id=derive_event_id(queue_id),
            event_type="llm_provider.comparison_result",
            source_service="llm_provider_service",
            correlation_id=correlation_id,
            data=result,
        )
        sealed = seal(envelope, run_id=run_id)
        options = self._options
        key = str(uuid4() if self._strikes(options.misplace_key) else correlation_id)
        copies = 2 if self._strikes(options.double) else 1
        if self._strikes(options.lose):
            copies = 0
        if any(map(self._strikes, (options.lose, options.double, options.misplace_key))):
            self._wrong.append(queue_id)
        for _ in range(copies):
            self._producer.produce(topic, sealed.value, key.encode(), headers=list(sealed.headers))

    def _strikes(self, every: int) -> bool:
        return every > 0 and self._accepted % every == 0


async def serve(options: argparse.Namespace) -> None:
    """Serves until standard input ends."""
    bad = BadService(options)
    routes = [
        Route("/api/v1/comparison", bad.accept, methods=["POST"]),
        Route("/admin/v1/snapshot", bad.get_snapshot, methods=["GET"]),
    ]
    config = uvicorn.Config(Starlette(routes=routes), port=0, log_level="critical", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    polling = asyncio.create_task(bad.keep_polling())
    port = server.servers[0].sockets[0].getsockname()[1]
    print(json.dumps({"ready": True, "url": f"http://127.0.0.1:{port}", "at": time.time()}), flush=True)
    serving = asyncio.create_task(server.main_loop())
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    polling.cancel()
    await serving


def main() -> None:
    """Reads the options and serves."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap-servers", required=True)
    parser.add_argument("--lose", type=int, default=0)
    parser.add_argument("--double", type=int, default=0)
    parser.add_argument("--misplace-key", type=int, default=0)
    parser.add_argument("--delay-seconds", type=float, default=0.0)
    parser.add_argument("--exit-with-parent", action="store_true")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
