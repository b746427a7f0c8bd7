"""The operators' routes: snapshot, live stream, drain and resume."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import StreamingResponse

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import Refused
from service.engine.drain import DrainController, DrainReport
from service.engine.operations import Operations
from service.engine.phase import Phase
from service.web.credentials import Credentials
from service.web.errors import JSON

STREAM_EVERY_SECONDS = 0.5
MAX_ORDER_BYTES = 4096


class DrainOrder(BaseModel):
    """How to drain."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    timeout_seconds: Annotated[float, Field(strict=True, gt=0, le=86_400)] = Field(
        default=300, description="Limit on the drain; the process stays up after it"
    )
    until_empty: Annotated[bool, Field(strict=True)] = Field(
        default=False, description="Work off the queue, too"
    )


def create_admin_router(
    operations: Operations, drain: DrainController, credentials: Credentials
) -> APIRouter:
    """The routes under `/admin/v1`, for operators only where an admin credential is configured."""

    def check_operator(request: Request) -> None:
        credentials.check_operator(request.headers)

    router = APIRouter(prefix="/admin/v1", tags=["operators"], dependencies=[Depends(check_operator)])

    @router.get("/snapshot", summary="All live figures at this moment")
    async def answer_snapshot() -> Response:
        return _json(operations.take_snapshot())

    @router.get("/stream", summary="The snapshot as server-sent events, two a second")
    async def answer_stream() -> Response:
        return StreamingResponse(
            _stream(operations), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    @router.post(
        "/drain",
        status_code=202,
        summary="Accept nothing more and finish what was started",
        openapi_extra={"requestBody": {"content": {JSON: {"schema": DrainOrder.model_json_schema()}}}},
    )
    async def answer_drain_order(request: Request) -> Response:
        order = await _read_order(request)
        _check_running(operations, drain)
        drain.start(order.timeout_seconds, until_empty=order.until_empty)
        return _json(_describe(drain.report()), status=202)

    @router.get("/drain", summary="How the drain stands")
    async def answer_drain() -> Response:
        return _json(_describe(drain.report()))

    @router.post("/resume", summary="Take a drain back")
    async def answer_resume() -> Response:
        _check_running(operations, drain)
        drain.resume()
        return _json(_describe(drain.report()))

    return router


async def _read_order(request: Request) -> DrainOrder:
    """Reads the body by hand: FastAPI would read all of it before the token is checked, whatever its size."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_ORDER_BYTES:
            raise Refused(
                LLMErrorCode.CONTENT_TOO_LONG, f"A drain order has at most {MAX_ORDER_BYTES} bytes."
            )
    if not body:
        return DrainOrder()
    try:
        return DrainOrder.model_validate_json(bytes(body))
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ascii(".".join(str(part) for part in fault["loc"]) or "body")[1:-1][:80]
        raise Refused(
            LLMErrorCode.INVALID_REQUEST, f"{field}: {fault['msg']}.", details={"field": field}
        ) from error


async def _stream(operations: Operations) -> AsyncIterator[bytes]:
    while not operations.stopped:
        yield b"event: snapshot\ndata: " + orjson.dumps(operations.take_snapshot()) + b"\n\n"
        await asyncio.sleep(STREAM_EVERY_SECONDS)


def _check_running(operations: Operations, drain: DrainController) -> None:
    phase = drain.report().phase
    if phase is Phase.STARTING or operations.stopping:
        raise Refused(
            LLMErrorCode.SERVICE_DRAINING if operations.stopping else LLMErrorCode.INTERNAL_ERROR,
            "The service is stopping; its drain cannot be changed any more."
            if operations.stopping
            else "The service is starting; there is nothing to drain yet.",
            retry_after_seconds=1,
            status=503,
        )


def _describe(report: DrainReport) -> dict[str, Any]:
    return {
        "phase": report.phase.value,
        "state": report.state.value,
        "started_at": report.started_at,
        "deadline": report.deadline,
        "in_flight": report.in_flight,
        "outbox": report.outbox,
        "queued": report.queued,
        "finished": report.finished,
    }


def _json(document: Any, *, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status_code=status, media_type=JSON)
