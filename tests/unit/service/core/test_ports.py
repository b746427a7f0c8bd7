"""The shapes that the engine asks of the outside."""

import inspect
from types import FunctionType
from typing import Any

import pytest

from service.core import ports

PORTS = [port for _, port in inspect.getmembers(ports, inspect.isclass) if port.__module__ == ports.__name__]


def find_members(port: Any) -> dict[str, Any]:
    return {
        name: member
        for name, member in vars(port).items()
        if not name.startswith("_") and isinstance(member, FunctionType | property)
    }


@pytest.mark.parametrize("port", PORTS, ids=lambda port: port.__name__)
def test_port_is_small_and_documented(port: Any) -> None:
    """More than six members are two ports."""
    members = find_members(port)
    assert getattr(port, "_is_protocol", False), f"{port.__name__} is no Protocol"
    assert 1 <= len(members) <= 6
    assert port.__doc__
    for name, member in members.items():
        assert isinstance(member, property) or member.__doc__, f"{port.__name__}.{name} has no docstring"


def test_publish_to_topic_takes_topic_envelope_and_key() -> None:
    """The interface is fixed by the specification."""
    parameters = inspect.signature(ports.LLMEventPublisherProtocol.publish_to_topic).parameters
    assert list(parameters) == ["self", "topic", "envelope", "key"]
    assert parameters["key"].default is None
