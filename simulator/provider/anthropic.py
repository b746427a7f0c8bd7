"""Anthropic's API on the wire: messages, token counts and the model list.

Sources: https://platform.claude.com/docs/en/api/messages, its pages on errors, rate limits, structured
outputs and stop reasons, and anthropic-sdk-python (`types/`, `_exceptions.py`) for the names of the fields.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import orjson

from simulator.provider.answer import AnswerFormat, JsonOfSchema, PlainText
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
from simulator.provider.catalogue import ANTHROPIC_MODELS, Model, find_model
from simulator.provider.completion import bend, salvage_object
from simulator.provider.schema import SchemaProblem, check_constrained
from simulator.provider.tokens import (
    LEAST_CACHED_TOKENS,
    TOKENS_PER_MESSAGE,
    estimate_prompt_tokens,
    estimate_text_tokens,
)

_INVALID = "invalid_request_error"
_PARAMETERS = frozenset(
    {
        "cache_control", "container", "diagnostics", "inference_geo", "max_tokens", "messages", "metadata",
        "model", "output_config", "output_format", "service_tier", "speed", "stop_sequences", "stream",
        "system", "temperature", "thinking", "tool_choice", "tools", "top_k", "top_p", "user_profile_id",
    }
)  # fmt: skip
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_THINKING_TOKENS = 256
"""How much a model really thinks depends on what it is asked; a budget below is kept."""
_LEAST_THINKING_BUDGET = 1024
_TROUBLES: dict[Trouble, tuple[int, str, str]] = {
    Trouble.RATE_LIMITED: (429, "rate_limit_error", "This request would exceed your account's rate limit."),
    Trouble.QUOTA_EXHAUSTED: (
        400, _INVALID, "Your credit balance is too low to access the Anthropic API.",
    ),
    Trouble.OVERLOADED: (529, "overloaded_error", "Overloaded"),
    Trouble.SERVER_ERROR: (500, "api_error", "Internal server error"),
    Trouble.TIMEOUT: (504, "timeout_error", "Request timed out."),
    Trouble.UNAUTHORIZED: (401, "authentication_error", "invalid x-api-key"),
    Trouble.FORBIDDEN: (403, "permission_error", "Your API key may not use the specified resource."),
    Trouble.NOT_FOUND: (404, "not_found_error", "model: the one that was asked for"),
    Trouble.TOO_LARGE: (413, "request_too_large", "Request exceeds the maximum size"),
    Trouble.INVALID: (400, _INVALID, "messages: Input should be a valid list"),
}  # fmt: skip
_ERROR_TYPES = {404: "not_found_error", 413: "request_too_large"}
_SAID = (Ending.STOP, Ending.LENGTH, Ending.SCHEMA_BREAKING, Ending.TRUNCATED)
"""The endings in which a tool that had to be called was called."""


class _Fault(Exception):
    """Something in a call that is refused, in Anthropic's words."""

    def __init__(self, message: str, status: int = 400, kind: str = _INVALID) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind


@dataclass(frozen=True)
class _Text:
    """A piece of the prompt, and whether the caller wants what ends with it cached."""

    text: str
    ends_cached: bool = False


class AnthropicApi:
    """Anthropic's API; its SDK takes the root."""

    name = "anthropic"
    base_path = ""

    def routes(self) -> Sequence[tuple[str, str]]:
        """Messages."""
        return (("POST", "/v1/messages"),)

    def other_routes(self) -> Sequence[tuple[str, str]]:
        """Token counts, the model list and each of its entries."""
        return (
            ("POST", "/v1/messages/count_tokens"),
            ("GET", "/v1/models"),
            ("GET", "/v1/models/{model}"),
        )

    def claims(self, call: Call) -> bool:
        """By the headers that only its callers send, and by its own path."""
        ours = "anthropic-version" in call.headers or "x-api-key" in call.headers
        return ours or call.path.startswith("/v1/messages")

    def read(self, call: Call) -> Ask:
        """Reads a message; raises `Refusal` (400, 401, 404)."""
        try:
            key = _read_key(call.headers)
            document = _read_object(call.body)
            return _read_ask(document, key, read_attempt(call.headers))
        except _Fault as fault:
            raise Refusal(_write_fault(fault, call.digest)) from fault

    def look_up(self, call: Call) -> Wire:
        """A token count, the model list or one of its entries; raises `Refusal` (400, 401, 404)."""
        try:
            _read_key(call.headers)
            if call.path.endswith("/count_tokens"):
                document = _read_object(call.body)
                _read_model(document)
                texts = _read_prompt(document)
                body: dict[str, Any] = {"input_tokens": estimate_prompt_tokens(each.text for each in texts)}
            elif (name := call.path_params.get("model")) is not None:
                body = _write_model(_find_model(name))
            else:
                body = _list_models()
        except _Fault as fault:
            raise Refusal(_write_fault(fault, call.digest)) from fault
        return json_wire(200, body, _write_headers(call.digest))

    def answer(self, ask: Ask, completion: Completion, ending: Ending, created: int) -> Wire:  # noqa: ARG002
        """The `message` object, which says nothing of when it was made."""
        completion = bend(completion, ending)
        reason, details = _find_stop_reason(ask, completion)
        body = {
            "id": f"msg_01{completion.id[:22]}",
            "type": "message",
            "role": "assistant",
            "model": ask.model.snapshot,
            "content": _write_content(ask, completion),
            "stop_reason": reason,
            "stop_sequence": None,
            "stop_details": details,
            "usage": {
                "input_tokens": completion.prompt_tokens - completion.cached_tokens,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": completion.cached_tokens,
                "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
                "output_tokens": completion.completion_tokens,
                "output_tokens_details": {"thinking_tokens": completion.reasoning_tokens},
                "service_tier": "standard",
            },
        }
        return json_wire(200, body, _write_headers(completion.request_id))

    def refuse(
        self,
        trouble: Trouble,
        *,
        status: int | None = None,
        retry_after_seconds: float | None = None,
        request_id: str,
    ) -> Wire:
        """Anthropic's error body; what its gateway answers (502, 503) is a page."""
        headers: dict[str, str] = {}
        if retry_after_seconds is not None:
            headers["retry-after"] = str(math.ceil(retry_after_seconds))
        if trouble in (Trouble.BAD_GATEWAY, Trouble.UNAVAILABLE):
            return gateway_wire(status or (502 if trouble is Trouble.BAD_GATEWAY else 503), headers)
        usual, kind, message = _TROUBLES[trouble]
        wire = _write_fault(_Fault(message, status or usual, kind), request_id)
        return Wire(wire.status, {**wire.headers, **headers}, wire.body)

    def refuse_schema(self, ask: Ask, problem: str) -> Wire:
        """400, as of an output format or of a tool."""
        where = "output_config.format.schema" if ask.tool is None else "tools.0.custom.input_schema"
        request_id = blake2b(ask.canonical, digest_size=16).hexdigest()
        return _write_fault(_Fault(f"{where}: {problem}"), request_id)

    def refuse_route(self, status: int, call: Call) -> Wire:
        """404 and 405."""
        message = "Not found" if status == 404 else "Method Not Allowed"
        return _write_fault(_Fault(message, status, _ERROR_TYPES.get(status, _INVALID)), call.digest)

    def refuse_size(self, max_bytes: int, call: Call) -> Wire:
        """413."""
        message = f"Request exceeds the maximum size of {max_bytes} bytes"
        return _write_fault(_Fault(message, 413, _ERROR_TYPES[413]), call.digest)

    def rate_headers(self, state: RateState) -> dict[str, str]:
        """`anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}`, the reset as a moment."""
        headers: dict[str, str] = {}
        for unit, limit, remaining, seconds in (
            ("requests", state.requests_limit, state.requests_remaining, state.requests_reset_seconds),
            ("tokens", state.tokens_limit, state.tokens_remaining, state.tokens_reset_seconds),
        ):
            if limit is not None:
                headers[f"anthropic-ratelimit-{unit}-limit"] = str(limit)
                headers[f"anthropic-ratelimit-{unit}-remaining"] = str(remaining)
                headers[f"anthropic-ratelimit-{unit}-reset"] = _write_moment(state.now + seconds)
        return headers


def _read_key(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    key = headers.get("x-api-key", "").strip() or (token.strip() if scheme.lower() == "bearer" else "")
    if not key:
        raise _Fault("x-api-key header is required", 401, "authentication_error")
    if not headers.get("anthropic-version"):
        raise _Fault("anthropic-version: header is required")
    return key


def _read_object(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _Fault("The request body is not valid JSON.") from error
    if not isinstance(document, dict):
        raise _Fault("Input should be a valid dictionary")
    return document


def _read_ask(document: Mapping[str, Any], key: str, attempt: int) -> Ask:
    model = _read_model(document)
    texts = _read_prompt(document)
    max_tokens = _read_max_tokens(document, model)
    for name in sorted(document.keys() - _PARAMETERS):
        raise _Fault(f"{name}: Extra inputs are not permitted")
    if document.get("stream"):
        raise _Fault("stream: this simulated model does not stream; leave it out.")
    tool = _read_tool(document)
    thoughts = _read_thinking(document, model, max_tokens, forced=tool is not None)
    _check_sampling(document, model, thinking=thoughts > 0)
    prompt_tokens = estimate_prompt_tokens(each.text for each in texts)
    if prompt_tokens > model.context_window_tokens:
        raise _Fault(f"prompt is too long: {prompt_tokens} tokens > {model.context_window_tokens} maximum")
    try:
        canonical = sort_document(document)
    except orjson.JSONEncodeError as error:
        raise _Fault("The request body is nested too deeply.") from error
    return Ask(
        api="anthropic",
        key_digest=digest_key(key),
        model=model,
        prompt="\n".join(each.text for each in texts),
        answer_format=tool or _read_output_format(document),
        max_tokens=max_tokens,
        canonical=b"anthropic/" + canonical,
        attempt=attempt,
        prompt_tokens=prompt_tokens,
        cached_tokens=_count_cached(texts),
        reasoning_tokens=thoughts,
        tool=tool.name if tool else None,
    )


def _read_model(document: Mapping[str, Any]) -> Model:
    name = document.get("model")
    if name is None:
        raise _Fault("model: Field required")
    if not isinstance(name, str):
        raise _Fault("model: Input should be a valid string")
    return _find_model(name)


def _find_model(name: str) -> Model:
    model = find_model(ANTHROPIC_MODELS, name)
    if model is None:
        raise _Fault(f"model: {name}", 404, "not_found_error")
    return model


def _read_max_tokens(document: Mapping[str, Any], model: Model) -> int:
    value = document.get("max_tokens")
    if value is None:
        raise _Fault("max_tokens: Field required")
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Fault("max_tokens: Input should be a valid integer")
    if value < 1:
        raise _Fault("max_tokens: must be greater than or equal to 1")
    if value > model.output_limit_tokens:
        raise _Fault(
            f"max_tokens: {value} > {model.output_limit_tokens}, which is the maximum allowed number of "
            f"output tokens for {model.snapshot}"
        )
    return value


def _read_prompt(document: Mapping[str, Any]) -> tuple[_Text, ...]:
    """The system prompt and the turns, in the order in which they are cached."""
    system = _read_content(document["system"], "system") if document.get("system") is not None else ()
    messages = document.get("messages")
    if messages is None:
        raise _Fault("messages: Field required")
    if not isinstance(messages, list):
        raise _Fault("messages: Input should be a valid list")
    if not messages:
        raise _Fault("messages: at least one message is required")
    turns = [text for place, message in enumerate(messages) for text in _read_message(message, place)]
    if document.get("cache_control") is not None:
        turns[-1:] = [_Text(text.text, ends_cached=True) for text in turns[-1:]]
    return (*system, *turns)


def _read_message(message: Any, place: int) -> tuple[_Text, ...]:
    if not isinstance(message, dict):
        raise _Fault(f"messages.{place}: Input should be an object")
    role = message.get("role")
    if role == "system":
        raise _Fault(
            'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter, '
            'not "system" as an input message role.'
        )
    if role not in ("user", "assistant"):
        raise _Fault(f"messages.{place}.role: Input should be 'user' or 'assistant'")
    if "content" not in message:
        raise _Fault(f"messages.{place}.content: Field required")
    texts = _read_content(message["content"], f"messages.{place}.content")
    if not any(each.text for each in texts):
        raise _Fault(f"messages.{place}: all messages must have non-empty content")
    return texts


def _read_content(content: Any, where: str) -> tuple[_Text, ...]:
    if isinstance(content, str):
        return (_Text(content),)
    if not isinstance(content, list):
        raise _Fault(f"{where}: Input should be a valid string or list")
    return tuple(_read_block(block, f"{where}.{place}") for place, block in enumerate(content))


def _read_block(block: Any, where: str) -> _Text:
    kind = block.get("type") if isinstance(block, dict) else None
    if kind in ("thinking", "redacted_thinking"):
        return _Text("")
    if kind == "tool_use":
        return _Text(orjson.dumps(block.get("input")).decode())
    if kind == "tool_result":
        texts = _read_content(block.get("content", ""), f"{where}.tool_result.content")
        return _Text("".join(each.text for each in texts))
    if kind != "text":
        raise _Fault(f"{where}: this simulated model reads blocks of type 'text' and nothing else.")
    text = block.get("text")
    if not isinstance(text, str):
        raise _Fault(f"{where}.text.text: Field required")
    if not text:
        raise _Fault(f"{where}: text content blocks must be non-empty")
    return _Text(text, ends_cached=block.get("cache_control") is not None)


def _count_cached(texts: Sequence[_Text]) -> int:
    """What ends with the last mark of the caller; it is always warm, so that no answer depends on another."""
    last = max((place for place, each in enumerate(texts) if each.ends_cached), default=-1)
    tokens = sum(TOKENS_PER_MESSAGE + estimate_text_tokens(each.text) for each in texts[: last + 1])
    return tokens if tokens >= LEAST_CACHED_TOKENS else 0


def _read_tool(document: Mapping[str, Any]) -> JsonOfSchema | None:
    """The tool that must be used, None where none must."""
    tools, choice = document.get("tools"), document.get("tool_choice")
    if not tools:
        if choice is not None:
            raise _Fault("tool_choice: tool_choice may only be specified while providing tools.")
        return None
    if not isinstance(tools, list):
        raise _Fault("tools: Input should be a valid list")
    offered = [_read_tool_definition(tool, f"tools.{place}") for place, tool in enumerate(tools)]
    kind = choice.get("type") if isinstance(choice, dict) else None
    if choice is None or kind in ("auto", "none"):
        return None
    if kind == "any":
        return offered[0]
    if kind != "tool" or not isinstance(choice, dict):
        raise _Fault("tool_choice.type: Input should be 'auto', 'any', 'tool' or 'none'")
    wanted = next((tool for tool in offered if tool.name == choice.get("name")), None)
    if wanted is None:
        raise _Fault(f"tool_choice.name: Tool '{choice.get('name')}' not found in provided tools")
    return wanted


def _read_tool_definition(tool: Any, where: str) -> JsonOfSchema:
    if not isinstance(tool, dict):
        raise _Fault(f"{where}: Input should be an object")
    if tool.get("type") not in (None, "custom"):
        raise _Fault(f"{where}: this simulated model has no tools of its own; leave '{tool['type']}' out.")
    name, schema = tool.get("name"), tool.get("input_schema")
    if not isinstance(name, str) or not _TOOL_NAME.fullmatch(name):
        raise _Fault(f"{where}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    if not isinstance(schema, dict):
        raise _Fault(f"{where}.custom.input_schema: Field required")
    if schema.get("type") != "object":
        raise _Fault(f"{where}.custom.input_schema.type: Input should be 'object'")
    if tool.get("strict") is True:
        _check_schema(schema, f"{where}.custom.input_schema")
    return JsonOfSchema(name, schema)


def _read_output_format(document: Mapping[str, Any]) -> AnswerFormat:
    """`output_config.format`, or the `output_format` of the time before it."""
    config = document.get("output_config")
    if config is not None and not isinstance(config, dict):
        raise _Fault("output_config: Input should be an object")
    older = document.get("output_format")
    wanted = (config or {}).get("format")
    if wanted is not None and older is not None:
        raise _Fault("output_format: cannot be specified together with output_config.format.")
    where = "output_format" if wanted is None else "output_config.format"
    wanted = older if wanted is None else wanted
    if wanted is None:
        return PlainText()
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        raise _Fault(f"{where}.type: Input should be 'json_schema'")
    schema = wanted.get("schema")
    if not isinstance(schema, dict):
        raise _Fault(f"{where}.schema: Field required")
    _check_schema(schema, f"{where}.schema")
    return JsonOfSchema("output", schema)


def _check_schema(schema: dict[str, Any], where: str) -> None:
    try:
        check_constrained(schema)
    except SchemaProblem as problem:
        raise _Fault(f"{where}: {problem}") from problem


def _read_thinking(document: Mapping[str, Any], model: Model, max_tokens: int, *, forced: bool) -> int:
    """So many tokens are thought; raises `_Fault` where the caller may not ask for that."""
    config = document.get("thinking")
    kind = config.get("type") if isinstance(config, dict) else None
    if config is not None and kind not in ("enabled", "adaptive", "disabled"):
        raise _Fault("thinking.type: Input should be 'enabled', 'adaptive' or 'disabled'")
    if kind == "disabled" or (kind is None and not model.thinks):
        return 0
    if forced:
        raise _Fault("Thinking may not be enabled when tool_choice forces tool use.")
    if kind != "enabled" or not isinstance(config, dict):
        return _THINKING_TOKENS
    budget = config.get("budget_tokens")
    if isinstance(budget, bool) or not isinstance(budget, int):
        raise _Fault("thinking.enabled.budget_tokens: Field required")
    if budget < _LEAST_THINKING_BUDGET:
        raise _Fault("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
    if budget >= max_tokens:
        raise _Fault("`max_tokens` must be greater than `thinking.budget_tokens`.")
    return _THINKING_TOKENS


def _check_sampling(document: Mapping[str, Any], model: Model, *, thinking: bool) -> None:
    for name in ("temperature", "top_p"):
        value = document.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _Fault(f"{name}: Input should be a valid number")
        if not 0 <= value <= 1:
            raise _Fault(f"{name}: range: 0..1")
        if model.thinks:
            raise _Fault(f"`{name}` is deprecated for this model.")
    if document.get("temperature") is not None and document.get("top_p") is not None:
        raise _Fault(
            "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
        )
    if thinking and document.get("temperature") not in (None, 1):
        raise _Fault("`temperature` may only be set to 1 when thinking is enabled.")


def _write_content(ask: Ask, completion: Completion) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if completion.reasoning_tokens:
        signature = completion.id[:40]
        blocks.append({"type": "thinking", "thinking": "I compare the two.", "signature": signature})
    if completion.ending in (Ending.REFUSAL, Ending.SAFETY):
        return []
    if ask.tool is not None and completion.ending in _SAID:
        block: dict[str, Any] = {"type": "tool_use", "id": f"toolu_01{completion.id[-22:]}"}
        blocks.append({**block, "name": ask.tool, "input": salvage_object(completion.text)})
    elif completion.text:
        blocks.append({"type": "text", "text": completion.text})
    return blocks


def _find_stop_reason(ask: Ask, completion: Completion) -> tuple[str, dict[str, Any] | None]:
    match completion.ending:
        case Ending.LENGTH:
            return "max_tokens", None
        case Ending.REFUSAL:
            return "refusal", {"type": "refusal", "category": None, "explanation": None}
        case Ending.SAFETY:
            return "refusal", {"type": "refusal", "category": "general_harms", "explanation": None}
    return ("tool_use" if ask.tool is not None and completion.ending in _SAID else "end_turn"), None


def _list_models() -> dict[str, Any]:
    entries = [_write_model(model) for model in ANTHROPIC_MODELS]
    return {
        "data": entries, "has_more": False, "first_id": entries[0]["id"], "last_id": entries[-1]["id"],
    }  # fmt: skip


def _write_model(model: Model) -> dict[str, Any]:
    return {
        "type": "model",
        "id": model.snapshot,
        "display_name": model.title,
        "created_at": _write_moment(model.created),
        "lifecycle": "active",
        "max_input_tokens": model.context_window_tokens,
        "max_tokens": model.output_limit_tokens,
    }


def _write_moment(seconds: float) -> str:
    moment = datetime.fromtimestamp(0, UTC) + timedelta(seconds=math.ceil(seconds))
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _write_headers(request_id: str) -> dict[str, str]:
    return {"request-id": f"req_{request_id}", "anthropic-organization-id": "simulated"}


def _write_fault(fault: _Fault, request_id: str) -> Wire:
    body = {
        "type": "error",
        "error": {"type": fault.kind, "message": fault.message},
        "request_id": f"req_{request_id}",
    }
    return json_wire(fault.status, body, _write_headers(request_id))
