"""The simulated model's answer to a call, and the ways in which one can go wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from simulator.provider.answer import compose_answer
from simulator.provider.api import Ask, Completion, Ending
from simulator.provider.draws import Draws
from simulator.provider.judge import Judge
from simulator.provider.tokens import estimate_text_tokens, truncate_to_tokens

_DECLINED = "I'm sorry, but I can't assist with that request."
_PROSE = "Both essays have their merits {and faults; on balance I would go with the one that argues more."


def complete(ask: Ask, judge: Judge, draws: Draws) -> Completion:
    """What the model writes; raises `SchemaProblem` for a schema that cannot be filled.

    Thinking comes first: where the limit leaves no room after it, nothing is said.
    """
    text = compose_answer(judge, ask.prompt, ask.answer_format, draws)
    tokens, thoughts, ending = estimate_text_tokens(text), ask.reasoning_tokens, Ending.STOP
    if ask.max_tokens is not None and thoughts + tokens > ask.max_tokens:
        thoughts = min(thoughts, ask.max_tokens)
        tokens, ending = ask.max_tokens - thoughts, Ending.LENGTH
        text = truncate_to_tokens(text, tokens)
    return Completion(
        id=draws.identifier("completion", 64),
        request_id=draws.identifier("request", 32),
        text=text,
        ending=ending,
        prompt_tokens=ask.prompt_tokens,
        cached_tokens=ask.cached_tokens,
        completion_tokens=thoughts + tokens,
        reasoning_tokens=thoughts,
    )


def bend(completion: Completion, ending: Ending) -> Completion:
    """The completion as it would have been with another ending, and billed as such."""
    if ending is completion.ending:
        return completion
    text = _reword(completion.text, ending)
    return replace(
        completion,
        text=text,
        ending=ending,
        completion_tokens=completion.reasoning_tokens + estimate_text_tokens(text),
    )


def salvage_object(text: str) -> dict[str, Any]:
    """The members that are whole in the beginning of a JSON object: what is left of a tool's input."""
    cuts = [place for place, character in enumerate(text) if character in ",}"]
    for cut in reversed(cuts):
        try:
            document = orjson.loads(text[:cut] + "}")
        except orjson.JSONDecodeError:
            continue
        if isinstance(document, dict):
            return document
    return {}


def _reword(text: str, ending: Ending) -> str:
    match ending:
        case Ending.LENGTH | Ending.TRUNCATED:
            return text[: len(text) // 2]
        case Ending.REFUSAL:
            return _DECLINED
        case Ending.SAFETY | Ending.EMPTY:
            return ""
        case Ending.MALFORMED:
            return _PROSE
        case Ending.SCHEMA_BREAKING:
            return orjson.dumps(_break_document(text)).decode()
    return text


def _break_document(text: str) -> dict[str, Any]:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        document = None
    if isinstance(document, dict) and "winner" in document:
        return {**document, "winner": "both"}
    return {"unexpected": True}
