"""The tables of a run as parts of the page: ledger, thresholds, latency, and what was run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from simulator.load.reports.figures import NOTHING, format_bytes, format_count, format_seconds, format_value
from simulator.load.reports.markup import Markup, element, join
from simulator.load.reports.verdicts import BREACHES, MEANINGS, WORTH_A_LOOK, State
from simulator.load.run_document import LATENCIES, Distribution, LedgerFigures, RunDocument, ThresholdResult

GLYPHS = {State.HELD: "✔", State.BROKEN: "✖", State.OPEN: "–"}  # noqa: RUF001
"""State is said by a glyph and a word, never by colour alone."""

_PERCENTILES = (("p50", "p50"), ("p90", "p90"), ("p99", "p99"), ("p99.9", "p999"), ("max", "max"))
_CORRECTED = "_corrected"


def mark_state(state: State) -> Markup:
    """The glyph of a state."""
    return element("span", GLYPHS[state], class_="glyph", aria_hidden="true")


def draw_ledger(ledger: LedgerFigures) -> Markup:
    """Every total with what it means; what must not be is marked and names examples."""
    extra = [name for name in ledger.totals if name not in MEANINGS]
    rows = [_draw_total(ledger, name) for name in (*MEANINGS, *extra) if name in ledger.totals]
    return element(
        "div",
        element(
            "table",
            element("thead", _draw_head("", "requests", "")),
            element("tbody", *rows),
        ),
        class_="card scroll",
    )


def draw_thresholds(results: tuple[ThresholdResult, ...]) -> Markup:
    """Each threshold, what it came to, and whether that will do."""
    if not results:
        return element("p", "The run was asked to keep no threshold.", class_="card soft")
    rows = [
        element(
            "tr",
            element("td", element("code", result.threshold)),
            element("td", _write_value(result), class_="number count"),
            element("td", mark_state(_state_of(result)), " ", _word(result), class_="word"),
            class_=_state_of(result).value,
        )
        for result in results
    ]
    head = element("thead", _draw_head("threshold", "came to", ""))
    return element("div", element("table", head, element("tbody", *rows)), class_="card scroll")


def draw_latency(latency: Mapping[str, Distribution]) -> Markup:
    """Percentiles downwards, latencies sideways; what is corrected stands beside what is not."""
    names = [name for name in LATENCIES if name in latency]
    if not names:
        return element("p", "Nothing was timed.", class_="card soft")
    top = [element("th", "")]
    below = [element("th", "", scope="col")]
    for name in names:
        if not name.endswith(_CORRECTED):
            width = 2 if name + _CORRECTED in names else 1
            words = name.replace("_", " ")
            top.append(element("th", words, colspan=width, class_="number span", scope="colgroup"))
        corrected = name.endswith(_CORRECTED)
        words = "corrected" if corrected else _explain(name)
        below.append(element("th", words, scope="col", class_=_cell_class(name)))
    rows = [
        _draw_latency_row(label, names, [format_seconds(getattr(latency[name], key)) for name in names])
        for label, key in (*_PERCENTILES, ("mean", "mean"))
    ]
    rows.append(_draw_latency_row("count", names, [format_count(latency[name].count) for name in names]))
    table = element(
        "table",
        element("thead", element("tr", *top), element("tr", *below)),
        element("tbody", *rows),
        class_="latency",
    )
    return element("div", table, class_="card scroll")


def draw_settings(document: RunDocument) -> Markup:
    """All that was asked for, and where it was run."""
    return element(
        "dl",
        *(join(element("dt", name), element("dd", words)) for name, words in _list_settings(document)),
        class_="settings card",
    )


def write_setting(value: Any) -> str:
    """A value of the configuration in plain words."""
    match value:
        case None:
            return NOTHING
        case bool():
            return "yes" if value else "no"
        case str() | int():
            return str(value)
        case float():
            return f"{value:g}"
        case list() | tuple() if value and all(isinstance(each, str | int | float) for each in value):
            return "\n".join(write_setting(each) for each in value)
        case list() | tuple() | dict() if not value:
            return "none"
        case _:
            return json.dumps(value, ensure_ascii=False, default=str)


def _draw_head(*titles: str) -> Markup:
    first, number, *others = titles
    cells = [
        element("th", first),
        element("th", number, class_="number"),
        *(element("th", each) for each in others),
    ]
    return element("tr", *cells)


def _draw_total(ledger: LedgerFigures, name: str) -> Markup:
    count = ledger.totals[name]
    state, look = _judge_total(name, count, ledger.totals.get("accepted", 0))
    glyph = mark_state(state) if look is None else element("span", look, class_="glyph", aria_hidden="true")
    details = [MEANINGS.get(name, "")]
    if name == "rejected":
        details.extend(f"{code}: {format_count(rejected)}" for code, rejected in ledger.rejections.items())
    known = ledger.examples.get(name, ())
    ids = element("span", *_list_ids(known, count), class_="ids id") if known and count else ""
    lines = [element("span", details[0]), *(element("span", each, class_="ids") for each in details[1:])]
    return element(
        "tr",
        element("th", glyph, " ", name.replace("_", " "), scope="row", class_="word"),
        element("td", format_count(count), class_="number count"),
        element("td", *lines, ids),
        class_=f"{state.value}{'' if count else ' zero'}",
    )


def _judge_total(name: str, count: int, accepted: int) -> tuple[State, str | None]:
    """A total's state, and another glyph than the state's where there is one."""
    if name in BREACHES and count:
        return State.BROKEN, None
    if name in BREACHES and accepted:
        return State.HELD, None
    if name in WORTH_A_LOOK and count:
        return State.OPEN, "!"
    return State.OPEN, " "


def _list_ids(known: tuple[str, ...], count: int) -> Iterator[str]:
    for number, each in enumerate(known):
        if number:
            yield element("br")
        yield each
    if count > len(known):
        yield element("br")
        yield f"… and {count - len(known):,} more"


def _draw_latency_row(label: str, names: list[str], words: list[str]) -> Markup:
    cells = [element("td", text, class_=_cell_class(name)) for name, text in zip(names, words, strict=True)]
    return element("tr", element("th", label, scope="row"), *cells)


def _cell_class(name: str) -> str:
    return "number corrected" if name.endswith(_CORRECTED) else "number"


def _explain(name: str) -> str:
    """From when to when, in as few words as fit above a column."""
    return {
        "lateness": "intended → sent",
        "accept": "sent → 202",
        "queue_wait": "202 → attempt",
        "provider": "all calls",
        "publish": "known → Kafka",
        "delivery": "Kafka → read",
        "e2e": "202 → read",
    }[name]


def _list_settings(document: RunDocument) -> Iterator[tuple[str, str]]:
    host = document.host
    memory = "" if host.memory_bytes is None else f", {format_bytes(host.memory_bytes)} of memory"
    yield "run", document.run_id
    yield "started", document.started_at.isoformat(sep=" ", timespec="seconds")
    yield "seed", str(document.seed)
    yield "llmctl", document.version
    yield "host", f"{host.platform}, Python {host.python}, {format_count(host.cores)} cores{memory}"
    for name, value in document.configuration.items():
        yield name.replace("_", " "), write_setting(value)


def _state_of(result: ThresholdResult) -> State:
    return State.HELD if result.met else State.BROKEN


def _word(result: ThresholdResult) -> str:
    if result.value is None:
        return "not measured"
    return "met" if result.met else "not met"


def _write_value(result: ThresholdResult) -> str:
    return NOTHING if result.value is None else format_value(result.value, result.unit)
