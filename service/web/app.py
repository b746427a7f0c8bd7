"""The HTTP side: its routes, and the one error body around all of them."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import Refused
from service.core.ports import RequestMeter
from service.engine.intake import STARTING_RETRY_SECONDS, Intake
from service.engine.operations import Operations
from service.engine.phase import Phase
from service.web.comparison import ComparisonEndpoint
from service.web.errors import render_defect, render_http_exception, render_refusal


def create_app(
    *,
    intake: Intake,
    operations: Operations,
    meter: RequestMeter,
    render_metrics: Callable[[], bytes],
    max_body_bytes: int,
) -> FastAPI:
    """Builds the ASGI application. It holds no state of its own."""
    app = FastAPI(title="llm_provider_service", openapi_url=None, docs_url=None, redoc_url=None)
    app.router.redirect_slashes = False
    app.add_exception_handler(HTTPException, render_http_exception)
    app.add_exception_handler(Exception, render_defect)

    async def answer_healthz(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def answer_readyz(_: Request) -> Response:
        readiness = operations.check_readiness()
        if readiness.ready:
            return JSONResponse({"status": "ready", "broker": readiness.broker})
        draining = readiness.phase is not Phase.STARTING
        refused = Refused(
            LLMErrorCode.SERVICE_DRAINING if draining else LLMErrorCode.INTERNAL_ERROR,
            readiness.reason or "The service is not ready.",
            details={"phase": readiness.phase.value, "broker": readiness.broker},
            retry_after_seconds=STARTING_RETRY_SECONDS,
            status=503,
        )
        return render_refusal(refused, correlation_id=None, operation="check_readiness")

    async def answer_metrics(_: Request) -> Response:
        return Response(render_metrics(), media_type=CONTENT_TYPE_LATEST)

    app.add_route(
        "/api/v1/comparison", _endpoint(ComparisonEndpoint(intake, meter, max_body_bytes)), ["POST"]
    )
    app.add_route("/healthz", answer_healthz, ["GET"])
    app.add_route("/readyz", answer_readyz, ["GET"])
    app.add_route("/metrics", answer_metrics, ["GET"])
    return app


def _endpoint(handler: ComparisonEndpoint) -> Callable[[Request], Awaitable[Response]]:
    # Starlette takes an instance for an ASGI application; a function it calls with the request.
    async def answer_comparison(request: Request) -> Response:
        return await handler(request)

    return answer_comparison
