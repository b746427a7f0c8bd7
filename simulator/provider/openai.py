"""OpenAI's chat completions API on the wire: what it reads, answers and refuses.

Source: the API reference at https://platform.openai.com/docs/api-reference/chat.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from simulator.provider.answer import AnswerFormat, AnyJson, JsonOfSchema, PlainText, compose_answer
from simulator.provider.catalogue import OPENAI_MODELS, Model, find_openai_model
from simulator.provider.draws import Draws
from simulator.provider.judge import Judge
from simulator.provider.schema import SchemaProblem, check_strict
from simulator.provider.tokens import estimate_prompt_tokens, estimate_text_tokens, truncate_to_tokens

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_NOT_OFFERED = ("tools", "functions", "audio", "logprobs", "web_search_options")


class Refusal(Exception):
    """An error answer in OpenAI's shape."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {
            "error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}
        }


@dataclass(frozen=True)
class Message:
    """One turn of the conversation, as text."""

    role: str
    text: str


@dataclass(frozen=True)
class ChatRequest:
    """A request for a completion that the API accepts."""

    model: Model
    messages: tuple[Message, ...]
    answer_format: AnswerFormat
    max_tokens: int | None
    canonical: bytes
    """The body with its keys in order: equal for requests that say the same."""

    @cached_property
    def prompt(self) -> str:
        """Everything the model reads."""
        return "\n".join(message.text for message in self.messages)


@dataclass(frozen=True)
class Completion:
    """The model's answer and what it is billed for."""

    id: str
    model: Model
    fingerprint: str
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int

    def as_body(self, created: int) -> dict[str, Any]:
        """The `chat.completion` object; `created` is in seconds since the epoch."""
        return {
            "id": self.id,
            "object": "chat.completion",
            "created": created,
            "model": self.model.snapshot,
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant", "content": self.text, "refusal": None, "annotations": [],
                    },
                    "logprobs": None,
                    "finish_reason": self.finish_reason,
                }
            ],
            "usage": {
                "prompt_tokens": self.prompt_tokens,
                "completion_tokens": self.completion_tokens,
                "total_tokens": self.prompt_tokens + self.completion_tokens,
                "prompt_tokens_details": {"cached_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0},
            },
            "service_tier": "default",
            "system_fingerprint": self.fingerprint,
        }  # fmt: skip


def check_authorization(header: str | None) -> None:
    """Lets any bearer key through that is not empty; raises `Refusal` (401)."""
    scheme, _, key = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Refusal(
            401,
            "You didn't provide an API key. You need to provide your API key in an Authorization header "
            "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
        )


def read_attempt(header: str | None) -> int:
    """The retry that OpenAI's SDK says this is (`x-stainless-retry-count`), 0 where it says nothing.

    The real API ignores this header, so one that is no number is no error.
    """
    return int(header) if header and len(header) <= 4 and header.isascii() and header.isdigit() else 0


def read_chat_request(body: bytes) -> ChatRequest:
    """Reads the body of `POST /v1/chat/completions`; raises `Refusal` (400, 404)."""
    document = _read_object(body)
    model = _read_model(document)
    messages = _read_messages(document)
    _refuse_what_is_not_offered(document)
    _check_temperature(document)
    try:
        canonical = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise Refusal(400, "The JSON body of your request is nested too deeply.") from error
    return ChatRequest(
        model=model,
        messages=messages,
        answer_format=_read_answer_format(document, messages),
        max_tokens=_read_max_tokens(document),
        canonical=canonical,
    )


def complete(request: ChatRequest, judge: Judge, draws: Draws) -> Completion:
    """Answers the request; raises `Refusal` (400) for a schema that cannot be filled."""
    try:
        text = compose_answer(judge, request.prompt, request.answer_format, draws)
    except SchemaProblem as problem:
        raise _invalid_schema(request.answer_format, problem) from problem
    completion_tokens, finish_reason = estimate_text_tokens(text), "stop"
    if request.max_tokens is not None and completion_tokens > request.max_tokens:
        text = truncate_to_tokens(text, request.max_tokens)
        completion_tokens, finish_reason = request.max_tokens, "length"
    return Completion(
        id=f"chatcmpl-{draws.identifier('completion', 29)}",
        model=request.model,
        fingerprint=f"fp_{draws.identifier('fingerprint', 10)}",
        text=text,
        finish_reason=finish_reason,
        prompt_tokens=estimate_prompt_tokens(message.text for message in request.messages),
        completion_tokens=completion_tokens,
    )


def list_models() -> dict[str, Any]:
    """The body of `GET /v1/models`."""
    return {
        "object": "list",
        "data": [
            {"id": name, "object": "model", "created": model.created, "owned_by": model.owner}
            for model in OPENAI_MODELS
            for name in (model.name, model.snapshot)
        ],
    }


def refuse_route(status: int, method: str, path: str) -> Refusal:
    """What OpenAI says of an unknown route (404) or a wrong method (405)."""
    if status == 405:
        return Refusal(405, f"Not allowed to {method} on {path}.", code="method_not_supported")
    return Refusal(status, f"Invalid URL ({method} {path})")


def refuse_size(max_bytes: int) -> Refusal:
    """What is said of a body that is too large (413)."""
    return Refusal(413, f"The request is larger than {max_bytes} bytes.", code="request_too_large")


def _read_object(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(
            400,
            "We could not parse the JSON body of your request. (HINT: This likely means you aren't using "
            "your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not "
            "valid JSON.)",
        ) from error
    if not isinstance(document, dict):
        raise Refusal(400, "The JSON body of your request must be an object.")
    return document


def _read_model(document: dict[str, Any]) -> Model:
    name = document.get("model")
    if not name:
        raise Refusal(400, "you must provide a model parameter", param="model")
    if not isinstance(name, str):
        raise _wrong_type("model", "a string")
    model = find_openai_model(name)
    if model is None:
        raise Refusal(
            404, f"The model `{name}` does not exist or you do not have access to it.", code="model_not_found"
        )
    return model


def _read_messages(document: dict[str, Any]) -> tuple[Message, ...]:
    messages = document.get("messages")
    if messages is None:
        raise Refusal(
            400,
            "Missing required parameter: 'messages'.",
            param="messages",
            code="missing_required_parameter",
        )
    if not isinstance(messages, list):
        raise _wrong_type("messages", "an array of objects")
    if not messages:
        raise Refusal(
            400,
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty "
            "array instead.",
            param="messages",
            code="empty_array",
        )
    return tuple(_read_message(message, f"messages[{place}]") for place, message in enumerate(messages))


def _read_message(message: Any, where: str) -> Message:
    if not isinstance(message, dict):
        raise _wrong_type(where, "an object")
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise Refusal(
            400,
            f"Invalid value for '{where}.role'. Supported values are: {', '.join(sorted(_ROLES))}.",
            param=f"{where}.role",
            code="invalid_value",
        )
    content = message.get("content")
    if isinstance(content, str):
        return Message(role, content)
    if content is None and role == "assistant":
        return Message(role, "")
    if not isinstance(content, list):
        raise _wrong_type(f"{where}.content", "a string or an array of objects")
    return Message(role, "".join(_read_part(part, f"{where}.content[{n}]") for n, part in enumerate(content)))


def _read_part(part: Any, where: str) -> str:
    if not isinstance(part, dict) or part.get("type") != "text":
        raise Refusal(
            400, f"'{where}' is not text; this simulated model reads nothing else.", param=where,
            code="invalid_value",
        )  # fmt: skip
    text = part.get("text")
    if not isinstance(text, str):
        raise _wrong_type(f"{where}.text", "a string")
    return text


def _refuse_what_is_not_offered(document: dict[str, Any]) -> None:
    choices = document.get("n")
    if choices not in (None, 1) or isinstance(choices, bool):
        raise Refusal(
            400, "'n' must be 1; this simulated model gives one choice.", param="n", code="unsupported_value"
        )
    for name in ("stream", *_NOT_OFFERED):
        if document.get(name):
            raise Refusal(
                400, f"'{name}' is not offered by this simulated model; leave it out.", param=name,
                code="unsupported_parameter",
            )  # fmt: skip


def _check_temperature(document: dict[str, Any]) -> None:
    value = document.get("temperature")
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong_type("temperature", "a decimal")
    if not 0 <= value <= 2:
        bound, code = (
            ("<= 2", "decimal_above_max_value") if value > 2 else (">= 0", "decimal_below_min_value")
        )
        raise Refusal(
            400, f"Invalid 'temperature': expected a value {bound}, but got {value} instead.",
            param="temperature", code=code,
        )  # fmt: skip


def _read_max_tokens(document: dict[str, Any]) -> int | None:
    given = [name for name in ("max_tokens", "max_completion_tokens") if document.get(name) is not None]
    if not given:
        return None
    if len(given) == 2:
        raise Refusal(
            400, "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            param="max_tokens", code="invalid_parameter_combination",
        )  # fmt: skip
    name, value = given[0], document[given[0]]
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong_type(name, "an integer")
    if value < 1:
        raise Refusal(
            400, f"Invalid '{name}': integer below minimum value. Expected a value >= 1, but got "
            f"{value} instead.",
            param=name, code="integer_below_min_value",
        )  # fmt: skip
    return value


def _read_answer_format(document: dict[str, Any], messages: tuple[Message, ...]) -> AnswerFormat:
    wanted = document.get("response_format")
    if wanted is None:
        return PlainText()
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    readers: dict[Any, Callable[[], AnswerFormat]] = {
        "text": PlainText,
        "json_object": lambda: _read_any_json(messages),
        "json_schema": lambda: _read_schema_format(wanted),
    }
    if not isinstance(kind, str) or kind not in readers:
        raise Refusal(
            400, "Invalid value for 'response_format.type'. Supported values are: 'json_object', "
            "'json_schema', and 'text'.", param="response_format.type", code="invalid_value",
        )  # fmt: skip
    return readers[kind]()


def _read_any_json(messages: tuple[Message, ...]) -> AnyJson:
    if not any("json" in message.text.lower() for message in messages):
        raise Refusal(
            400, "'messages' must contain the word 'json' in some form, to use 'response_format' of type "
            "'json_object'.", param="messages",
        )  # fmt: skip
    return AnyJson()


def _read_schema_format(wanted: dict[str, Any]) -> JsonOfSchema:
    where = "response_format.json_schema"
    named = wanted.get("json_schema")
    if not isinstance(named, dict):
        raise Refusal(
            400, f"Missing required parameter: '{where}'.", param=where, code="missing_required_parameter"
        )
    for key, expected, name in ((named.get("name"), str, "name"), (named.get("schema"), dict, "schema")):
        if not isinstance(key, expected):
            raise Refusal(
                400, f"Missing required parameter: '{where}.{name}'.", param=f"{where}.{name}",
                code="missing_required_parameter",
            )  # fmt: skip
    wanted_json = JsonOfSchema(named["name"], named["schema"])
    if named.get("strict") is True:
        try:
            check_strict(wanted_json.schema)
        except SchemaProblem as problem:
            raise _invalid_schema(wanted_json, problem) from problem
    return wanted_json


def _invalid_schema(wanted: AnswerFormat, problem: SchemaProblem) -> Refusal:
    name = wanted.name if isinstance(wanted, JsonOfSchema) else "none"
    return Refusal(400, f"Invalid schema for response_format '{name}': {problem}", param="response_format")


def _wrong_type(where: str, expected: str) -> Refusal:
    return Refusal(400, f"Invalid type for '{where}': expected {expected}.", param=where, code="invalid_type")
