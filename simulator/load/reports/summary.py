"""`summary.md`: the run in one screen of Markdown, for the summary of a CI job."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from simulator.load.reports.figures import (
    NOTHING,
    count_things,
    format_count,
    format_rate,
    format_seconds,
    format_share,
    format_value,
)
from simulator.load.reports.markup import show_harmful
from simulator.load.reports.verdicts import (
    BREACHES,
    MEANINGS,
    State,
    find_active,
    find_remarks,
    judge_run,
    word_headline,
)
from simulator.load.run_document import LATENCIES, RunDocument

_GLYPHS = {State.HELD: "✅", State.BROKEN: "❌", State.OPEN: "⚪"}
_LONGEST_TEXT = 300
_PUNCTUATION = re.compile(r"([\\`*\[\]<>|~&$]|(?<!\w)_|_(?!\w)|:(?=//)|(?<=www)\.|@(?=\w))")
"""What GitHub's Markdown could read as more than text; a backslash makes it plain (CommonMark 0.31, 2.4)."""


def render_summary(document: RunDocument) -> str:
    """The whole file."""
    parts = (
        _write_head(document),
        _write_ledger(document),
        _write_thresholds(document),
        _write_latency(document),
        _write_remarks(document),
    )
    return "\n\n".join("\n".join(lines) for part in parts if (lines := list(part))) + "\n"


def escape_markdown(text: str) -> str:
    """Foreign text as plain text in one line; what is very long is cut."""
    line = " ".join(show_harmful(text).split())
    if len(line) > _LONGEST_TEXT:
        line = line[: _LONGEST_TEXT - 1] + "…"
    return _PUNCTUATION.sub(r"\\\1", line)


def _write_head(document: RunDocument) -> Iterator[str]:
    state, words = word_headline(document)
    yield f"## {_GLYPHS[state]} {words}: load run {escape_markdown(document.run_id)}"
    yield ""
    for verdict in judge_run(document):
        title = f"**{verdict.title}: {escape_markdown(verdict.word)}.**"
        yield f"- {_GLYPHS[verdict.state]} {title} {escape_markdown(verdict.sentence)}"
    yield ""
    yield " · ".join(_list_facts(document))


def _list_facts(document: RunDocument) -> Iterator[str]:
    yield f"Exit code {document.exit_code}"
    for name in ("shape", "scenario"):
        value = document.configuration.get(name)
        if value:
            yield f"{name} {escape_markdown(str(value))}"
    active = find_active(document)
    if active is not None:
        yield f"{format_seconds(active.ends - active.begins)} active"
    yield f"{format_rate(document.achieved_per_second)} of {format_rate(document.offered_per_second)}"
    yield f"goodput {format_share(document.goodput)}"
    yield f"error rate {format_share(document.error_rate)}"
    yield f"seed {document.seed}"


def _write_ledger(document: RunDocument) -> Iterator[str]:
    totals = document.ledger.totals
    yield "### Ledger"
    yield ""
    shown = [name for name in MEANINGS if name in totals and (totals[name] or name in _ALWAYS)]
    extra = [name for name in totals if name not in MEANINGS and totals[name]]
    yield from _write_table(
        ("", "requests", "examples"), (_make_ledger_row(document, name) for name in [*shown, *extra])
    )


def _make_ledger_row(document: RunDocument, name: str) -> tuple[str, ...]:
    count = document.ledger.totals[name]
    words = escape_markdown(name.replace("_", " "))
    bad = name in BREACHES and count
    examples = ", ".join(escape_markdown(each) for each in document.ledger.examples.get(name, ())[:3])
    return (f"❌ **{words}**" if bad else words, format_count(count), examples if bad else "")


def _write_thresholds(document: RunDocument) -> Iterator[str]:
    if not document.thresholds:
        return
    yield "### Thresholds"
    yield ""
    yield from _write_table(
        ("threshold", "came to", ""),
        (
            (
                escape_markdown(result.threshold),
                NOTHING if result.value is None else escape_markdown(format_value(result.value, result.unit)),
                "✅ met" if result.met else "❌ not met",
            )
            for result in document.thresholds
        ),
    )


def _write_latency(document: RunDocument) -> Iterator[str]:
    found = [(name, document.latency[name]) for name in LATENCIES if name in document.latency]
    if not found:
        return
    yield "### Latency"
    yield ""
    yield from _write_table(
        ("", "p50", "p90", "p99", "p99.9", "max"),
        (
            (
                name.removesuffix("_corrected").replace("_", " ")
                + (", corrected" if name.endswith("_corrected") else ""),
                *(format_seconds(value) for value in (each.p50, each.p90, each.p99, each.p999, each.max)),
            )
            for name, each in found
        ),
    )


def _write_remarks(document: RunDocument) -> Iterator[str]:
    remarks = find_remarks(document)
    if not remarks:
        return
    yield f"### {count_things(len(remarks), 'thing')} to look at"
    yield ""
    for remark in remarks:
        yield f"- {escape_markdown(remark)}"


_ALWAYS = ("accepted", "ok", "missing", "duplicate")
"""Totals that are worth a row even at 0."""


def _write_table(titles: Sequence[str], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    """The first column to the left, figures to the right; cells are escaped already."""
    yield f"| {' | '.join(titles)} |"
    yield f"|{'|'.join(':--' if not number or not title else '--:' for number, title in enumerate(titles))}|"
    for row in rows:
        yield f"| {' | '.join(row)} |"
