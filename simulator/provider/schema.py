"""JSON documents that satisfy a JSON Schema, the way a model in structured mode writes them."""

from __future__ import annotations

import math
import re
from random import Random
from typing import Any

MAX_DEPTH = 32
MAX_NODES = 10_000
MAX_STRING_CHARACTERS = 100_000
SHALLOW_DEPTH = 6
"""Below this depth only what is required is written, so that recursive schemas come to an end."""

_UNSUPPORTED = frozenset(
    {
        "allOf", "not", "if", "then", "else", "pattern", "patternProperties", "propertyNames",
        "contains", "uniqueItems", "prefixItems", "minProperties", "maxProperties", "dependentRequired",
        "dependentSchemas", "unevaluatedProperties", "unevaluatedItems",
    }
)  # fmt: skip
_LIMITS_OF_NUMBERS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
_UNCONSTRAINED = {
    "number": _LIMITS_OF_NUMBERS,
    "integer": _LIMITS_OF_NUMBERS,
    "string": frozenset({"minLength", "maxLength"}),
    "array": frozenset({"minItems", "maxItems", "uniqueItems"}),
}
"""By type, what Anthropic's structured output does not keep."""
_DESCRIBED_LIMIT = r"(?:minimum|maximum|minLength|maxLength|minItems|maxItems): -?\d{1,9}(?:\.\d{1,9})?"
_DESCRIBED = re.compile(rf"\{{({_DESCRIBED_LIMIT}(?:, {_DESCRIBED_LIMIT})*)\}}\Z")
_FORMATS = {
    "date-time": "2025-01-31T12:00:00Z",
    "date": "2025-01-31",
    "time": "12:00:00Z",
    "uuid": "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
    "email": "student@example.org",
    "uri": "https://example.org/",
}
_WORDS = ("simulated", "essay", "clear", "argument", "reason", "example", "reader", "structure")


class SchemaProblem(Exception):
    """The schema is malformed, cannot be satisfied or uses what is not supported; says which."""


def fill_schema(schema: dict[str, Any], rng: Random) -> Any:
    """A document that satisfies the schema, the same for the same generator state; raises `SchemaProblem`."""
    return _Filler(schema, rng).fill(schema, 0)


def check_strict(schema: Any, path: tuple[str, ...] = ()) -> None:
    """Raises `SchemaProblem` where OpenAI's strict mode refuses the schema.

    Every object must forbid additional properties and require all of its own.
    """
    if not isinstance(schema, dict):
        return
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, dict):
        _check_strict_object(schema, properties if isinstance(properties, dict) else {}, path)
    for keyword in ("properties", "$defs"):
        children = schema.get(keyword)
        if isinstance(children, dict):
            for name, child in children.items():
                check_strict(child, (*path, keyword, name))
    if "items" in schema:
        check_strict(schema["items"], (*path, "items"))
    if "anyOf" in schema:
        for position, child in enumerate(_read_list(schema, "anyOf")):
            check_strict(child, (*path, "anyOf", str(position)))


def _check_strict_object(schema: dict[str, Any], properties: dict[str, Any], path: tuple[str, ...]) -> None:
    missing = properties.keys() - set(read_required(schema))
    if schema.get("additionalProperties") is not False:
        problem = "'additionalProperties' is required to be supplied and to be false."
    elif missing:
        problem = (
            "'required' is required to be supplied and to be an array including every key in properties. "
            f"Missing '{min(missing)}'."
        )
    else:
        return
    raise SchemaProblem(f"In context=({', '.join(repr(step) for step in path)}), {problem}")


def check_constrained(schema: Any) -> None:
    """Raises `SchemaProblem` where Anthropic's structured output refuses the schema.

    Every object must forbid additional properties; limits of numbers, strings and arrays are not supported.
    Source: https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations
    """
    if not isinstance(schema, dict):
        return
    kind = _read_type(schema)
    if "type" in schema or "properties" in schema:
        if kind == "object" and schema.get("additionalProperties") is not False:
            raise SchemaProblem("For 'object' type, 'additionalProperties' must be explicitly set to false")
        limits = sorted(_UNCONSTRAINED.get(kind, frozenset()).intersection(schema))
        if kind == "array" and schema.get("minItems") in (0, 1):
            limits.remove("minItems")
        if limits:
            raise SchemaProblem(f"For '{kind}' type, properties {', '.join(limits)} are not supported")
    for keyword in ("properties", "$defs"):
        children = schema.get(keyword)
        if isinstance(children, dict):
            for child in children.values():
                check_constrained(child)
    check_constrained(schema.get("items"))
    for keyword in ("anyOf", "allOf"):
        if keyword in schema:
            for child in _read_list(schema, keyword):
                check_constrained(child)


def read_required(schema: dict[str, Any]) -> list[str]:
    """The names that an object must have; raises `SchemaProblem` where they are no names."""
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise SchemaProblem("'required' must be an array of strings")
    return required


class _Filler:
    """Walks one schema; counts what it writes, because small schemas can ask for huge documents."""

    def __init__(self, root: dict[str, Any], rng: Random) -> None:
        self._root = root
        self._rng = rng
        self._nodes = 0

    def fill(self, schema: Any, depth: int) -> Any:
        self._nodes += 1
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            raise SchemaProblem("the schema asks for a document that is too deep or too large")
        if schema is True:
            return self._rng.choice(_WORDS)
        if not isinstance(schema, dict):
            raise SchemaProblem("a schema must be an object")
        unsupported = _UNSUPPORTED.intersection(schema)
        if unsupported:
            raise SchemaProblem(f"'{min(unsupported)}' is not supported")
        return self._fill_checked(schema, depth)

    def _fill_checked(self, schema: dict[str, Any], depth: int) -> Any:
        if "$ref" in schema:
            return self.fill(self._resolve(schema["$ref"]), depth + 1)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._rng.choice(_read_list(schema, "enum"))
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self.fill(self._choose(_read_list(schema, keyword), depth), depth + 1)
        return self._fill_type(_read_type(schema), {**_read_described_limits(schema), **schema}, depth)

    def _fill_type(self, kind: str, schema: dict[str, Any], depth: int) -> Any:
        match kind:
            case "object":
                return self._fill_object(schema, depth)
            case "array":
                return self._fill_array(schema, depth)
            case "string":
                return self._fill_string(schema)
            case "integer" | "number":
                return self._fill_number(schema, whole=kind == "integer")
            case "boolean":
                return self._rng.random() < 0.5
            case "null":
                return None
        raise SchemaProblem(f"'{kind}' is not a type")

    def _resolve(self, reference: Any) -> Any:
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise SchemaProblem("'$ref' must point into the schema itself")
        target: Any = self._root
        for step in filter(None, reference[1:].split("/")):
            target = target.get(step) if isinstance(target, dict) else None
        if target is None:
            raise SchemaProblem(f"'$ref' points to {reference!r}, which does not exist")
        return target

    def _choose(self, branches: list[Any], depth: int) -> Any:
        def is_null(branch: Any) -> bool:
            return isinstance(branch, dict) and branch.get("type") == "null"

        preferred = [branch for branch in branches if is_null(branch) == (depth >= SHALLOW_DEPTH)]
        return (preferred or branches)[0]

    def _fill_object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        if not isinstance(properties, dict):
            raise SchemaProblem("'properties' must be an object")
        required = read_required(schema)
        names = [name for name in properties if depth < SHALLOW_DEPTH or name in required]
        document = {name: self.fill(properties[name], depth + 1) for name in names}
        for name in required:
            if name not in document:
                if schema.get("additionalProperties") is False:
                    raise SchemaProblem(f"'required' names '{name}', which the schema does not allow")
                document[name] = self._rng.choice(_WORDS)
        return document

    def _fill_array(self, schema: dict[str, Any], depth: int) -> list[Any]:
        least = _read_size(schema, "minItems", 0)
        most = _read_size(schema, "maxItems", max(least, 1))
        if least > most:
            raise SchemaProblem("'minItems' is greater than 'maxItems'")
        count = least if depth >= SHALLOW_DEPTH else max(least, min(1, most))
        return [self.fill(schema.get("items", True), depth + 1) for _ in range(count)]

    def _fill_string(self, schema: dict[str, Any]) -> str:
        if "format" in schema:
            text = _FORMATS.get(str(schema["format"]))
            if text is None:
                raise SchemaProblem(f"the format '{schema['format']}' is not supported")
            return text
        least = _read_size(schema, "minLength", 0)
        most = _read_size(schema, "maxLength", MAX_STRING_CHARACTERS)
        if not least <= most <= MAX_STRING_CHARACTERS:
            raise SchemaProblem("'minLength' and 'maxLength' leave no string of a possible length")
        words = " ".join(self._rng.choices(_WORDS, k=3))
        return words.ljust(least, ".")[:most]

    def _fill_number(self, schema: dict[str, Any], *, whole: bool) -> float:
        low, high = _read_bounds(schema)
        step = _read_number(schema, "multipleOf", 1 if whole else 0)
        if step < 0 or (whole and step != int(step)):
            raise SchemaProblem("'multipleOf' must be positive, and whole for an integer")
        if step:
            return self._fill_multiple(schema, low, high, step)
        if low > high or (low == high and _excludes(schema, low)):
            raise SchemaProblem("no number lies between the limits")
        value = low + (high - low) * self._rng.uniform(0.25, 0.75)
        rounded = round(value, 3)
        return rounded if low < rounded < high else value

    def _fill_multiple(self, schema: dict[str, Any], low: float, high: float, step: float) -> float:
        first, last = math.ceil(low / step), math.floor(high / step)
        first += _excludes(schema, first * step)
        if not _has_upper_limit(schema):
            last = max(last, first)
        last -= _excludes(schema, last * step)
        if first > last:
            raise SchemaProblem("no multiple lies between the limits")
        return self._rng.randint(first, last) * (int(step) if step == int(step) else step)


def _read_described_limits(schema: dict[str, Any]) -> dict[str, Any]:
    """Limits that stand in the description, as Anthropic's SDK writes the ones that its API does not keep."""
    description = schema.get("description")
    described = _DESCRIBED.search(description) if isinstance(description, str) else None
    if described is None:
        return {}
    pairs = (pair.split(": ", 1) for pair in described[1].split(", "))
    return {name: float(text) if "." in text else int(text) for name, text in pairs}


def _read_list(schema: dict[str, Any], keyword: str) -> list[Any]:
    value = schema[keyword]
    if not isinstance(value, list) or not value:
        raise SchemaProblem(f"'{keyword}' must be a non-empty array")
    return value


def _read_type(schema: dict[str, Any]) -> str:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    return str(kind)


def _read_number(schema: dict[str, Any], keyword: str, default: float) -> float:
    value = schema.get(keyword, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SchemaProblem(f"'{keyword}' must be a number")
    return value


def _read_size(schema: dict[str, Any], keyword: str, default: int) -> int:
    value = schema.get(keyword, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise SchemaProblem(f"'{keyword}' must be a whole number that is not negative")
    return min(value, MAX_STRING_CHARACTERS) if keyword.startswith("max") else value


def _has_upper_limit(schema: dict[str, Any]) -> bool:
    return "maximum" in schema or "exclusiveMaximum" in schema


def _excludes(schema: dict[str, Any], value: float) -> bool:
    return value in (schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum"))


def _read_bounds(schema: dict[str, Any]) -> tuple[float, float]:
    lows = [_read_number(schema, name, 0) for name in ("minimum", "exclusiveMinimum") if name in schema]
    highs = [_read_number(schema, name, 0) for name in ("maximum", "exclusiveMaximum") if name in schema]
    if lows and highs:
        return max(lows), min(highs)
    if highs:
        return min(0, min(highs) - 10), min(highs)
    low = max(lows, default=0)
    return low, low + 10
