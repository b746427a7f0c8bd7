"""The reference of the HTTP API and of the event, from the published documents in fixtures/schemas."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from docs.builder.markdown import code, fence, write_page, write_table

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "fixtures" / "schemas"
_METHODS = ("get", "put", "post", "delete", "patch")
_HTTP_FRONT = """\
What the service serves as `GET /openapi.json`, and shows at `/docs`. There is no route for a status or a
result: the answer comes [on your topic](event.md). Routes under `/admin/v1` need an operator's token, the
others a caller's, where the service has any; probes, metrics and the two documents need none."""
_EVENT_FRONT = """\
What stands on a callback topic, as the AsyncAPI document says it. How to read it well is in [Write a
consumer](../how-to/write-a-consumer.md)."""
_USAGE_FRONT = """\
Where the service has a `USAGE_TOPIC`, it tells there what each request has used that a provider was asked
for: [Keep to a budget](../how-to/keep-to-a-budget.md). Key and headers are those of a callback, with an
`event_type` and an `event_id` of their own."""
_OF_USAGE = ("UsageEvent", "LLMUsageV1")


def read_schema(name: str) -> dict[str, Any]:
    """A published document; the tests of the contracts hold it against the code."""
    return dict(json.loads((SCHEMAS / name).read_text()))


def write_http() -> str:
    """The page of the HTTP API."""
    document = read_schema("openapi.json")
    operations = [
        (method, path, each[method])
        for path, each in document["paths"].items()
        for method in _METHODS
        if method in each
    ]
    models = document["components"]["schemas"]
    return write_page(
        "# HTTP API",
        _HTTP_FRONT,
        write_table(
            ("route", "does", "token of"),
            (
                (code(f"{method.upper()} {path}"), str(each.get("summary", "")), _find_token(each))
                for method, path, each in operations
            ),
        ),
        *(_write_operation(method, path, each) for method, path, each in operations),
        "## Bodies",
        *(_write_model(name, model, 3) for name, model in models.items()),
    )


def write_event() -> str:
    """The page of the event."""
    document = read_schema("asyncapi.json")
    message = document["components"]["messages"]["comparison_result"]
    schemas = document["components"]["schemas"]
    headers = message["headers"]
    usage = {name: schemas.pop(name) for name in _OF_USAGE}
    return write_page(
        "# The event",
        _EVENT_FRONT,
        str(document["info"]["description"]),
        f"The key of the record: {_decapitalize(message['bindings']['kafka']['key']['description'])}.",
        "## Headers",
        write_table(
            ("header", "always", "meaning"),
            (
                (code(name), "yes" if name in headers["required"] else "no", str(each["description"]))
                for name, each in headers["properties"].items()
            ),
        ),
        "## Value",
        *(_write_model(name, model, 3) for name, model in schemas.items()),
        "## Examples",
        *_write_examples(message),
        "## Usage events",
        _USAGE_FRONT,
        *(_write_model(name, model, 3) for name, model in usage.items()),
        *_write_examples(document["components"]["messages"]["usage"]),
    )


def _write_examples(message: Mapping[str, Any]) -> Iterator[str]:
    for each in message["examples"]:
        yield f"### {each['summary']}"
        yield fence(json.dumps(each["payload"], indent=2), "json")


def _decapitalize(text: str) -> str:
    return text[:1].lower() + text[1:]


def _find_token(operation: Mapping[str, Any]) -> str:
    return ", ".join(name for entry in operation.get("security", ()) for name in entry)


def _write_operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parameters = [
        (code(str(each["name"])), str(each["in"]), str(each.get("description", "")))
        for each in operation.get("parameters", ())
    ]
    body = operation.get("requestBody", {}).get("content", {})
    sent = [_name_type(each.get("schema", {})) for each in body.values()]
    answers = [
        (code(status), _find_answer(each), str(each.get("description", "")))
        for status, each in operation["responses"].items()
    ]
    return write_page(
        f"## {method.upper()} {path}",
        f"{operation.get('summary', '')}.",
        f"Body: {', '.join(sent)}." if sent else "",
        write_table(("parameter", "in", "meaning"), parameters),
        write_table(("answer", "body", "meaning"), answers),
    )


def _find_answer(response: Mapping[str, Any]) -> str:
    content = response.get("content", {})
    return ", ".join(
        _name_type(each["schema"]) if "schema" in each else code(kind) for kind, each in content.items()
    )


def _write_model(name: str, model: Mapping[str, Any], level: int) -> str:
    required = set(model.get("required", ()))
    rows = [
        (code(field), _name_type(each), "yes" if field in required else "", _describe(each))
        for field, each in model.get("properties", {}).items()
    ]
    values = ", ".join(code(str(each)) for each in model.get("enum", ()))
    return write_page(
        f"{'#' * level} {name} {{ #{name.lower()} }}",
        str(model.get("description", "")),
        f"One of {values}." if values else "",
        write_table(("field", "type", "required", "meaning"), rows),
    )


def _describe(schema: Mapping[str, Any]) -> str:
    rules = {
        "default": "default",
        "minLength": "at least {} characters",
        "maxLength": "at most {} characters",
        "minimum": "at least {}",
        "maximum": "at most {}",
        "exclusiveMinimum": "above {}",
    }
    said = [
        f"default `{json.dumps(schema[key])}`" if key == "default" else text.format(schema[key])
        for key, text in rules.items()
        if schema.get(key) is not None
    ]
    return "; ".join(filter(None, [str(schema.get("description", "")), *said]))


def _name_type(schema: Mapping[str, Any]) -> str:
    """A type in words; those with a section of their own link to it."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in schema:
        return code(json.dumps(schema["const"]))
    choices = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if choices:
        return " or ".join(dict.fromkeys(_name_type(each) for each in choices))
    if schema.get("type") == "array":
        return f"list of {_name_type(schema.get('items', {}))}"
    if "enum" in schema:
        return ", ".join(code(str(each)) for each in schema["enum"])
    return " or ".join(_list_types(schema))


def _list_types(schema: Mapping[str, Any]) -> Iterator[str]:
    kinds = schema.get("type", "any")
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        yield f"{kind} ({schema['format']})" if "format" in schema and kind == "string" else str(kind)
