"""Reads JSON documents from providers: raises nothing, and bounds every value that it returns."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

MAX_COUNT: Final = 2**31 - 1
"""The largest token count that is believed; a larger one counts as missing."""

_NAME: Final = re.compile(r"[\w.:/\-\[\]]{1,200}", re.ASCII)


def parse(body: bytes) -> dict[str, Any]:
    """Returns the JSON object in a body, or an empty one.

    A body that is almost JSON is read as well: an answer that was paid for isn't discarded because of a byte
    order mark, a NaN, or half of a surrogate pair.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = _parse_leniently(body)
    return document if isinstance(document, dict) else {}


def _parse_leniently(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return None


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


def count(document: Mapping[str, Any], name: str, default: int | None = None) -> int | None:
    """Returns a count from 0 to `MAX_COUNT`; `default` if there is none, None if the value can't be one."""
    value = document.get(name)
    if value is None:
        return default
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT
    return value if fits else None


def add_counts(*counts: int | None) -> int | None:
    """Returns the sum, or None if one of them is missing."""
    known = [each for each in counts if each is not None]
    return sum(known) if len(known) == len(counts) else None


def joined_text(value: Any) -> str | None:
    """Returns a text, or the joined texts of a list of parts; None for anything else."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return None
    texts = [
        part if isinstance(part, str) else text(part, "text")
        for part in value
        if isinstance(part, str) or (isinstance(part, dict) and part.get("type") in {"text", "output_text"})
    ]
    return "".join(texts) if texts else None


def text(document: Mapping[str, Any], name: str) -> str:
    """A text in an object, to be looked at and never repeated; an empty one where there is none."""
    value = document.get(name)
    return value if isinstance(value, str) else ""


def clean(value: Any, secret: str) -> str | None:
    """A name where it is fit to be repeated: short, plain, and without the secret."""
    if not isinstance(value, str) or not _NAME.fullmatch(value) or secret in value:
        return None
    return value
