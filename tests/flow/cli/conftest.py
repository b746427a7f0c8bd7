"""The command line as its users have it: real processes, a stand-in for the service, the embedded broker."""

import asyncio
import json
import os
import pty
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiokafka import AIOKafkaProducer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from llmctl.__main__ import main
from service.contracts.error_codes import LLMErrorCode
from service.contracts.errors import ErrorDetail
from tests.flow.client.callbacks import make_callback
from tests.flow.conftest import Ended
from tests.flow.conftest import Run as Run
from tests.flow.serving import serve
from tests.waiting import HANG_SECONDS

GOOD: dict[str, Any] = {"user_prompt": "p", "essay_a": "a", "essay_b": "b"}


def as_lines(*bodies: Any) -> bytes:
    return b"".join(json.dumps(body).encode() + b"\n" for body in bodies)


def read_lines(text: str | bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


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


def read_shown(terminal: tuple[int, int]) -> str:
    """Returns what ended commands wrote to a terminal; it comes through a little later than their end."""
    ours, theirs = terminal
    shown, end = b"", b"<end>"
    os.write(theirs, end)
    while not shown.endswith(end):
        shown += os.read(ours, 65536)
    return shown.removesuffix(end).decode()


@asynccontextmanager
async def start(
    *words: str,
    terminal: int | None = None,
    stdin: bytes | None = None,
    stdout: int = asyncio.subprocess.PIPE,
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Starts `llmctl`, on a terminal or without one; kills it if the test does not end it."""
    nothing = asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "llmctl", *words),
        stdin=nothing if terminal is None else terminal,
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE if terminal is None else terminal,
        env={**os.environ, **(env or {})},
    )
    if stdin is not None:
        assert process.stdin is not None
        process.stdin.write(stdin)
        process.stdin.write_eof()
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


Answer = Callable[..., Coroutine[Any, Any, tuple[str, Ended]]]


@pytest.fixture
def answer_question(terminal: tuple[int, int]) -> Answer:
    """Runs `llmctl` on a terminal and answers its question; returns what was asked, and the end."""
    ours, theirs = terminal

    async def run(reply: bytes, *words: str) -> tuple[str, Ended]:
        asked = b""
        async with asyncio.timeout(HANG_SECONDS), start(*words, terminal=theirs) as process:
            while b"[y/N]" not in asked:
                asked += await asyncio.to_thread(os.read, ours, 4096)
            os.write(ours, reply)
            out, _ = await process.communicate()
        assert process.returncode is not None
        return asked.decode(), Ended(process.returncode, out.decode(), "")

    return run


@pytest.fixture
def use_production(config_file: Path) -> Callable[[str], None]:
    """Has `llmctl` use a service that is production."""

    def use(url: str) -> None:
        text = f'current = "live"\n[contexts.live]\nurl = "{url}"\nenvironment = "prod"\n'
        config_file.write_text(text)

    return use


@pytest.fixture
def on_kafka(bootstrap_servers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has `llmctl` use the broker of the test where it is given no other."""
    monkeypatch.setenv("LLMCTL_BOOTSTRAP_SERVERS", bootstrap_servers)


@pytest.fixture
async def topic(create_topic: Any, on_kafka: None) -> str:
    """A topic of this test's own, with two partitions, on the broker that `llmctl` uses."""
    name = f"results.{uuid4().hex}"
    await create_topic(name, 2)
    return name


@dataclass
class StubService:
    """Answers the submit route as the test says, and calls back at once."""

    producer: AIOKafkaProducer
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    full_times: int = 0  # so many requests are refused with 503 first
    retry_after: str = "0"
    full_after: int | None = None  # from so many accepted ones on, everything new is refused with 503
    silent_after: int | None = (
        None  # from so many accepted ones on, requests are accepted and no answer comes
    )
    arrivals: list[float] = field(default_factory=list)  # by the monotonic clock
    lost_answers: int = 0  # so many answers break off after the request was accepted
    conflicts: bool = False
    keys: list[str] = field(default_factory=list)  # as they came, repeated ones too
    accepted: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls_back: bool = True
    model: str = "gpt-4o-mini"
    run_id: str | None = None

    async def submit(self, request: Request) -> Response:
        body = await request.json()
        self.arrivals.append(time.monotonic())
        self.authorizations.append(request.headers.get("authorization"))
        key = request.headers["idempotency-key"]
        self.keys.append(key)
        if self.conflicts:
            return self._refuse(LLMErrorCode.IDEMPOTENCY_CONFLICT, 409)
        if key in self.accepted:
            return self._lose(JSONResponse(self.accepted[key], 202))
        if self.full_times or (self.full_after is not None and len(self.bodies) >= self.full_after):
            self.full_times = max(0, self.full_times - 1)
            return self._refuse(LLMErrorCode.QUEUE_FULL, 503, **{"Retry-After": self.retry_after})
        if "essay_b" not in body:
            return self._refuse(LLMErrorCode.INVALID_PROMPT, 422)
        self.bodies.append(body)
        queue_id, correlation_id, topic = str(uuid4()), uuid4(), body["callback_topic"]
        if self.calls_back:  # before the answer: the fastest callback that there can be
            await self.call_back(topic, queue_id, correlation_id, fails=body["essay_b"] == "fail")
        accepted = {
            "queue_id": queue_id,
            "correlation_id": str(correlation_id),
            "status": "queued",
            "callback_topic": topic,
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
        error = self._explain(correlation_id, LLMErrorCode.PROVIDER_TIMEOUT) if fails else None
        made_key, value, headers = make_callback(
            queue_id, correlation_id, error=error, model=self.model, run_id=self.run_id
        )
        for _ in range(copies):
            await self.producer.send_and_wait(topic, value, key=key or made_key, headers=headers)

    def _refuse(self, code: LLMErrorCode, status: int, **headers: str) -> Response:
        error = self._explain(uuid4(), code).model_dump(mode="json")
        return JSONResponse({"error": error}, status, headers)

    def _explain(self, correlation_id: UUID, code: LLMErrorCode) -> ErrorDetail:
        return ErrorDetail(
            error_code=code,
            message=f"refused: {code}",
            correlation_id=correlation_id,
            timestamp=datetime.now(UTC),
            service="stub",
            operation="submit",
        )


@pytest.fixture
async def service(bootstrap_servers: str, on_kafka: None) -> AsyncIterator[StubService]:
    """A stand-in for the service, over real HTTP; `llmctl` uses its broker."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all")
    await producer.start()
    try:
        stub = StubService(producer)
        route = Route("/api/v1/comparison", stub.submit, methods=["POST"])
        async with serve(Starlette(routes=[route])) as url:
            stub.url = url
            yield stub
    finally:
        await producer.stop()


@pytest.fixture
def submit(llmctl: Run, service: StubService) -> Run:
    """Submits lines to the stand-in; options can follow."""

    async def run(lines: bytes, *words: str, topic: str = "t", receipts: Path | None = None) -> Ended:
        kept = () if receipts is None else ("--receipts", str(receipts))
        where = ("--file", "-", "--callback-topic", topic, "--url", service.url)
        return await llmctl("submit", *where, *kept, *words, stdin=lines)

    return run


@dataclass
class StubAdmin:
    """Answers the operators' routes as the test says."""

    url: str = ""
    statuses: list[dict[str, Any]] = field(default_factory=list)
    """Told one after the other, the last one again and again."""
    refusal: tuple[int, str] | None = None
    breaks_after: int | None = None  # from this many calls on, the connection breaks
    silent_after: int | None = None  # from this many calls on, no answer comes
    silences: int = 0
    calls: list[tuple[str, Any]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
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
    async with serve(Starlette(routes=routes)) as url:
        stub.url = url
        yield stub


class BrokenResponse(Response):
    """Begins an answer and never ends it: the server closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"99")]})
        await send({"type": "http.response.body", "body": b"{", "more_body": False})
