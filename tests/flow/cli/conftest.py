"""The command line as its users have it: real processes, a stand-in for the service, the embedded broker."""

import asyncio
import json
import os
import pty
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import uvicorn
from aiokafka import AIOKafkaProducer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from llmctl.__main__ import main
from service.contracts.codec import seal
from service.contracts.enums import EssayComparisonWinner, LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.contracts.errors import ErrorDetail
from service.contracts.events import EventEnvelope, LLMComparisonResultV1
from service.contracts.topics import derive_event_id
from tests.waiting import HANG_SECONDS


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
            async with asyncio.timeout(HANG_SECONDS):
                out, err = await process.communicate(stdin)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())

    return run


RunHere = Callable[..., Ended]


@pytest.fixture
def llmctl_here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunHere:
    """Runs `llmctl` in this process, without standard input; for tests that are not coroutines."""

    def run(*words: str) -> Ended:
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO()))
        with pytest.raises(SystemExit) as ended:
            main(words)
        out, err = capsys.readouterr()
        return Ended(int(ended.value.code or 0), out, err)

    return run


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal: ours, and the command's."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    for end in (ours, theirs):
        os.close(end)


@asynccontextmanager
async def start(
    *words: str, terminal: int | None = None, env: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Starts `llmctl`, on a terminal or without one; kills it if the test does not end it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "llmctl", *words),
        stdin=asyncio.subprocess.DEVNULL if terminal is None else terminal,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE if terminal is None else terminal,
        env={**os.environ, **(env or {})},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
async def topic(create_topic: Any) -> str:
    """A topic of this test's own, with two partitions."""
    name = f"cli-{uuid4()}"
    await create_topic(name, 2)
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
    retry_after: str = "0"
    full_after: int | None = None
    """From so many accepted ones on, everything new is refused with 503."""
    silent_after: int | None = None
    """From so many accepted ones on, requests are accepted and no answer comes."""
    arrivals: list[float] = field(default_factory=list)
    """When each request came, by the monotonic clock."""
    lost_answers: int = 0
    """So many answers break off after the request was accepted."""
    conflicts: bool = False
    keys: list[str] = field(default_factory=list)
    """The idempotency keys as they came, repeated ones too."""
    accepted: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls_back: bool = True
    model: str = "gpt-4o-mini"
    run_id: str | None = None

    async def submit(self, request: Request) -> Response:
        """`POST /api/v1/comparison`."""
        body = await request.json()
        self.arrivals.append(time.monotonic())
        self.authorizations.append(request.headers.get("authorization"))
        key = request.headers["idempotency-key"]
        self.keys.append(key)
        correlation_id = uuid4()
        if self.conflicts:
            return JSONResponse(self._refuse(correlation_id, LLMErrorCode.IDEMPOTENCY_CONFLICT), 409)
        if key in self.accepted:
            return self._lose(JSONResponse(self.accepted[key], 202))
        if self.full_times or (self.full_after is not None and len(self.bodies) >= self.full_after):
            self.full_times = max(0, self.full_times - 1)
            return JSONResponse(
                self._refuse(correlation_id, LLMErrorCode.QUEUE_FULL), 503, {"Retry-After": self.retry_after}
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
        self.accepted[key] = accepted
        while self.silent_after is not None and len(self.bodies) > self.silent_after:
            if await request.is_disconnected():
                break
            await asyncio.sleep(0.05)
        return self._lose(JSONResponse(accepted, 202))

    def _lose(self, answer: Response) -> Response:
        if not self.lost_answers:
            return answer
        self.lost_answers -= 1
        return BrokenResponse()

    async def call_back(
        self,
        topic: str,
        queue_id: str,
        correlation_id: UUID,
        *,
        fails: bool = False,
        copies: int = 1,
        key: bytes | None = None,
    ) -> None:
        """Puts a callback on the topic, so many times, under its own key or another."""
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
        for _ in range(copies):
            await self.producer.send_and_wait(
                topic, sealed.value, key=key or str(correlation_id).encode(), headers=list(sealed.headers)
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
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all")
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


@dataclass
class StubAdmin:
    """Answers the operators' routes as the test says."""

    url: str = ""
    statuses: list[dict[str, Any]] = field(default_factory=list)
    """Told one after the other, the last one again and again."""
    refusal: tuple[int, str] | None = None
    breaks_after: int | None = None
    """From this many calls on, the connection breaks."""
    silent_after: int | None = None
    """From this many calls on, no answer comes."""
    silences: int = 0
    calls: list[tuple[str, Any]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        """Every route under `/admin/v1`."""
        if self.breaks_after is not None and len(self.calls) >= self.breaks_after:
            return BrokenResponse()
        if self.silent_after is not None and len(self.calls) >= self.silent_after:
            self.silences += 1
            while not await request.is_disconnected():  # noqa: ASYNC110 - a server can only ask
                await asyncio.sleep(0.05)
        raw = await request.body()
        path = request.url.path.removeprefix("/admin/v1")
        self.calls.append((f"{request.method} {path}", json.loads(raw) if raw else None))
        self.authorizations.append(request.headers.get("authorization"))
        if self.refusal is not None:
            code, message = self.refusal
            return JSONResponse({"error": {"error_code": "LLM_X", "message": message}}, code)
        known = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return JSONResponse(known, 202 if path == "/drain" and request.method == "POST" else 200)


@pytest.fixture
async def admin() -> AsyncIterator[StubAdmin]:
    """A stand-in for the service's operators' routes, over real HTTP."""
    stub = StubAdmin()
    routes = [
        Route("/admin/v1/drain", stub.answer, methods=["GET", "POST"]),
        Route("/admin/v1/resume", stub.answer, methods=["POST"]),
    ]
    async with _serve(Starlette(routes=routes)) as url:
        stub.url = url
        yield stub


class BrokenResponse(Response):
    """Begins an answer and never ends it: the server closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Promises more than it sends."""
        await send({"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"99")]})
        await send({"type": "http.response.body", "body": b"{", "more_body": False})


@asynccontextmanager
async def _serve(app: Starlette) -> AsyncIterator[str]:
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
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await serving
        await server.shutdown()


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port on which nobody listens; it is reserved, but a server that reuses addresses may bind it."""
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        yield int(reserved.getsockname()[1])


@pytest.fixture(autouse=True)
def config_file(clean_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty file of contexts instead of the developer's own; a test writes into it what it needs."""
    path = tmp_path / "llmctl.toml"
    path.touch(mode=0o600)
    monkeypatch.setenv("LLMCTL_CONFIG", str(path))
    return path
