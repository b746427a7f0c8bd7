"""The one error body of every route."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from service.contracts.error_codes import LLMErrorCode
from service.contracts.errors import ErrorBody, ErrorDetail
from service.contracts.topics import SOURCE_SERVICE
from service.core.errors import Refused

JSON = "application/json"


def render_refusal(refused: Refused, *, correlation_id: UUID | None, operation: str) -> Response:
    """Turns a refusal into its HTTP answer, with `Retry-After` where it may be accepted later."""
    headers = {}
    if refused.retry_after_seconds is not None:
        headers["Retry-After"] = str(refused.retry_after_seconds)
    if refused.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = ErrorBody(
        error=ErrorDetail(
            error_code=refused.code,
            message=refused.message,
            correlation_id=correlation_id or uuid4(),
            timestamp=datetime.now(UTC),
            service=SOURCE_SERVICE,
            operation=operation,
            details=refused.details,
        )
    )
    return Response(body.model_dump_json(), status_code=refused.status, headers=headers, media_type=JSON)


async def render_http_exception(request: Request, error: Exception) -> Response:
    """Answers what the framework itself refuses: an unknown route, a wrong method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        refused = Refused(
            LLMErrorCode.METHOD_NOT_ALLOWED, f"This route does not take {_shown(request.method)}."
        )
    elif error.status_code == 404:
        refused = Refused(LLMErrorCode.NOT_FOUND, "There is no such route here.")
    elif error.status_code == 413:
        refused = Refused(LLMErrorCode.CONTENT_TOO_LONG, "The body is too large.")
    else:
        refused = Refused(LLMErrorCode.INVALID_REQUEST, "The request cannot be read.")
    answer = render_refusal(refused, correlation_id=None, operation="route")
    if error.headers:
        answer.headers.update(error.headers)
    return answer


async def render_refused(request: Request, error: Exception) -> Response:
    """Answers what a route refuses."""
    assert isinstance(error, Refused)
    return render_refusal(error, correlation_id=None, operation=request.scope["route"].name)


async def render_defect(_: Request, __: Exception) -> Response:
    """Answers a defect of the service without telling anything of its insides."""
    refused = Refused(
        LLMErrorCode.INTERNAL_ERROR, "The service failed on this request; its log says why.", status=500
    )
    return render_refusal(refused, correlation_id=None, operation="route")


def _shown(method: str) -> str:
    return method if method.isalpha() and len(method) < 20 else "this method"
