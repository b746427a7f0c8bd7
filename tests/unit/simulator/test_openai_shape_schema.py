"""A filled schema satisfies the schema, or is refused with a reason."""

from contextlib import suppress
from random import Random
from typing import Any

import jsonschema
import pytest
from hypothesis import given, note, reject, settings
from hypothesis import strategies as st

from simulator.provider.schema import SchemaProblem, check_constrained, check_strict, fill_schema

KEYWORDS = (
    "type", "properties", "required", "items", "minItems", "maxItems", "minLength", "maxLength", "enum",
    "const", "anyOf", "$ref", "minimum", "exclusiveMaximum", "multipleOf", "format",
)  # fmt: skip
NUMBERS = st.integers(min_value=-1000, max_value=1000)


@st.composite
def ranges(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": kind}
    low = draw(st.none() | NUMBERS)
    if low is not None:
        schema[draw(st.sampled_from(["minimum", "exclusiveMinimum"]))] = low
    if draw(st.booleans()):
        gap = draw(st.integers(min_value=2, max_value=50))
        schema[draw(st.sampled_from(["maximum", "exclusiveMaximum"]))] = (low or 0) + gap
    if draw(st.booleans()):
        schema["multipleOf"] = draw(st.sampled_from([1, 2, 0.5] if kind == "number" else [1, 2, 3]))
    return schema


@st.composite
def strings(draw: st.DrawFn) -> dict[str, Any]:
    least = draw(st.integers(min_value=0, max_value=60))
    return {"type": "string", "minLength": least, "maxLength": least + draw(st.integers(0, 60))}


LEAVES = st.one_of(
    ranges("integer"),
    ranges("number"),
    strings(),
    st.sampled_from(["date-time", "uuid", "email"]).map(lambda name: {"type": "string", "format": name}),
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.just({"type": ["null", "string"]}),
    st.lists(st.integers() | st.text(max_size=5) | st.none(), min_size=1, max_size=3).map(
        lambda values: {"enum": values}
    ),
    st.text(max_size=5).map(lambda value: {"const": value}),
)


def make_object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
        "additionalProperties": False,
    }


def nest(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.sampled_from(["winner", "a", "b", "c"])
    return st.one_of(
        st.dictionaries(names, children, max_size=3).map(make_object),
        st.tuples(children, st.integers(0, 3)).map(
            lambda both: {"type": "array", "items": both[0], "minItems": both[1]}
        ),
        st.lists(children, min_size=1, max_size=2).map(lambda branches: {"anyOf": branches}),
    )


SCHEMAS = st.recursive(LEAVES, nest, max_leaves=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-5, 5) | st.sampled_from(["string", "#", "x"]),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.sampled_from(KEYWORDS), children, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=100)
@given(SCHEMAS, st.integers(0, 1000))
def test_a_filled_schema_is_satisfied(schema: dict[str, Any], seed: int) -> None:
    try:
        document = fill_schema(schema, Random(seed))
    except SchemaProblem as problem:
        note(str(problem))
        reject()
    jsonschema.Draft202012Validator(schema).validate(document)
    assert document == fill_schema(schema, Random(seed))


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from(["type", "properties", "required", "anyOf", "items", "$ref"]), JSON))
def test_a_malformed_schema_is_refused_and_breaks_nothing(schema: dict[str, Any]) -> None:
    for use in (lambda: fill_schema(schema, Random(1)), lambda: check_strict(schema)):
        with suppress(SchemaProblem):
            use()


def test_a_recursive_schema_comes_to_an_end() -> None:
    following = {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}
    node = make_object({"name": {"type": "string"}, "next": following})
    schema = {"$ref": "#/$defs/node", "$defs": {"node": node}}
    jsonschema.Draft202012Validator(schema).validate(fill_schema(schema, Random(1)))


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"$ref": "#"}, "too deep"),
        ({"$ref": "#/$defs/none"}, "does not exist"),
        ({"allOf": []}, "'allOf' is not supported"),
        ({"type": "array", "items": {"type": "array", "minItems": 999}, "minItems": 999}, "too large"),
        ({"type": "string", "minLength": 10**9}, "no string"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "between the limits"),
        ({"type": "number", "exclusiveMinimum": 1, "maximum": 1}, "between the limits"),
        ({"type": "ghost"}, "not a type"),
    ],
)
def test_what_cannot_be_satisfied_is_refused(schema: dict[str, Any], reason: str) -> None:
    with pytest.raises(SchemaProblem, match=reason):
        fill_schema(schema, Random(1))


@pytest.mark.parametrize("kind", ["integer", "number"])
def test_excluded_limits_are_never_written(kind: str) -> None:
    """Between 3 and 5, both excluded, 4 is the only multiple of 1."""
    schema = {"type": kind, "exclusiveMinimum": 3, "exclusiveMaximum": 5, "multipleOf": 1}
    assert {fill_schema(schema, Random(seed)) for seed in range(20)} == {4}


@pytest.mark.parametrize(
    ("description", "least", "most"),
    [
        ("A grade\n\n{minimum: 21, maximum: 23}", 21, 23),
        ("{minimum: -0.5, maximum: 0.5}", -0.5, 0.5),
        ("{minimum: 21} or more", 0, 10),
        ("{minimum: many}", 0, 10),
    ],
)
def test_limits_in_a_description_are_kept(description: str, least: float, most: float) -> None:
    """As Anthropic's SDK writes them at its end; other words are only words."""
    for seed in range(20):
        value = fill_schema({"type": "number", "description": description}, Random(seed))
        assert least <= value <= most


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "object", "properties": {}}, "'additionalProperties' must be explicitly"),
        ({"anyOf": [{"type": "string", "maxLength": 5}]}, "For 'string' type, properties maxLength are not"),
        ({"$defs": {"x": {"type": "integer", "multipleOf": 2}}}, "multipleOf are not supported"),
        ({"type": "array", "items": {"type": "object"}}, "'additionalProperties'"),
        ({"type": "array", "minItems": 2}, "For 'array' type, properties minItems are not"),
    ],
)
def test_what_anthropics_format_does_not_keep_is_refused(schema: dict[str, Any], reason: str) -> None:
    with pytest.raises(SchemaProblem, match=reason):
        check_constrained(schema)


def test_what_anthropics_format_keeps_is_let_through() -> None:
    listed = {"type": "array", "items": {"$ref": "#/$defs/x"}, "minItems": 1}
    schema = make_object({"list": listed, "choice": {"enum": ["a", "b"]}})
    check_constrained({**schema, "$defs": {"x": {"type": "string", "format": "date"}}})


def test_strict_mode_looks_into_every_object() -> None:
    schema = make_object({"list": {"type": "array", "items": {"type": "object", "properties": {}}}})
    with pytest.raises(SchemaProblem, match=r"\('properties', 'list', 'items'\), 'additionalProperties'"):
        check_strict(schema)
