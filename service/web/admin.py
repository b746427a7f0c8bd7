"""The operators' routes: snapshot, live stream, drain and resume, providers, undelivered callbacks."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self, TypeVar

import orjson
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.responses import StreamingResponse

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import Refused
from service.core.ports import LogControl
from service.core.records import JournalEntry, ParkedCallback
from service.engine.accounting import Account, Accounting
from service.engine.drain import DrainController, DrainReport
from service.engine.journal import Journal
from service.engine.operations import Operations
from service.engine.phase import Phase
from service.engine.undelivered import Page, Undelivered, explain_refusal
from service.web.credentials import Credentials
from service.web.errors import JSON

STREAM_EVERY_SECONDS = 0.5
MAX_ORDER_BYTES = 4096
MAX_RESEND_BYTES = 128 * 1024
MAX_RESEND_IDS = 1000
MAX_LISTED = 1000
MAX_ACCOUNT_DAYS = 40
MAX_JOURNAL_ENTRIES = 10_000
MAX_HOLD_SECONDS = 30 * 86_400
MAX_SEQUENCE = 2**63 - 1  # SQLite's largest integer


class DrainOrder(BaseModel):
    """How to drain."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    timeout_seconds: Annotated[float, Field(strict=True, gt=0, le=86_400)] = Field(
        default=300, description="Limit on the drain; the process stays up after it"
    )
    until_empty: Annotated[bool, Field(strict=True)] = Field(
        default=False, description="Work off the queue, too"
    )


class UndeliveredQuery(BaseModel):
    """Which undelivered callbacks to list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    after: Annotated[int, Field(ge=0, le=MAX_SEQUENCE)] = Field(
        default=0, description="`next` of the page before"
    )
    limit: Annotated[int, Field(ge=1, le=MAX_LISTED)] = Field(
        default=100, description="How many to list at most"
    )
    topic: Annotated[str, Field(min_length=1, max_length=249)] | None = Field(
        default=None, description="Only those of this topic"
    )


class JournalQuery(BaseModel):
    """Which part of the journal to read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    after: Annotated[str, Field(max_length=40, pattern=r"^[0-9]+(-[0-9]*)?$")] | None = Field(
        default=None, description="`next` of the page before"
    )
    limit: Annotated[int, Field(ge=1, le=MAX_JOURNAL_ENTRIES)] = Field(
        default=1000, description="How many to list, about"
    )


class UsageQuery(BaseModel):
    """Over which days to account."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: Annotated[int, Field(ge=1, le=MAX_ACCOUNT_DAYS)] = Field(
        default=1, description="Today (UTC) and the days before it, so many together"
    )


class ResendOrder(BaseModel):
    """Which undelivered callbacks to send again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    queue_ids: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=100)]],
            Field(min_length=1, max_length=MAX_RESEND_IDS),
        ]
        | None
    ) = Field(default=None, description="Those of these requests")
    all: Literal[True] | None = Field(default=None, description="Every one")

    @model_validator(mode="after")
    def _check_choice(self) -> Self:
        if (self.queue_ids is None) == (self.all is None):
            raise ValueError('say which callbacks to send again, either {"queue_ids": […]} or {"all": true}')
        return self


class LogOrder(BaseModel):
    """From which level on to log."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: Literal["debug", "info", "warning", "error"] = Field(description="Events below it are left out")
    seconds: Annotated[float, Field(strict=True, gt=0, le=MAX_HOLD_SECONDS)] | None = Field(
        default=None, description="For so long, then as the settings say; without it until it is changed"
    )


class HoldOrder(BaseModel):
    """How long to ask a provider nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: Annotated[float, Field(strict=True, gt=0, le=MAX_HOLD_SECONDS)] | None = Field(
        default=None, description="For so long; without it until it is released"
    )


Order = TypeVar("Order", bound=BaseModel)


def create_admin_router(
    operations: Operations,
    drain: DrainController,
    undelivered: Undelivered,
    journal: Journal,
    logs: LogControl,
    accounting: Accounting,
    credentials: Credentials,
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
        openapi_extra=_document_body(DrainOrder),
    )
    async def answer_drain_order(request: Request) -> Response:
        order = _validate(DrainOrder, await _read_body(request, MAX_ORDER_BYTES) or b"{}")
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

    @router.get("/providers", summary="Providers: circuit, limits, held until when")
    async def answer_providers() -> Response:
        return _json({"providers": operations.list_providers()})

    @router.post(
        "/providers/{name}/hold",
        summary="Ask a provider nothing; its requests wait in the queue",
        openapi_extra=_document_body(HoldOrder),
    )
    async def answer_hold(name: str, request: Request) -> Response:
        order = _validate(HoldOrder, await _read_body(request, MAX_ORDER_BYTES) or b"{}")
        return _json(operations.hold_provider(name, order.seconds))

    @router.post("/providers/{name}/check", summary="Try a provider's key with a call that costs nothing")
    async def answer_check(name: str) -> Response:
        return _json(await operations.check_provider(name))

    @router.post("/providers/{name}/release", summary="Ask a provider again, whatever held it")
    async def answer_release(name: str) -> Response:
        return _json(operations.release_provider(name))

    @router.get(
        "/undelivered",
        summary="Callbacks that the broker refused for good",
        openapi_extra=_document_query(UndeliveredQuery),
    )
    async def answer_undelivered(request: Request) -> Response:
        query = _validate(UndeliveredQuery, orjson.dumps(dict(request.query_params)))
        return _json(_describe_page(await undelivered.list_page(query.after, query.limit, query.topic)))

    @router.post(
        "/undelivered/resend",
        status_code=202,
        summary="Send undelivered callbacks again",
        openapi_extra=_document_body(ResendOrder),
    )
    async def answer_resend(request: Request) -> Response:
        order = _validate(ResendOrder, await _read_body(request, MAX_RESEND_BYTES) or b"{}")
        resent = await undelivered.resend(order.queue_ids)
        return _json({"resent": resent.count, "not_parked": resent.not_parked}, status=202)

    @router.get(
        "/usage",
        summary="What calls have used, by day, caller, provider and model, and what may be spent",
        openapi_extra=_document_query(UsageQuery),
    )
    async def answer_usage(request: Request) -> Response:
        query = _validate(UsageQuery, orjson.dumps(dict(request.query_params)))
        return _json(_describe_account(await accounting.read(query.days)))

    @router.get("/log-level", summary="From which level on is logged")
    async def answer_log_level() -> Response:
        return _json({"level": logs.current, "seconds_left": logs.seconds_left})

    @router.put("/log-level", summary="Log more or less from now on", openapi_extra=_document_body(LogOrder))
    async def answer_log_order(request: Request) -> Response:
        order = _validate(LogOrder, await _read_body(request, MAX_ORDER_BYTES))
        logs.change(order.level, order.seconds)
        return _json({"level": logs.current, "seconds_left": logs.seconds_left})

    @router.get(
        "/journal",
        summary="What was called back lately: ids, places and times, oldest first",
        openapi_extra=_document_query(JournalQuery),
    )
    async def answer_journal(request: Request) -> Response:
        query = _validate(JournalQuery, orjson.dumps(dict(request.query_params)))
        page = await journal.list_page(query.after, query.limit)
        return _json(
            {
                "retention_hours": journal.retention_hours,
                "items": [_describe_entry(entry) for entry in page.entries],
                "next": page.next,
            }
        )

    return router


async def _read_body(request: Request, limit_bytes: int) -> bytes:
    """Reads the body by hand: FastAPI would read all of it before the token is checked, whatever its size."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise Refused(LLMErrorCode.CONTENT_TOO_LONG, f"This order has at most {limit_bytes} bytes.")
    return bytes(body)


def _validate(kind: type[Order], document: bytes) -> Order:
    try:
        return kind.model_validate_json(document)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ascii(".".join(str(part) for part in fault["loc"]) or "body")[1:-1][:80]
        message = fault["msg"].removeprefix("Value error, ")
        raise Refused(
            LLMErrorCode.INVALID_REQUEST, f"{field}: {message}.", details={"field": field}
        ) from error


def _document_body(kind: type[BaseModel]) -> dict[str, Any]:
    return {"requestBody": {"content": {JSON: {"schema": kind.model_json_schema()}}}}


def _document_query(kind: type[BaseModel]) -> dict[str, Any]:
    properties = kind.model_json_schema()["properties"]
    return {
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": schema}
            for name, schema in properties.items()
        ]
    }


async def _stream(operations: Operations) -> AsyncIterator[bytes]:
    while not operations.stopped:
        yield b"event: snapshot\ndata: " + orjson.dumps(operations.take_snapshot()) + b"\n\n"
        await operations.wait_until_stopped(STREAM_EVERY_SECONDS)


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


def _describe_page(page: Page) -> dict[str, Any]:
    return {"total": page.total, "items": [_describe_parked(item) for item in page.items], "next": page.next}


def _describe_parked(parked: ParkedCallback) -> dict[str, Any]:
    """Everything but what it says: that is the caller's."""
    return {
        "queue_id": parked.queue_id,
        "correlation_id": parked.correlation_id,
        "topic": parked.topic,
        "reason": parked.reason,
        "message": explain_refusal(parked.reason),
        "is_error": not parked.success,
        "size_bytes": parked.size_bytes,
        "accepted_at": datetime.fromtimestamp(parked.accepted_unix_seconds, UTC),
        "parked_at": datetime.fromtimestamp(parked.parked_unix_seconds, UTC),
    }


def _describe_account(account: Account) -> dict[str, Any]:
    return {
        "since": account.since,
        "today": account.today,
        "today_usd": account.today_usd,
        "limits": {
            "request_usd": account.limits.request_usd,
            "day_usd": account.limits.day_usd,
        },
        "rows": [
            {
                "day": each.day,
                "caller": each.payer.caller,
                "provider": each.payer.provider,
                "model": each.payer.model,
                "calls": each.charge.calls,
                "prompt_tokens": each.charge.prompt_tokens,
                "completion_tokens": each.charge.completion_tokens,
                "cost_usd": each.charge.usd,
            }
            for each in account.charges
        ],
    }


def _describe_entry(entry: JournalEntry) -> dict[str, Any]:
    """Each is in the answer thousands of times: times are numbers."""
    return {
        "queue_id": entry.queue_id,
        "correlation_id": entry.correlation_id,
        "topic": entry.topic,
        "partition": entry.place and entry.place.partition,
        "offset": entry.place and entry.place.offset,
        "is_error": not entry.success,
        "accepted_unix_seconds": entry.accepted_unix_seconds,
        "answered_unix_seconds": entry.answered_unix_seconds,
        "published_unix_seconds": entry.published_unix_seconds,
    }


def _json(document: Any, *, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status_code=status, media_type=JSON)
