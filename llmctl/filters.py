"""The language of `--where`: which callbacks a person wants to see.

status:error provider:openai      both are required
error:~timeout                    a regular expression, found anywhere in the field
confidence<0.6  e2e>5s  tokens>=900
-model:gpt-4o                     everything else
meta.pair_id:p-07                 what the request's metadata said
"trace 9f3"                       a text, anywhere in the record
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from simulator.quantities import parse_duration

META_PREFIX = "meta."
TEXT_FIELDS = (
    "status",
    "provider",
    "model",
    "winner",
    "error",
    "topic",
    "request_id",
    "correlation_id",
)
NUMBER_FIELDS = ("confidence", "cost", "tokens")
TIME_FIELDS = ("e2e",)
FIELDS = (*TEXT_FIELDS, *NUMBER_FIELDS, *TIME_FIELDS)

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ":": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}
_TERM = re.compile(
    r"""(?P<minus>-?)
        (?: (?P<field>[A-Za-z_][A-Za-z0-9_.\-]*) (?P<op>:~|>=|<=|:|>|<) )?
        (?: "(?P<quoted>(?:[^"\\]|\\.)*)" | (?P<bare>[^\s"]\S*) )
        (?=\s|\Z)""",
    re.VERBOSE | re.DOTALL,
)


class FilterProblem(ValueError):
    """The filter cannot be understood; the text says where and what would be right."""


@dataclass(frozen=True)
class RecordView:
    """What a filter can ask of one record; a field that the record does not have is None."""

    texts: Mapping[str, str | None]
    numbers: Mapping[str, float | None]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    read_text: Callable[[], str] = str
    """The whole record as text; asked only by a filter that searches everywhere."""


Term = Callable[[RecordView], bool]


@dataclass(frozen=True)
class Filter:
    """Terms that a record must all meet; no terms let everything through."""

    terms: tuple[Term, ...] = ()

    def matches(self, view: RecordView) -> bool:
        """Whether the record meets every term."""
        return all(term(view) for term in self.terms)


def parse_filter(text: str) -> Filter:
    """The filter that `text` says; FilterProblem where it says none."""
    return Filter(tuple(_parse_terms(text)))


def _parse_terms(text: str) -> Iterator[Term]:
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        found = _TERM.match(text, position)
        if found is None:
            raise FilterProblem(
                f"the filter cannot be read from {text[position:]!r} on; "
                'write field:value, field>number or "text"'
            )
        term = _read_term(found)
        yield _negate(term) if found["minus"] else term
        position = found.end()


def _negate(term: Term) -> Term:
    return lambda view: not term(view)


def _read_term(found: re.Match[str]) -> Term:
    quoted: str | None = found["quoted"]
    value = found["bare"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
    name, comparison = found["field"], found["op"]
    if name is None:
        if quoted is None:
            raise FilterProblem(f'{value!r} is no term; write field:value, or "{value}" to search everywhere')
        return _search_everywhere(value)
    _refuse_unknown(name)
    if comparison == ":~":
        return _match_regex(name, value)
    if name in NUMBER_FIELDS or name in TIME_FIELDS:
        return _compare(name, comparison, value)
    if comparison == ":":
        return _equal_text(name, value)
    if name.startswith(META_PREFIX):
        return _compare(name, comparison, value)
    raise FilterProblem(f"{name} is a text and has no {comparison}; write {name}:value or {name}:~regex")


def _refuse_unknown(name: str) -> None:
    if name in FIELDS or (name.startswith(META_PREFIX) and len(name) > len(META_PREFIX)):
        return
    near = get_close_matches(name.lower(), [*FIELDS, "meta.KEY"], n=3, cutoff=0.5)
    hint = f"near it are {', '.join(near)}" if near else f"there are {', '.join(FIELDS)}, meta.KEY"
    raise FilterProblem(f"{name!r} is no field of a filter; {hint}")


def _search_everywhere(value: str) -> Term:
    wanted = value.casefold()
    return lambda view: wanted in view.read_text().casefold()


def _match_regex(name: str, value: str) -> Term:
    try:
        pattern = re.compile(value, re.IGNORECASE)
    except re.error as problem:
        raise FilterProblem(f"{value!r} is no regular expression ({problem})") from None

    def term(view: RecordView) -> bool:
        found = _read_text(view, name)
        return found is not None and pattern.search(found) is not None

    return term


def _equal_text(name: str, value: str) -> Term:
    wanted = value.casefold()

    def term(view: RecordView) -> bool:
        found = _read_text(view, name)
        return found is not None and found.casefold() == wanted

    return term


def _compare(name: str, comparison: str, value: str) -> Term:
    wanted, compare = _read_wanted(name, value), _COMPARISONS[comparison]

    def term(view: RecordView) -> bool:
        found = _read_number(view, name)
        return found is not None and compare(found, wanted)

    return term


def _read_wanted(name: str, value: str) -> float:
    try:
        if name in TIME_FIELDS:
            return parse_duration(value)
        return float(value)
    except ValueError:
        shape = "a duration such as 5s" if name in TIME_FIELDS else "a number"
        raise FilterProblem(f"{name} is compared with {shape}, not with {value!r}") from None


def _read_text(view: RecordView, name: str) -> str | None:
    if name.startswith(META_PREFIX):
        found = view.metadata.get(name.removeprefix(META_PREFIX))
        if isinstance(found, bool):
            return str(found).lower()
        return None if found is None else str(found)
    if name in view.texts:
        return view.texts[name]
    number = view.numbers.get(name)
    return None if number is None else f"{number:g}"


def _read_number(view: RecordView, name: str) -> float | None:
    if not name.startswith(META_PREFIX):
        return view.numbers.get(name)
    found = view.metadata.get(name.removeprefix(META_PREFIX))
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    return float(found) if is_number else None  # type: ignore[arg-type]  # narrowed by is_number
