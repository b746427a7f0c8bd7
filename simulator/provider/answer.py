"""What the simulated model writes, whatever API carries it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeGuard

import orjson

from simulator.provider.draws import Draws
from simulator.provider.judge import Judge, Judgement
from simulator.provider.schema import fill_schema, read_required

_ANNOTATIONS = frozenset({"title", "description"})

_REMARKS = (
    "This is a simulated answer.",
    "This answer was written by a simulator.",
    "A simulated model has nothing more to say about that.",
)


@dataclass(frozen=True)
class PlainText:
    """The caller wants prose."""


@dataclass(frozen=True)
class AnyJson:
    """The caller wants a JSON object of whatever shape."""


@dataclass(frozen=True)
class JsonOfSchema:
    """The caller wants JSON that satisfies a schema."""

    name: str
    schema: dict[str, Any]


AnswerFormat = PlainText | AnyJson | JsonOfSchema


def compose_answer(judge: Judge, prompt: str, wanted: AnswerFormat, draws: Draws) -> str:
    """The model's text; raises `SchemaProblem` for a schema that cannot be filled.

    A schema whose `winner` is essay_a or essay_b is judged; every other one is filled by type. Prose is a
    judgement where the prompt holds two known essays.
    """
    match wanted:
        case PlainText():
            if len(judge.find_essays(prompt)) < 2:
                return draws.stream("wording").choice(_REMARKS)
            judgement = judge.judge(prompt, draws)
            return f"{judgement.justification} I prefer essay {judgement.winner[-1].upper()}."
        case AnyJson():
            return orjson.dumps(_as_document(judge.judge(prompt, draws))).decode()
        case JsonOfSchema(schema=schema):
            if not _asks_for_winner(schema):
                return orjson.dumps(fill_schema(schema, draws.stream("document"))).decode()
            return orjson.dumps(_judge_by_schema(judge, prompt, schema, draws)).decode()


def _judge_by_schema(judge: Judge, prompt: str, schema: dict[str, Any], draws: Draws) -> dict[str, Any]:
    """The judgement as far as the schema has room for it; what else it asks for is filled by type."""
    properties: dict[str, Any] = schema["properties"]
    judged = _fit_judgement(properties, judge.judge(prompt, draws))
    others = {name: child for name, child in properties.items() if name not in judged}
    required = [name for name in read_required(schema) if name not in judged]
    filled: dict[str, Any] = {}
    if others or required:
        rest = {**schema, "type": "object", "properties": others, "required": required}
        filled = fill_schema(rest, draws.stream("document"))
    return {name: judged[name] if name in judged else filled[name] for name in (*properties, *required)}


def _as_document(judgement: Judgement) -> dict[str, Any]:
    return {
        "winner": judgement.winner,
        "justification": judgement.justification,
        "confidence": judgement.confidence,
    }


def _asks_for_winner(schema: dict[str, Any]) -> bool:
    properties = schema.get("properties")
    winner = properties.get("winner") if isinstance(properties, dict) else None
    if isinstance(winner, dict) and isinstance(winner.get("$ref"), str):
        definitions = schema.get("$defs")
        name = winner["$ref"].removeprefix("#/$defs/")
        winner = definitions.get(name) if isinstance(definitions, dict) else None
    choices = winner.get("enum") if isinstance(winner, dict) else None
    return isinstance(choices, list) and {"essay_a", "essay_b"} <= {str(choice) for choice in choices}


def _fit_judgement(properties: dict[str, Any], judgement: Judgement) -> dict[str, Any]:
    fitting: dict[str, Any] = {"winner": judgement.winner}
    justification = properties.get("justification")
    if _has_type(justification, "string") and justification.keys() <= _ANNOTATIONS | {"type", "maxLength"}:
        limit = justification.get("maxLength", len(judgement.justification))
        if isinstance(limit, int) and limit >= 0:
            fitting["justification"] = judgement.justification[:limit]
    confidence = properties.get("confidence")
    if _has_type(confidence, "number") and _spans_probabilities(confidence):
        fitting["confidence"] = judgement.confidence
    return fitting


def _spans_probabilities(schema: dict[str, Any]) -> bool:
    known = schema.keys() <= _ANNOTATIONS | {"type", "minimum", "maximum"}
    return known and schema.get("minimum", 0) == 0 and schema.get("maximum", 1) == 1


def _has_type(schema: Any, kind: str) -> TypeGuard[dict[str, Any]]:
    return isinstance(schema, dict) and schema.get("type") == kind
