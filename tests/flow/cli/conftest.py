"""The command line as its users have it: real processes, a stand-in for the service, the embedded broker."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
import uvicorn
from aiokafka import AIOKafkaProducer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from service.contracts.codec import seal
from service.contracts.enums import EssayComparisonWinner, LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.contracts.errors import ErrorDetail
from service.contracts.events import EventEnvelope, LLMComparisonResultV1
from service.contracts.topics import derive_event_id
from simulator.broker.control import TopicSpec, find_control

RUN_LIMIT_SECONDS = 30.0
START_LIMIT_SECONDS = 10.0


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Awaitable[Ended]]


@pytest.fixture
def llmctl() -> Run:
    """Runs `llmctl` to its end; everything is a pipe."""

    async def run(*words: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Ended:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "llmctl",
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **(env or {})},
        )
        try:
            async with asyncio.timeout(RUN_LIMIT_SECONDS):
                out, err = await process.communicate(stdin)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())

    return run


@pytest.fixture
async def topic(bootstrap_servers: str) -> str:
    """A topic of this test's own, with two partitions."""
    control = await find_control(bootstrap_servers)
    assert control is not None
    name = f"cli-{uuid4()}"
    await control.create_topics([TopicSpec(name, 2)])
    return name


@dataclass
class StubService:
    """Answers the submit route as the test says, and calls back at once."""

    producer: AIOKafkaProducer
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    full_times: int = 0
    """So many requests are refused with 503 first."""
    calls_back: bool = True
    model: str = "gpt-4o-mini"
    run_id: str | None = None

    async def submit(self, request: Request) -> JSONResponse:
        """`POST /api/v1/comparison`."""
        body = await request.json()
        self.authorizations.append(request.headers.get("authorization"))
        correlation_id = uuid4()
        if self.full_times:
            self.full_times -= 1
            return JSONResponse(
                self._refuse(correlation_id, LLMErrorCode.QUEUE_FULL), 503, {"Retry-After": "0"}
            )
        if "essay_b" not in body:
            return JSONResponse(self._refuse(correlation_id, LLMErrorCode.INVALID_PROMPT), 422)
        self.bodies.append(body)
        queue_id = str(uuid4())
        if self.calls_back:  # before the answer: the fastest callback that there can be
            await self.call_back(
                body["callback_topic"], queue_id, correlation_id, fails=body["essay_b"] == "fail"
            )
        accepted = {
            "queue_id": queue_id,
            "correlation_id": str(correlation_id),
            "status": "queued",
            "callback_topic": body["callback_topic"],
            "queue_position": 1,
            "message": "queued",
        }
        return JSONResponse(accepted, 202)

    async def call_back(
        self, topic: str, queue_id: str, correlation_id: UUID, *, fails: bool = False
    ) -> None:
        """Puts a callback on the topic."""
        now = datetime.now(UTC)
        error = ErrorDetail.model_validate(
            self._refuse(correlation_id, LLMErrorCode.PROVIDER_TIMEOUT)["error"]
        )
        envelope = EventEnvelope[LLMComparisonResultV1](
            event_id=derive_event_id(queue_id),
            event_type="llm_provider.comparison_result",
            source_service="llm_provider_service",
            correlation_id=correlation_id,
            data=LLMComparisonResultV1(
                request_id=queue_id,
                correlation_id=correlation_id,
                winner=None if fails else EssayComparisonWinner.ESSAY_A,
                justification=None if fails else "better",
                confidence=None if fails else 0.9,
                error_detail=error if fails else None,
                provider=LLMProviderType.OPENAI,
                model=self.model,
                response_time_ms=5,
                cost_estimate=0.0001,
                requested_at=now,
                completed_at=now,
            ),
        )
        sealed = seal(envelope, run_id=self.run_id)
        await self.producer.send_and_wait(
            topic, sealed.value, key=str(correlation_id).encode(), headers=list(sealed.headers)
        )

    def _refuse(self, correlation_id: UUID, code: LLMErrorCode) -> dict[str, Any]:
        detail = ErrorDetail(
            error_code=code,
            message=f"refused: {code}",
            correlation_id=correlation_id,
            timestamp=datetime.now(UTC),
            service="stub",
            operation="submit",
        )
        return {"error": detail.model_dump(mode="json")}


@pytest.fixture
async def service(bootstrap_servers: str) -> AsyncIterator[StubService]:
    """A stand-in for the service, over real HTTP."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers)
    await producer.start()
    try:
        stub = StubService(producer)
        async with _serve(
            Starlette(routes=[Route("/api/v1/comparison", stub.submit, methods=["POST"])])
        ) as url:
            stub.url = url
            yield stub
    finally:
        await producer.stop()


@asynccontextmanager
async def _serve(app: Starlette) -> AsyncIterator[str]:
    config = uvicorn.Config(
        app, port=0, log_level="critical", lifespan="off", ws="none", timeout_keep_alive=30
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    async with asyncio.timeout(START_LIMIT_SECONDS):
        await server.startup()
    serving = asyncio.create_task(server.main_loop())
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await serving
        await server.shutdown()


@pytest.fixture
async def dead_port() -> int:
    """A port on which nobody listens."""
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = int(server.sockets[0].getsockname()[1])
    server.close()
    await server.wait_closed()
    return port
