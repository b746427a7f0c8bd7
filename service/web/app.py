"""The HTTP side: its routes, and the one error body around all of them."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.contracts.error_codes import LLMErrorCode
from service.contracts.requests import LLMCancelledResponse
from service.core.errors import Refused
from service.core.ports import LogControl
from service.engine.accounting import Accounting
from service.engine.cancellation import Cancellation
from service.engine.drain import DrainController
from service.engine.intake import STARTING_RETRY_SECONDS
from service.engine.journal import Journal
from service.engine.operations import Operations
from service.engine.phase import Phase
from service.engine.undelivered import Undelivered
from service.web.admin import create_admin_router
from service.web.comparison import PATH, ComparisonEndpoint
from service.web.credentials import Credentials
from service.web.errors import (
    render_defect,
    render_http_exception,
    render_refusal,
    render_refused,
)
from service.web.openapi import describe_with


def create_app(
    *,
    version: str,
    submit: ComparisonEndpoint,
    cancellation: Cancellation,
    operations: Operations,
    drain: DrainController,
    undelivered: Undelivered,
    journal: Journal,
    logs: LogControl,
    accounting: Accounting,
    credentials: Credentials,
    render_metrics: Callable[[], bytes],
) -> FastAPI:
    """Builds the ASGI application. It holds no state of its own."""
    app = FastAPI(
        title="llm_provider_service",
        version=version,
        redoc_url=None,
    )
    app.router.redirect_slashes = False
    app.add_exception_handler(HTTPException, render_http_exception)
    app.add_exception_handler(Refused, render_refused)
    app.add_exception_handler(Exception, render_defect)
    app.openapi = describe_with(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    app.add_route(PATH, _endpoint(submit), ["POST"])
    app.include_router(
        create_admin_router(operations, drain, undelivered, journal, logs, accounting, credentials)
    )

    @app.delete(
        PATH + "/{queue_id}",
        status_code=202,
        tags=["callers"],
        operation_id="cancel_comparison",
        summary="Cancel what is queued or under way; its callback says LLM_REQUEST_CANCELLED",
    )
    async def answer_cancellation(queue_id: str, request: Request) -> LLMCancelledResponse:
        caller = credentials.identify_caller(request.headers)
        await cancellation.cancel(queue_id, caller)
        return LLMCancelledResponse(
            queue_id=queue_id,
            message="Cancelled; the callback says LLM_REQUEST_CANCELLED, and whether a call may be billed.",
        )

    @app.get("/api/v1/providers", tags=["callers"], summary="Providers: status, limits, models")
    async def answer_providers(request: Request) -> dict[str, Any]:
        credentials.identify_caller(request.headers)
        return {"providers": operations.list_providers()}

    @app.get("/healthz", tags=["health"], summary="Alive")
    async def answer_healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", tags=["health"], summary="Ready for requests; 503 with the reason where not")
    async def answer_readyz() -> Response:
        return _render_readiness(operations)

    @app.get("/metrics", tags=["health"], summary="Prometheus metrics")
    async def answer_metrics() -> Response:
        return Response(render_metrics(), media_type=CONTENT_TYPE_LATEST)

    return app


def _render_readiness(operations: Operations) -> Response:
    readiness = operations.check_readiness()
    if readiness.ready:
        return JSONResponse({"status": "ready", "broker": readiness.broker})
    draining = readiness.phase in {Phase.DRAINING, Phase.STOPPED}
    refused = Refused(
        LLMErrorCode.SERVICE_DRAINING if draining else LLMErrorCode.INTERNAL_ERROR,
        readiness.reason or "The service is not ready.",
        details={"phase": readiness.phase.value, "broker": readiness.broker},
        retry_after_seconds=STARTING_RETRY_SECONDS,
        status=503,
    )
    return render_refusal(refused, correlation_id=None, operation="check_readiness")


def _endpoint(handler: ComparisonEndpoint) -> Callable[[Request], Awaitable[Response]]:
    # Starlette takes an instance for an ASGI application; a function it calls with the request.
    async def answer_comparison(request: Request) -> Response:
        return await handler(request)

    return answer_comparison
