"""The OpenAPI document: FastAPI describes its own routes, this adds the hot one, which is a plain route."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from service.contracts.errors import ErrorBody
from service.contracts.requests import LLMComparisonRequest, LLMQueuedResponse

_REFERENCE = "#/components/schemas/{model}"
_REFUSALS = {
    "401": "No token, or an unknown one",
    "403": "A known token that is not allowed this",
    "409": "The idempotency key was used with another body",
    "413": "The body or its metadata is too large",
    "415": "The body is not sent as application/json",
    "422": "The request is wrong; error_code and message say how",
    "503": "Not now: full, draining, starting, or the queue or the broker cannot be reached",
}
_HEADERS = {
    "Idempotency-Key": "The same key with the same body is the same request",
    "X-Correlation-ID": "UUID, used where the body has no correlation_id",
    "X-Run-ID": "Marks simulated traffic",
    "traceparent": "W3C trace context, passed on to the callback",
}


def describe_with(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """Makes the function that FastAPI asks for its document; the document is made once."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _describe(app)
        return app.openapi_schema

    return describe


def _describe(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    _, definitions = models_json_schema(
        [
            (LLMComparisonRequest, "validation"),
            (LLMQueuedResponse, "serialization"),
            (ErrorBody, "serialization"),
        ],
        ref_template=_REFERENCE,
    )
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(definitions["$defs"])
    components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    document["paths"]["/api/v1/comparison"] = {"post": _describe_submission()}
    error = {"content": _content("ErrorBody")}
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = {"description": "Refused", **error}
            operation["security"] = [{"bearer": []}, {}]
    submission = document["paths"]["/api/v1/comparison"]["post"]["responses"]
    submission.update({status: {"description": text, **error} for status, text in _REFUSALS.items()})
    return document


def _describe_submission() -> dict[str, Any]:
    return {
        "tags": ["callers"],
        "operationId": "submit_comparison",
        "summary": "Hand in a comparison; its result comes as an event on callback_topic",
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": False,
                "description": text,
                "schema": {"type": "string"},
            }
            for name, text in _HEADERS.items()
        ],
        "requestBody": {"required": True, "content": _content("LLMComparisonRequest")},
        "responses": {
            "202": {"description": "The request is durable", "content": _content("LLMQueuedResponse")}
        },
    }


def _content(model: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REFERENCE.format(model=model)}}}
