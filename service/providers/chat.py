"""Chat Completions, as OpenAI made it and others speak it too: its parts, for whoever composes a dialect."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from service.core.outcome import Usage
from service.core.prompt import ANSWER_SCHEMA, ANSWER_SCHEMA_NAME
from service.core.records import ProviderCall
from service.providers.dialect import Ending, make_usage
from service.providers.documents import count, first, joined_text, member

_RESPONSE_FORMAT: Final = orjson.Fragment(
    orjson.dumps(
        {
            "type": "json_schema",
            "json_schema": {"name": ANSWER_SCHEMA_NAME, "strict": True, "schema": ANSWER_SCHEMA},
        }
    )
)


def compose_chat(call: ProviderCall) -> dict[str, Any]:
    """The body of a call, without sampling and limits, whose names differ."""
    return {
        "model": call.model,
        "messages": (
            {"role": "system", "content": call.system_prompt},
            {"role": "user", "content": call.user_prompt},
        ),
        "response_format": _RESPONSE_FORMAT,
    }


def read_usage(document: Mapping[str, Any]) -> Usage:
    """Returns the tokens that an answer says it used."""
    usage = member(document, "usage")
    return make_usage(
        count(usage, "prompt_tokens"),
        count(usage, "completion_tokens"),
        cached_tokens=count(member(usage, "prompt_tokens_details"), "cached_tokens"),
        reasoning_tokens=count(member(usage, "completion_tokens_details"), "reasoning_tokens"),
    )


def read_ending(document: Mapping[str, Any]) -> tuple[Ending, str]:
    """How the model stopped, and what it wrote."""
    choice = first(document, "choices")
    message = member(choice, "message")
    reason = choice.get("finish_reason")
    content = joined_text(message.get("content"))
    if reason == "content_filter":
        return Ending.WITHHELD, ""
    if message.get("refusal"):
        return Ending.REFUSED, ""
    if reason == "length":
        return Ending.LENGTH, ""
    if content is None:
        return Ending.SHAPELESS, ""
    return Ending.COMPLETE, content
