"""JSON from the other side: whatever stands in it, reading it raises nothing and repeats nothing unfit."""

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

_NAME: Final = re.compile(r"[\w.:/\-\[\]]{1,200}", re.ASCII)


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; an empty one where there is none."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def member(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object in an object; an empty one where there is none."""
    value = document.get(name)
    return value if isinstance(value, dict) else {}


def members(document: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects in a list in an object; none where there is no list."""
    value = document.get(name)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def first(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The first entry of a list in an object, where it is an object itself; else an empty one."""
    value = document.get(name)
    return value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else {}


def count(document: Mapping[str, Any], name: str) -> int:
    """A count in an object; 0 where there is none that can be one."""
    value = document.get(name)
    return max(value, 0) if isinstance(value, int) and not isinstance(value, bool) else 0


def text(document: Mapping[str, Any], name: str) -> str:
    """A text in an object, to be looked at and never repeated; an empty one where there is none."""
    value = document.get(name)
    return value if isinstance(value, str) else ""


def clean(value: Any, secret: str) -> str | None:
    """A name where it is fit to be repeated: short, plain, and without the secret."""
    if not isinstance(value, str) or not _NAME.fullmatch(value) or secret in value:
        return None
    return value
