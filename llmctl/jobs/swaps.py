"""The swap check: each comparison a second time with its essays exchanged, and both linked in metadata.

A judge that goes by the texts names the same one both times; one that goes by the position does not
(Wang et al. 2023, "Large Language Models are not Fair Evaluators", arXiv:2305.17926).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid5

from llmctl.jobs.batches import Line

MARK = "swap_check"
"""Where in the metadata it stands which pair a request belongs to, and which of the two it is."""


@dataclass(frozen=True)
class NameKeys:
    """The metadata that names the essays; it is exchanged with them."""

    a: str = "essay_a_id"
    b: str = "essay_b_id"


def add_swapped(lines: Iterable[Line], batch_id: UUID, names: NameKeys) -> Iterator[Line]:
    """Each line marked as one half of its pair, and after it the other half.

    A line that has no place for the mark is refused once; whatever else is wrong, both halves say.
    """
    for line in lines:
        problem = _find_problem(line)
        if problem is not None or line.body is None:
            yield replace(line, body=None, problem=problem or line.problem)
            continue
        pair = str(uuid5(batch_id, f"pair {line.number}"))
        yield replace(line, body=_mark(line.body, pair, swapped=False))
        yield replace(line, body=_mark(_exchange(line.body, names), pair, swapped=True), swapped=True)


def _find_problem(line: Line) -> str | None:
    metadata = (line.body or {}).get("metadata")
    if metadata is None:
        return None
    if not isinstance(metadata, dict):
        return "metadata: it is no object, so a pair cannot be marked there"
    return f"metadata: --swap-check puts {MARK!r} there, and the line has one" if MARK in metadata else None


def _mark(body: Mapping[str, Any], pair: str, *, swapped: bool) -> dict[str, Any]:
    marked = (body.get("metadata") or {}) | {MARK: {"pair": pair, "swapped": swapped}}
    return {**body, "metadata": marked}


def _exchange(body: Mapping[str, Any], names: NameKeys) -> dict[str, Any]:
    exchanged = _swap_keys(body, "essay_a", "essay_b")
    metadata = body.get("metadata")
    return exchanged | ({"metadata": _swap_keys(metadata, names.a, names.b)} if metadata else {})


def _swap_keys(values: Mapping[str, Any], one: str, other: str) -> dict[str, Any]:
    names = {one: other, other: one}
    return {names.get(key, key): value for key, value in values.items()}
