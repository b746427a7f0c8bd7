"""Positions survive as JSON, and malformed ones are refused."""

import json

import pytest

from llmctl.library import Position


def test_a_position_as_json() -> None:
    position = Position({"results": {0: 12, 10: 0}, "other": {1: 7}})
    assert json.loads(position.to_json()) == {"results": {"0": 12, "10": 0}, "other": {"1": 7}}
    assert Position.from_json(position.to_json()) == position


@pytest.mark.parametrize(
    "text",
    ["[]", '{"t": 1}', '{"t": {"0": -1}}', '{"t": {"0": true}}', '{"t": {"a": 1}}', '{"t": {"-1": 1}}', "{"],
)
def test_what_is_no_position(text: str) -> None:
    with pytest.raises(ValueError):
        Position.from_json(text)


def test_the_part_about_some_topics() -> None:
    position = Position.of_places({("a", 0): 1, ("a", 1): 2, ("b", 0): 3})
    assert position.places_of(["a"]) == {("a", 0): 1, ("a", 1): 2}
    assert position == Position({"a": {0: 1, 1: 2}, "b": {0: 3}})
    with pytest.raises(ValueError, match="says nothing about the topic 'c'"):
        position.places_of(["a", "c"])
