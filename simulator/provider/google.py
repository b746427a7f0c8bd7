"""Google's Gemini API on the wire: `generateContent`, token counts and the model list.

Sources: https://ai.google.dev/api/generate-content, https://ai.google.dev/gemini-api/docs/troubleshooting,
https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto, and python-genai
(`types.py`, `errors.py`) for the names of the fields.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from simulator.provider.answer import AnswerFormat, AnyJson, JsonOfSchema, PlainText
from simulator.provider.api import (
    Ask,
    Call,
    Completion,
    Ending,
    RateState,
    Refusal,
    Trouble,
    Wire,
    digest_key,
    gateway_wire,
    json_wire,
    read_attempt,
    sort_document,
)
from simulator.provider.catalogue import GOOGLE_MODELS, Model, find_model
from simulator.provider.completion import bend, salvage_object
from simulator.provider.tokens import estimate_cached_tokens, estimate_prompt_tokens

_THINKING_TOKENS = 256
"""How much a model really thinks depends on what it is asked; a smaller budget is kept."""
_THINKING_LEVELS = {"MINIMAL": 0, "LOW": 64, "MEDIUM": 256, "HIGH": 1024}
_QUOTA_EXCEEDED = "You exceeded your current quota, please check your plan and billing details."
_TROUBLES: dict[Trouble, tuple[int, str]] = {
    Trouble.RATE_LIMITED: (429, _QUOTA_EXCEEDED),
    Trouble.QUOTA_EXHAUSTED: (429, _QUOTA_EXCEEDED),
    Trouble.OVERLOADED: (503, "The model is overloaded. Please try again later."),
    Trouble.SERVER_ERROR: (500, "An internal error has occurred. Please retry."),
    Trouble.UNAVAILABLE: (503, "The service is currently unavailable."),
    Trouble.TIMEOUT: (504, "Deadline expired before operation could complete."),
    Trouble.UNAUTHORIZED: (400, "API key not valid. Please pass a valid API key."),
    Trouble.FORBIDDEN: (403, "Your API key doesn't have the required permissions."),
    Trouble.NOT_FOUND: (404, "models/the-one-asked-for is not found for API version v1beta."),
    Trouble.TOO_LARGE: (413, "Request payload size exceeds the limit."),
    Trouble.INVALID: (400, "Request contains an invalid argument."),
}  # fmt: skip
_STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_QUOTAS = {
    Trouble.RATE_LIMITED: "GenerateRequestsPerMinutePerProjectPerModel",
    Trouble.QUOTA_EXHAUSTED: "GenerateRequestsPerDayPerProjectPerModel",
}
_RPC = "type.googleapis.com/google.rpc."
_FINISH_REASONS = {Ending.LENGTH: "MAX_TOKENS", Ending.SAFETY: "SAFETY"}
_PARAMETERS = frozenset(
    {
        "cachedContent", "contents", "generationConfig", "model", "safetySettings", "serviceTier", "store",
        "systemInstruction", "toolConfig", "tools",
    }
)  # fmt: skip
_CONFIG = frozenset(
    {
        "candidateCount", "enableEnhancedCivicAnswers", "frequencyPenalty", "logprobs", "maxOutputTokens",
        "mediaResolution", "presencePenalty", "responseFormat", "responseJsonSchema", "responseLogprobs",
        "responseMimeType", "responseModalities", "responseSchema", "seed", "speechConfig", "stopSequences",
        "temperature", "thinkingConfig", "topK", "topP",
    }
)  # fmt: skip
_OPENAPI_KEYWORDS = frozenset(
    {
        "type", "format", "title", "description", "nullable", "enum", "maxItems", "minItems", "properties",
        "required", "minProperties", "maxProperties", "minLength", "maxLength", "pattern", "example", "anyOf",
        "propertyOrdering", "default", "items", "minimum", "maximum", "additionalProperties", "defs", "ref",
    }
)  # fmt: skip
_FORMATS_THAT_SAY_NOTHING = frozenset({"enum", "float", "double", "int32", "int64", "byte", "password"})
_MIME_TYPES = "text/plain and application/json"
_CAMEL = re.compile(r"_([a-z])")


class _Fault(Exception):
    """Something in a call that is refused, in Google's words."""

    def __init__(
        self, status: int, message: str, *, reason: str | None = None, field: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.details: list[dict[str, Any]] = []
        if reason is not None:
            metadata = {"service": "generativelanguage.googleapis.com"}
            self.details.append(
                {
                    "@type": f"{_RPC}ErrorInfo", "reason": reason, "domain": "googleapis.com",
                    "metadata": metadata,
                }
            )  # fmt: skip
        if field is not None:
            violations = [{"field": field, "description": message}]
            self.details.append({"@type": f"{_RPC}BadRequest", "fieldViolations": violations})


class GoogleApi:
    """Google's API; its SDK takes the root and asks for `v1beta` or `v1` under it."""

    name = "google"
    base_path = ""

    def routes(self) -> Sequence[tuple[str, str]]:
        """`generateContent`, in both versions of the API."""
        return (
            ("POST", "/v1beta/models/{model}:generateContent"),
            ("POST", "/v1/models/{model}:generateContent"),
        )

    def other_routes(self) -> Sequence[tuple[str, str]]:
        """Streams, which are refused; token counts; the model list and each of its entries."""
        return tuple(
            (method, f"/{version}/models{rest}")
            for version in ("v1beta", "v1")
            for method, rest in (
                ("POST", "/{model}:streamGenerateContent"),
                ("POST", "/{model}:countTokens"),
                ("GET", ""),
                ("GET", "/{model}"),
            )
        )

    def claims(self, call: Call) -> bool:
        """By its key's header or parameter, and by the paths of its beta version."""
        ours = "x-goog-api-key" in call.headers or "x-goog-api-client" in call.headers or "key" in call.query
        return ours or call.path.startswith("/v1beta")

    def read(self, call: Call) -> Ask:
        """Reads a call of `generateContent`; raises `Refusal` (400, 403, 404)."""
        try:
            key = _read_key(call)
            model = _find_model(call)
            return _read_ask(_read_object(call.body), model, digest_key(key), read_attempt(call.headers))
        except _Fault as fault:
            raise Refusal(_write_fault(fault)) from fault

    def look_up(self, call: Call) -> Wire:
        """A token count, the model list or one of its entries; raises `Refusal` (400, 403, 404)."""
        try:
            _read_key(call)
            if "model" not in call.path_params:
                return json_wire(200, {"models": [_write_model(model) for model in GOOGLE_MODELS]}, {})
            model = _find_model(call)
            _refuse_streams(call)
            if call.path.endswith(":countTokens"):
                return json_wire(200, _count_tokens(_read_object(call.body)), {})
        except _Fault as fault:
            raise Refusal(_write_fault(fault)) from fault
        return json_wire(200, _write_model(model), {})

    def answer(self, ask: Ask, completion: Completion, ending: Ending, created: int) -> Wire:  # noqa: ARG002
        """The `GenerateContentResponse`, which says nothing of when it was made."""
        completion = bend(completion, ending)
        written = completion.completion_tokens - completion.reasoning_tokens
        body: dict[str, Any] = {
            "usageMetadata": {
                "promptTokenCount": completion.prompt_tokens,
                "candidatesTokenCount": written,
                "totalTokenCount": completion.prompt_tokens + completion.completion_tokens,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": completion.prompt_tokens}],
            },
            "modelVersion": ask.model.name,
            "responseId": completion.id[:24],
        }
        if completion.cached_tokens:
            body["usageMetadata"]["cachedContentTokenCount"] = completion.cached_tokens
        if completion.reasoning_tokens:
            body["usageMetadata"]["thoughtsTokenCount"] = completion.reasoning_tokens
        if ending is Ending.REFUSAL:
            body["promptFeedback"] = {"blockReason": "PROHIBITED_CONTENT"}
        else:
            body["candidates"] = [_write_candidate(ask, completion)]
        took = {"server-timing": f"gfet4t7; dur={completion.processing_ms}"}
        return json_wire(200, body, took)

    def refuse(
        self,
        trouble: Trouble,
        *,
        status: int | None = None,
        retry_after_seconds: float | None = None,
        request_id: str,  # noqa: ARG002 - Google names no request in its errors
    ) -> Wire:
        """Google's error body, with when to retry in its details; what its front end answers is a page."""
        if trouble is Trouble.BAD_GATEWAY:
            return gateway_wire(status or 502, {}, by="Google Frontend")
        usual, message = _TROUBLES[trouble]
        fault = _Fault(
            status or usual, message, reason="API_KEY_INVALID" if trouble is Trouble.UNAUTHORIZED else None
        )
        if trouble in _QUOTAS:
            violation = {
                "quotaMetric": "generativelanguage.googleapis.com/generate_content_paid_tier_requests",
                "quotaId": _QUOTAS[trouble],
            }
            fault.details.append({"@type": f"{_RPC}QuotaFailure", "violations": [violation]})
        if retry_after_seconds is not None:
            delay = f"{math.ceil(retry_after_seconds * 1000) / 1000:g}s"
            fault.details.append({"@type": f"{_RPC}RetryInfo", "retryDelay": delay})
        return _write_fault(fault)

    def refuse_schema(self, ask: Ask, problem: str) -> Wire:  # noqa: ARG002
        """400, as of a response schema."""
        where = "generation_config.response_schema"
        return _write_fault(_Fault(400, f"* GenerateContentRequest.{where}: {problem}", field=where))

    def refuse_route(self, status: int, call: Call) -> Wire:
        """404, also where only the method is wrong."""
        message = f"Method not found: {call.method} {call.path}"
        return _write_fault(_Fault(404 if status == 405 else status, message))

    def refuse_size(self, max_bytes: int, call: Call) -> Wire:  # noqa: ARG002
        """413."""
        return _write_fault(_Fault(413, f"Request payload size exceeds the limit: {max_bytes} bytes."))

    def rate_headers(self, state: RateState) -> dict[str, str]:  # noqa: ARG002
        """Google says nothing of what is left."""
        return {}


def _read_key(call: Call) -> str:
    scheme, _, token = call.headers.get("authorization", "").partition(" ")
    bearer = token if scheme.lower() == "bearer" else ""
    key = (call.headers.get("x-goog-api-key") or call.query.get("key") or bearer).strip()
    if not key:
        raise _Fault(
            403,
            "Method doesn't allow unregistered callers (callers without established identity). Please use "
            "API Key or other form of API consumer identity to call this API.",
        )
    return key


def _find_model(call: Call) -> Model:
    name = call.path_params["model"]
    model = find_model(GOOGLE_MODELS, name)
    if model is None:
        version = call.path.split("/")[1]
        raise _Fault(
            404,
            f"models/{name} is not found for API version {version}, or is not supported for generateContent. "
            "Call ListModels to see the list of available models and their supported methods.",
        )
    return model


def _refuse_streams(call: Call) -> None:
    if call.path.endswith(":streamGenerateContent"):
        raise _Fault(400, "This simulated model does not stream; call generateContent.")


def _read_object(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _Fault(400, "Invalid JSON payload received. Unexpected end of string or token.") from error
    if not isinstance(document, dict):
        raise _Fault(400, "Invalid JSON payload received. Expected an object.")
    return document


def _read_ask(document: dict[str, Any], model: Model, key_digest: str, attempt: int) -> Ask:
    document = _camelize(document)
    _refuse_unknown(document, _PARAMETERS, "")
    instructions, texts = _read_prompt(document)
    config = _read_member(document, "generationConfig")
    _refuse_unknown(config, _CONFIG, " at 'generation_config'")
    _check_config(config)
    tool = _read_tool(document)
    prompt_tokens = estimate_prompt_tokens((*instructions, *texts))
    if prompt_tokens > model.context_window_tokens:
        raise _Fault(
            400,
            f"The input token count ({prompt_tokens}) exceeds the maximum number of tokens allowed "
            f"({model.context_window_tokens}).",
        )
    try:
        canonical = sort_document(document)
    except orjson.JSONEncodeError as error:
        raise _Fault(400, "Invalid JSON payload received. It is nested too deeply.") from error
    return Ask(
        api="google",
        key_digest=key_digest,
        model=model,
        prompt="\n".join((*instructions, *texts)),
        answer_format=tool or _read_answer_format(config),
        max_tokens=_read_max_tokens(config, model),
        canonical=f"google/{model.name}/".encode() + canonical,
        attempt=attempt,
        prompt_tokens=prompt_tokens,
        cached_tokens=estimate_cached_tokens(instructions),
        reasoning_tokens=_read_thinking(config, model),
        tool=tool.name if tool else None,
    )


def _camelize(document: dict[str, Any]) -> dict[str, Any]:
    """Protocol Buffers' JSON takes each field by either name; inside schemas the names are the caller's."""

    def rename(name: str) -> str:
        return _CAMEL.sub(lambda found: found[1].upper(), name)

    renamed = {rename(name): value for name, value in document.items()}
    config = renamed.get("generationConfig")
    if isinstance(config, dict):
        renamed["generationConfig"] = {rename(name): value for name, value in config.items()}
    return renamed


def _refuse_unknown(document: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    for name in sorted(document.keys() - known):
        message = f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.'
        raise _Fault(400, message, field=name)


def _read_member(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _Fault(400, f"Invalid value at '{name}': expected an object.", field=name)
    return value


def _read_prompt(document: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The system instruction's texts and those of the turns."""
    system = document.get("systemInstruction")
    instructions = () if system is None else _read_content(system, "system_instruction")
    contents = document.get("contents")
    if isinstance(contents, dict):
        contents = [contents]
    if not isinstance(contents, list) or not contents:
        message = "* GenerateContentRequest.contents: contents is not specified"
        raise _Fault(400, message, field="contents")
    texts = [
        text
        for place, content in enumerate(contents)
        for text in _read_content(content, f"contents[{place}]")
    ]
    return instructions, tuple(texts)


def _read_content(content: Any, where: str) -> tuple[str, ...]:
    if not isinstance(content, dict):
        raise _Fault(400, f"Invalid value at '{where}': expected an object.", field=where)
    if where != "system_instruction" and content.get("role") not in (None, "", "user", "model"):
        raise _Fault(400, "Please use a valid role: user, model.")
    parts = content.get("parts")
    if isinstance(parts, dict):
        parts = [parts]
    if not isinstance(parts, list) or not parts:
        message = f"* GenerateContentRequest.{where}.parts: contents.parts must not be empty."
        raise _Fault(400, message, field=f"{where}.parts")
    return tuple(_read_part(part, f"{where}.parts[{place}]") for place, part in enumerate(parts))


def _read_part(part: Any, where: str) -> str:
    for name in ("functionCall", "functionResponse"):
        if isinstance(part, dict) and name in part:
            return orjson.dumps(part[name]).decode()
    text = part.get("text") if isinstance(part, dict) else None
    if not isinstance(text, str):
        raise _Fault(400, f"'{where}' is not text; this simulated model reads nothing else.", field=where)
    return text


def _check_config(config: Mapping[str, Any]) -> None:
    for name, low, high in (("temperature", 0, 2), ("topP", 0, 1)):
        value = config.get(name)
        if value is None:
            continue
        where = f"generation_config.{'top_p' if name == 'topP' else name}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _Fault(400, f"Invalid value at '{where}' (TYPE_FLOAT), {value!r}", field=where)
        if not low <= value <= high:
            message = f"* GenerateContentRequest.{where}: {name} must be in the range [{low}, {high}]."
            raise _Fault(400, message, field=where)
    if config.get("candidateCount") not in (None, 1):
        raise _Fault(400, "Multiple candidates is not enabled for this model")


def _read_max_tokens(config: Mapping[str, Any], model: Model) -> int | None:
    value = config.get("maxOutputTokens")
    if value is None:
        return None
    where = "generation_config.max_output_tokens"
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Fault(400, f"Invalid value at '{where}' (TYPE_INT32), {value!r}", field=where)
    if not 1 <= value <= model.output_limit_tokens:
        message = (
            f"Unable to submit request because it has a maxOutputTokens value of {value} but the supported "
            f"range is from 1 (inclusive) to {model.output_limit_tokens + 1} (exclusive)."
        )
        raise _Fault(400, message, field=where)
    return value


def _read_thinking(config: Mapping[str, Any], model: Model) -> int:
    wanted = _camelize(_read_member(config, "thinkingConfig"))
    budget, level = wanted.get("thinkingBudget"), wanted.get("thinkingLevel")
    if not model.thinks:
        if budget or level:
            raise _Fault(400, "Thinking is not enabled for this model.")
        return 0
    if level is not None:
        if str(level).upper() not in _THINKING_LEVELS:
            raise _Fault(
                400, f"Invalid value at 'generation_config.thinking_config.thinking_level': {level!r}"
            )
        return _THINKING_LEVELS[str(level).upper()]
    if isinstance(budget, int) and budget >= 0:
        return min(budget, _THINKING_TOKENS)
    return _THINKING_TOKENS


def _read_answer_format(config: Mapping[str, Any]) -> AnswerFormat:
    kind = config.get("responseMimeType", "text/plain")
    older, newer = config.get("responseSchema"), config.get("responseJsonSchema")
    if older is not None and newer is not None:
        raise _Fault(400, "Only one of response_schema and response_json_schema may be set.")
    if kind not in ("text/plain", "application/json"):
        where = "generation_config.response_mime_type"
        message = f"* GenerateContentRequest.{where}: allowed mimetypes are {_MIME_TYPES}."
        raise _Fault(400, message, field=where)
    if older is None and newer is None:
        return PlainText() if kind == "text/plain" else AnyJson()
    if kind != "application/json":
        raise _Fault(
            400,
            "A response schema requires response_mime_type to be application/json.",
            field="generation_config.response_schema",
        )
    schema = _to_json_schema(older, "generation_config.response_schema") if newer is None else newer
    if not isinstance(schema, dict):
        raise _Fault(400, "Invalid value at 'generation_config.response_json_schema': expected an object.")
    return JsonOfSchema("response", schema)


def _to_json_schema(schema: Any, where: str) -> dict[str, Any]:
    """Google's Schema, which is OpenAPI's with the types in capitals, as JSON Schema."""
    if not isinstance(schema, dict):
        raise _Fault(400, f"Invalid value at '{where}': expected an object.", field=where)
    named = _camelize(schema)
    unknown = sorted(named.keys() - _OPENAPI_KEYWORDS)
    if unknown:
        message = (
            f"Invalid JSON payload received. Unknown name \"{unknown[0]}\" at '{where}': Cannot find field."
        )
        raise _Fault(400, message, field=where)
    said_elsewhere = ("nullable", "example", "propertyOrdering", "default", "defs", "ref")
    converted = {name: value for name, value in named.items() if name not in said_elsewhere}
    if isinstance(named.get("type"), str):
        converted["type"] = named["type"].lower()
    if converted.get("format") in _FORMATS_THAT_SAY_NOTHING:
        del converted["format"]
    for name in ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"):
        # Protocol Buffers' JSON writes numbers of 64 bits as strings.
        if isinstance(converted.get(name), str) and converted[name].isdigit():
            converted[name] = int(converted[name])
    properties = named.get("properties")
    if isinstance(properties, dict):
        order = named.get("propertyOrdering")
        names = [*(name for name in order if name in properties)] if isinstance(order, list) else []
        names += [name for name in properties if name not in names]
        converted["properties"] = {
            name: _to_json_schema(properties[name], f"{where}.properties[{name}]") for name in names
        }
    elif converted.get("type") == "object":
        message = f"* GenerateContentRequest.{where}.properties: should be non-empty for OBJECT type"
        raise _Fault(400, message, field=f"{where}.properties")
    if "items" in named:
        converted["items"] = _to_json_schema(named["items"], f"{where}.items")
    elif converted.get("type") == "array":
        raise _Fault(400, f"* GenerateContentRequest.{where}.items: missing field.", field=f"{where}.items")
    if isinstance(named.get("anyOf"), list):
        converted["anyOf"] = [
            _to_json_schema(each, f"{where}.any_of[{place}]") for place, each in enumerate(named["anyOf"])
        ]
    if "ref" in named:
        converted["$ref"] = str(named["ref"]).replace("#/defs/", "#/$defs/")
    if isinstance(named.get("defs"), dict):
        converted["$defs"] = {
            name: _to_json_schema(each, f"{where}.defs[{name}]") for name, each in named["defs"].items()
        }
    return converted


def _read_tool(document: Mapping[str, Any]) -> JsonOfSchema | None:
    """The function that must be called (mode ANY), None where none must."""
    offered = dict(_read_functions(document.get("tools") or []))
    mode_config = _camelize(
        _read_member(_camelize(_read_member(document, "toolConfig")), "functionCallingConfig")
    )
    if str(mode_config.get("mode", "AUTO")).upper() not in ("ANY", "VALIDATED") or not offered:
        return None
    if str(mode_config["mode"]).upper() == "VALIDATED":
        return None
    allowed = mode_config.get("allowedFunctionNames") or list(offered)
    if not isinstance(allowed, list) or allowed[0] not in offered:
        raise _Fault(400, f"Function {allowed!r} in allowed_function_names is not declared in tools.")
    return JsonOfSchema(allowed[0], offered[allowed[0]])


def _read_functions(tools: Any) -> Iterable[tuple[str, dict[str, Any]]]:
    if not isinstance(tools, list):
        raise _Fault(400, "Invalid value at 'tools': expected an array.", field="tools")
    for place, tool in enumerate(tools):
        declarations = _camelize(tool).get("functionDeclarations") if isinstance(tool, dict) else None
        if not isinstance(declarations, list):
            raise _Fault(
                400, "This simulated model has no tools of its own; declare functions.", field="tools"
            )
        for declaration in declarations:
            where = f"tools[{place}].function_declarations"
            named = _camelize(declaration) if isinstance(declaration, dict) else {}
            if not isinstance(named.get("name"), str):
                raise _Fault(400, f"* GenerateContentRequest.{where}.name: missing field.", field=where)
            parameters = named.get("parametersJsonSchema")
            if parameters is None:
                parameters = named.get("parameters") or {"type": "OBJECT", "properties": {}}
                parameters = _to_json_schema(parameters, f"{where}.parameters")
            if not isinstance(parameters, dict):
                raise _Fault(400, f"Invalid value at '{where}.parameters': expected an object.", field=where)
            yield named["name"], parameters


def _count_tokens(document: dict[str, Any]) -> dict[str, Any]:
    document = _camelize(document)
    whole = document.get("generateContentRequest")
    instructions, texts = _read_prompt(_camelize(whole) if isinstance(whole, dict) else document)
    total = estimate_prompt_tokens((*instructions, *texts))
    return {"totalTokens": total, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": total}]}


def _write_candidate(ask: Ask, completion: Completion) -> dict[str, Any]:
    finish = _FINISH_REASONS.get(completion.ending, "STOP")
    candidate: dict[str, Any] = {"finishReason": finish, "index": 0}
    if completion.ending is Ending.SAFETY:
        candidate["safetyRatings"] = [
            {"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": "MEDIUM", "blocked": True}
        ]
        return candidate
    candidate["content"] = {"role": "model"}
    if ask.tool is not None and completion.ending is Ending.MALFORMED:
        candidate["finishReason"] = "MALFORMED_FUNCTION_CALL"
    elif ask.tool is not None and completion.text:
        call = {"name": ask.tool, "args": salvage_object(completion.text)}
        candidate["content"]["parts"] = [{"functionCall": call}]
    elif completion.text:
        candidate["content"]["parts"] = [{"text": completion.text}]
    return candidate


def _write_model(model: Model) -> dict[str, Any]:
    return {
        "name": f"models/{model.name}",
        "version": model.snapshot,
        "displayName": model.title,
        "inputTokenLimit": model.context_window_tokens,
        "outputTokenLimit": model.output_limit_tokens,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
        "temperature": 1,
        "maxTemperature": 2,
        "thinking": model.thinks,
    }


def _write_fault(fault: _Fault) -> Wire:
    name = _STATUS_NAMES.get(fault.status, "INTERNAL" if fault.status >= 500 else "UNKNOWN")
    error: dict[str, Any] = {"code": fault.status, "message": fault.message, "status": name}
    if fault.details:
        error["details"] = fault.details
    return json_wire(fault.status, {"error": error}, {})
