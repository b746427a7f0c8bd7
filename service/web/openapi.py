"""The OpenAPI document: FastAPI describes its own routes, this adds the hot one, which is a plain route.

What FastAPI cannot know is added to all of them: what they answer (`answers.py`), how they refuse, whose
token they take. `llmctl schema openapi` prints a copy of the document; after a change here or of a route,
`make schemas` writes that anew.
"""

from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.contracts.asyncapi import LICENSE
from service.contracts.errors import ErrorBody
from service.contracts.requests import LLMComparisonRequest
from service.contracts.topics import PLATFORM_TOPICS
from service.web.answers import ANSWERS, Answer
from service.web.comparison import PATH
from service.web.errors import JSON

Document = dict[str, Any]

_SCHEMA = "#/components/schemas/{model}"
_METHODS = ("get", "put", "post", "delete", "patch")
_TAGS = {
    "callers": "Hand in comparisons and take them back; with a caller's token where the service knows any",
    "operators": "Look, drain, hold, send again; with an operator's token where the service knows any",
    "health": "Probes and metrics, for everybody",
}
_TOKENS = {"callers": "caller", "operators": "operator"}
_DESCRIPTION = """\
Hand in a comparison of two essays and get `202` at once; its result comes as an event on the Kafka topic
that the request names as `callback_topic`. What stands there is told by the AsyncAPI document
(`llmctl schema asyncapi`). There is no route for a status or a result.

Every error, of every route, has one body: `ErrorBody`. A `503` carries `Retry-After`: the same request may
be accepted after so many seconds. Fields are added to answers, never removed or renamed: read past what you
do not know."""
_PARAMETERS = {"queue_id": "The `queue_id` of the 202", "name": "Which provider, by its name"}
_REFUSALS = {
    "401": "No token, or an unknown one (`LLM_UNAUTHORIZED`)",
    "403": "A known token that is not allowed this (`LLM_FORBIDDEN`)",
    "404": "There is nothing under this name (`LLM_NOT_FOUND`)",
    "409": "The idempotency key was used with another body (`LLM_IDEMPOTENCY_CONFLICT`)",
    "413": "The body is too large (`LLM_CONTENT_TOO_LONG`)",
    "415": "The body is not sent as application/json (`LLM_INVALID_REQUEST`)",
    "422": "The request is wrong; `error_code` and `message` say how",
    "503": "Not now: full, draining, starting, too many connections, or queue or broker out of reach",
    "default": "Any other refusal, or a defect of the service",
}
_HEADERS: dict[str, tuple[str, Document, str]] = {
    "Idempotency-Key": (
        "The same key with the same body is the same request, and gives the same `queue_id`",
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        "spring-2025/pair-17",
    ),
    "X-Correlation-ID": (
        "Used where the body has no `correlation_id`",
        {"type": "string", "format": "uuid"},
        "9a1d6a80-7a3c-4c79-9f5f-6d1f0c7be9a4",
    ),
    "X-Run-ID": (
        "Marks simulated traffic",
        {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9._-]+$"},
        "run-7",
    ),
    "traceparent": (
        "W3C trace context, passed on to the callback",
        {"type": "string"},
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
}
_EXAMPLE: Document = {
    "user_prompt": "Which essay argues better?",
    "essay_a": "Phones help us learn, because …",
    "essay_b": "Phones keep us from learning, because …",
    "callback_topic": PLATFORM_TOPICS[0],
}
_EXAMPLES = {
    "least": {"summary": "What is required", "value": _EXAMPLE},
    "most": {
        "summary": "With everything that can be said",
        "value": {
            **_EXAMPLE,
            "llm_config_overrides": {
                "provider_override": "openai",
                "model_override": "gpt-4o-mini",
                "temperature_override": 0.2,
                "system_prompt_override": "You are a strict examiner.",
                "max_tokens_override": 600,
            },
            "metadata": {"batch": "spring-2025", "pair": 17},
            "correlation_id": "9a1d6a80-7a3c-4c79-9f5f-6d1f0c7be9a4",
            "priority": 5,
            "ttl_seconds": 3600,
        },
    },
}


def describe_with(app: FastAPI) -> Callable[[], Document]:
    """Makes the function that FastAPI asks for its document; the document is made once."""

    def describe() -> Document:
        if app.openapi_schema is None:
            app.openapi_schema = _describe(app)
        return app.openapi_schema

    return describe


def list_operations(document: Document) -> Iterator[tuple[str, Document]]:
    """Each operation by its method and path, as `ANSWERS` names them."""
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                yield f"{method.upper()} {path}", item[method]


def _describe(app: FastAPI) -> Document:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=_DESCRIPTION,
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
        license_info=LICENSE,
        servers=[{"url": "/", "description": "The service that serves this document"}],
    )
    document["paths"] = {PATH: {"post": _describe_submission()}, **document["paths"]}
    for name, operation in list_operations(document):
        _complete(operation, ANSWERS.get(name))
    document["components"] = {
        "schemas": _describe_schemas(),
        "headers": _describe_headers(),
        "securitySchemes": {
            name: {"type": "http", "scheme": "bearer", "description": f"The token of one of the {tag}"}
            for tag, name in _TOKENS.items()
        },
    }
    return document


def _describe_submission() -> Document:
    return {
        "tags": ["callers"],
        "summary": "Hand in a comparison; its result comes as an event on callback_topic",
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": False,
                "description": text,
                "schema": schema,
                "example": example,
            }
            for name, (text, schema, example) in _HEADERS.items()
        ],
        "requestBody": {
            "required": True,
            "content": {JSON: {"schema": _refer_to(LLMComparisonRequest), "examples": _EXAMPLES}},
        },
        "responses": {"202": {"description": "The request is durable"}},
    }


def _complete(operation: Document, answer: Answer | None) -> None:
    """Adds to an operation what its route does not tell FastAPI."""
    operation["description"] = operation.get("description") or f"{operation['summary']}."
    for parameter in operation.get("parameters", ()):
        parameter.setdefault("description", _describe_parameter(parameter))
    responses = operation["responses"]
    responses.pop("422", None)  # FastAPI's own, of another shape than every error here
    if answer is not None:
        operation["operationId"] = answer.operation_id
        schema = answer.schema if answer.shape is None else _refer_to(answer.shape)
        done = next(status for status in responses if status.startswith("2"))
        text = responses[done]["description"].replace("Successful Response", "As asked")
        responses[done] = {"description": text, "content": {answer.media_type: {"schema": schema}}}
    for status in _list_refusals(operation):
        responses[status] = _describe_refusal(status)
    token = next((_TOKENS[tag] for tag in operation["tags"] if tag in _TOKENS), None)
    operation["security"] = [] if token is None else [{token: []}, {}]


def _describe_parameter(parameter: Document) -> str:
    text = parameter["schema"].get("description") or _PARAMETERS.get(parameter["name"])
    return text or parameter["name"]


def _list_refusals(operation: Document) -> list[str]:
    """What an operation can answer instead; 503 every one, where there are too many connections."""
    places = {parameter["in"] for parameter in operation.get("parameters", ())}
    refusals = {"503", "default"}
    if not _TOKENS.keys().isdisjoint(operation["tags"]):
        refusals |= {"401", "403"}
    if "path" in places:
        refusals.add("404")
    if "query" in places:
        refusals.add("422")
    if "requestBody" in operation:
        refusals |= {"413", "422"}
    if operation.get("operationId") == ANSWERS[f"POST {PATH}"].operation_id:
        refusals |= {"409", "415"}
    return sorted(refusals)


def _describe_refusal(status: str) -> Document:
    refusal = {"description": _REFUSALS[status], "content": {JSON: {"schema": _refer_to(ErrorBody)}}}
    header = {"401": "WWW-Authenticate", "503": "Retry-After"}.get(status)
    if header is not None:
        refusal["headers"] = {header: {"$ref": f"#/components/headers/{header}"}}
    return refusal


def _describe_headers() -> Document:
    return {
        "Retry-After": {
            "description": "In how many seconds the same request may be accepted",
            "required": True,
            "schema": {"type": "integer", "minimum": 1},
        },
        "WWW-Authenticate": {
            "description": "Which kind of token is asked for",
            "required": True,
            "schema": {"const": "Bearer"},
        },
    }


def _describe_schemas() -> Document:
    answers = [answer.shape for answer in ANSWERS.values() if answer.shape is not None]
    written: list[type[BaseModel]] = [ErrorBody, *answers]
    _, definitions = models_json_schema(
        [(LLMComparisonRequest, "validation"), *((shape, "serialization") for shape in written)],
        ref_template=_SCHEMA,
    )
    return dict(sorted(definitions["$defs"].items()))


def _refer_to(model: type[BaseModel]) -> Document:
    return {"$ref": _SCHEMA.format(model=model.__name__)}
