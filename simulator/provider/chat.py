"""The body of a chat completion, which OpenAI made up and OpenRouter speaks too: how it is read and answered.

Source: the API reference at https://platform.openai.com/docs/api-reference/chat.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from simulator.provider.answer import AnswerFormat, AnyJson, JsonOfSchema, PlainText
from simulator.provider.api import Ask, Completion, Ending, sort_document
from simulator.provider.catalogue import Model
from simulator.provider.schema import SchemaProblem, check_strict
from simulator.provider.tokens import estimate_cached_tokens, estimate_prompt_tokens

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
NOT_OFFERED = ("stream", "functions", "audio", "logprobs", "web_search_options")
FINISH_REASONS = {Ending.LENGTH: "length", Ending.SAFETY: "content_filter"}
THINKING_TOKENS = {"none": 0, "minimal": 0, "low": 64, "medium": 256, "high": 1024, "xhigh": 4096}
"""By effort; how much a model really thinks depends on what it is asked."""
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_RANGES = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}


class Fault(Exception):
    """Something in a body that is refused, in OpenAI's words."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code


@dataclass(frozen=True)
class Message:
    """One turn of the conversation, as text."""

    role: str
    text: str


def read_object(body: bytes) -> dict[str, Any]:
    """The body as a JSON object; raises `Fault`."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Fault(
            400,
            "We could not parse the JSON body of your request. (HINT: This likely means you aren't using "
            "your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not "
            "valid JSON.)",
        ) from error
    if not isinstance(document, dict):
        raise Fault(400, "The JSON body of your request must be an object.")
    return document


def read_model_name(document: Mapping[str, Any]) -> str:
    """The model that is asked for; raises `Fault`."""
    name = document.get("model")
    if not name:
        raise Fault(400, "you must provide a model parameter", param="model")
    if not isinstance(name, str):
        raise wrong_type("model", "a string")
    return name


def read_ask(
    document: Mapping[str, Any], *, api: str, key_digest: str, model: Model, attempt: int, prefix: bytes = b""
) -> Ask:
    """What a body asks of a model; raises `Fault`.

    `prefix` tells the canonical form of one API's requests from another's.
    """
    messages = _read_messages(document)
    _refuse_what_is_not_offered(document)
    for name, (low, high) in _RANGES.items():
        check_range(document, name, low, high)
    tool, answer_format = read_tool(document) or (None, _read_answer_format(document, messages))
    prompt_tokens = estimate_prompt_tokens(message.text for message in messages)
    max_tokens = _read_max_tokens(document, model)
    if prompt_tokens > model.context_window_tokens:
        raise Fault(
            400,
            f"This model's maximum context length is {model.context_window_tokens} tokens. However, your "
            f"messages resulted in {prompt_tokens} tokens. Please reduce the length of the messages.",
            param="messages",
            code="context_length_exceeded",
        )
    instructions = [message.text for message in messages if message.role in ("system", "developer")]
    return Ask(
        api=api,
        key_digest=key_digest,
        model=model,
        prompt="\n".join(message.text for message in messages),
        answer_format=answer_format,
        max_tokens=max_tokens,
        canonical=prefix + write_canonical(document),
        attempt=attempt,
        prompt_tokens=prompt_tokens,
        cached_tokens=estimate_cached_tokens(instructions),
        reasoning_tokens=_read_thinking(document, model),
        tool=tool,
    )


def write_choice(ask: Ask, completion: Completion) -> dict[str, Any]:
    """The one choice of an answer; the completion has its ending already."""
    message: dict[str, Any] = {"role": "assistant", "content": completion.text, "refusal": None}
    finish = FINISH_REASONS.get(completion.ending, "stop")
    if completion.ending is Ending.REFUSAL and not isinstance(ask.answer_format, PlainText):
        message |= {"content": None, "refusal": completion.text}
    elif ask.tool is not None and completion.ending not in (Ending.SAFETY, Ending.EMPTY, Ending.REFUSAL):
        call = {"name": ask.tool, "arguments": completion.text}
        message |= {
            "content": None,
            "tool_calls": [{"id": f"call_{completion.id[-24:]}", "type": "function", "function": call}],
        }
    return {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}


def write_usage(completion: Completion) -> dict[str, Any]:
    """What the answer is billed for."""
    return {
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "total_tokens": completion.prompt_tokens + completion.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": completion.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": completion.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def write_canonical(document: Mapping[str, Any]) -> bytes:
    """The body with its keys in order; raises `Fault` for one that is nested beyond reason."""
    try:
        return sort_document(document)
    except orjson.JSONEncodeError as error:
        raise Fault(400, "The JSON body of your request is nested too deeply.") from error


def read_tool(document: Mapping[str, Any]) -> tuple[str, JsonOfSchema] | None:
    """The function that must be called and its parameters, None where none must; raises `Fault`."""
    tools, choice = document.get("tools"), document.get("tool_choice")
    if tools is None or tools == []:
        if choice is not None and choice != "none":
            raise Fault(
                400, "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are "
                "specified.", param="tool_choice",
            )  # fmt: skip
        return None
    if not isinstance(tools, list):
        raise wrong_type("tools", "an array of objects")
    offered = dict(_read_function(tool, f"tools[{place}]") for place, tool in enumerate(tools))
    if choice in (None, "auto", "none"):
        return None
    name: Any
    if choice == "required":
        name = next(iter(offered))
    else:
        function = choice.get("function") if isinstance(choice, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
    if name not in offered:
        raise Fault(
            400, f"Tool choice '{name}' not found in 'tools' parameter.", param="tool_choice",
            code="invalid_value",
        )  # fmt: skip
    return name, JsonOfSchema(name, offered[name])


def check_range(document: Mapping[str, Any], name: str, low: float, high: float) -> None:
    """Raises `Fault` where a number is none or lies outside its range."""
    value = document.get(name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(name, "a decimal")
    if not low <= value <= high:
        bound, code = (
            (f"<= {high}", "decimal_above_max_value")
            if value > high
            else (f">= {low}", "decimal_below_min_value")
        )
        raise Fault(
            400, f"Invalid '{name}': expected a value {bound}, but got {value} instead.", param=name,
            code=code,
        )  # fmt: skip


def missing(where: str) -> Fault:
    """What is said of a parameter that is not there."""
    return Fault(
        400, f"Missing required parameter: '{where}'.", param=where, code="missing_required_parameter"
    )


def wrong_type(where: str, expected: str) -> Fault:
    """What is said of a parameter of another type."""
    return Fault(400, f"Invalid type for '{where}': expected {expected}.", param=where, code="invalid_type")


def invalid_schema(name: str, problem: str) -> Fault:
    """What is said of a schema that cannot be kept."""
    return Fault(400, f"Invalid schema for response_format '{name}': {problem}", param="response_format")


def _read_messages(document: Mapping[str, Any]) -> tuple[Message, ...]:
    messages = document.get("messages")
    if messages is None:
        raise missing("messages")
    if not isinstance(messages, list):
        raise wrong_type("messages", "an array of objects")
    if not messages:
        raise Fault(
            400,
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty "
            "array instead.",
            param="messages",
            code="empty_array",
        )
    return tuple(_read_message(message, f"messages[{place}]") for place, message in enumerate(messages))


def _read_message(message: Any, where: str) -> Message:
    if not isinstance(message, dict):
        raise wrong_type(where, "an object")
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise Fault(
            400,
            f"Invalid value for '{where}.role'. Supported values are: {', '.join(sorted(ROLES))}.",
            param=f"{where}.role",
            code="invalid_value",
        )
    content = message.get("content")
    if isinstance(content, str):
        return Message(role, content)
    if content is None and role == "assistant":
        return Message(role, "")
    if not isinstance(content, list):
        raise wrong_type(f"{where}.content", "a string or an array of objects")
    return Message(role, "".join(_read_part(part, f"{where}.content[{n}]") for n, part in enumerate(content)))


def _read_part(part: Any, where: str) -> str:
    if not isinstance(part, dict) or part.get("type") != "text":
        raise Fault(
            400, f"'{where}' is not text; this simulated model reads nothing else.", param=where,
            code="invalid_value",
        )  # fmt: skip
    text = part.get("text")
    if not isinstance(text, str):
        raise wrong_type(f"{where}.text", "a string")
    return text


def _read_function(tool: Any, where: str) -> tuple[str, dict[str, Any]]:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict):
        raise missing(f"{where}.function")
    name, parameters = function.get("name"), function.get("parameters", {"type": "object", "properties": {}})
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Fault(
            400, f"Invalid '{where}.function.name': string does not match pattern. Expected a string that "
            "matches the pattern '^[a-zA-Z0-9_-]+$'.", param=f"{where}.function.name", code="invalid_value",
        )  # fmt: skip
    if not isinstance(parameters, dict):
        raise wrong_type(f"{where}.function.parameters", "an object")
    return name, parameters


def _refuse_what_is_not_offered(document: Mapping[str, Any]) -> None:
    choices = document.get("n")
    if choices not in (None, 1) or isinstance(choices, bool):
        raise Fault(
            400, "'n' must be 1; this simulated model gives one choice.", param="n", code="unsupported_value"
        )
    for name in NOT_OFFERED:
        if document.get(name):
            raise Fault(
                400, f"'{name}' is not offered by this simulated model; leave it out.", param=name,
                code="unsupported_parameter",
            )  # fmt: skip


def _read_max_tokens(document: Mapping[str, Any], model: Model) -> int | None:
    given = [name for name in ("max_tokens", "max_completion_tokens") if document.get(name) is not None]
    if not given:
        return None
    if len(given) == 2:
        raise Fault(
            400, "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            param="max_tokens", code="invalid_parameter_combination",
        )  # fmt: skip
    name, value = given[0], document[given[0]]
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(name, "an integer")
    if value < 1:
        raise Fault(
            400, f"Invalid '{name}': integer below minimum value. Expected a value >= 1, but got "
            f"{value} instead.",
            param=name, code="integer_below_min_value",
        )  # fmt: skip
    if value > model.output_limit_tokens:
        raise Fault(
            400, f"max_tokens is too large: {value}. This model supports at most "
            f"{model.output_limit_tokens} completion tokens, whereas you provided {value}.",
            param=name, code="invalid_value",
        )  # fmt: skip
    return value


def _read_thinking(document: Mapping[str, Any], model: Model) -> int:
    effort = document.get("reasoning_effort")
    if effort is not None and (not isinstance(effort, str) or effort not in THINKING_TOKENS):
        raise Fault(
            400, "Invalid value for 'reasoning_effort'. Supported values are: "
            f"{', '.join(THINKING_TOKENS)}.", param="reasoning_effort", code="invalid_value",
        )  # fmt: skip
    return THINKING_TOKENS[effort or "medium"] if model.thinks else 0


def _read_answer_format(document: Mapping[str, Any], messages: tuple[Message, ...]) -> AnswerFormat:
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
        raise Fault(
            400, "Invalid value for 'response_format.type'. Supported values are: 'json_object', "
            "'json_schema', and 'text'.", param="response_format.type", code="invalid_value",
        )  # fmt: skip
    return readers[kind]()


def _read_any_json(messages: tuple[Message, ...]) -> AnyJson:
    if not any("json" in message.text.lower() for message in messages):
        raise Fault(
            400, "'messages' must contain the word 'json' in some form, to use 'response_format' of type "
            "'json_object'.", param="messages",
        )  # fmt: skip
    return AnyJson()


def _read_schema_format(wanted: dict[str, Any]) -> JsonOfSchema:
    where = "response_format.json_schema"
    named = wanted.get("json_schema")
    if not isinstance(named, dict):
        raise missing(where)
    for key, expected, name in ((named.get("name"), str, "name"), (named.get("schema"), dict, "schema")):
        if not isinstance(key, expected):
            raise missing(f"{where}.{name}")
    return check_named_schema(named["name"], named["schema"], named.get("strict") is True, f"{where}.name")


def check_named_schema(name: str, schema: dict[str, Any], strict: bool, where: str) -> JsonOfSchema:
    """A schema that the answer has to satisfy; raises `Fault` for its name or what strict mode refuses."""
    if not _NAME.fullmatch(name):
        raise Fault(
            400, f"Invalid '{where}': string does not match pattern. Expected a string that matches the "
            "pattern '^[a-zA-Z0-9_-]+$'.", param=where, code="invalid_value",
        )  # fmt: skip
    if strict:
        try:
            check_strict(schema)
        except SchemaProblem as problem:
            raise invalid_schema(name, str(problem)) from problem
    return JsonOfSchema(name, schema)
