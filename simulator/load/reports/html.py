"""`report.html`: a run on one page that needs no network, no script and no other file."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Sequence
from hashlib import sha256

from simulator.load.reports import percentiles, sections, timelines
from simulator.load.reports.charts import Chart, draw_chart, take_readings
from simulator.load.reports.figures import (
    format_bytes,
    format_count,
    format_moment,
    format_rate,
    format_seconds,
    format_share,
)
from simulator.load.reports.markup import Markup, element, join, verbatim
from simulator.load.reports.style import SCRIPT, STYLE
from simulator.load.reports.verdicts import find_remarks, judge_run, word_headline
from simulator.load.run_document import RunDocument, Span

_LEAST_NAMED_SHARE = 0.09
_FIRST_SETTINGS = ("shape", "rate", "duration", "scenario")


def render_page(document: RunDocument) -> str:
    """The whole page."""
    timeline = timelines.make_timeline(document)
    over_time = [] if timeline is None else _draw_timelines(timeline)
    needed = (
        [] if timeline is None else _drop_none(timelines.draw_cpu(timeline), timelines.draw_memory(timeline))
    )
    curves = percentiles.draw_percentiles(document)
    readings = take_readings([*over_time, *needed, *curves])
    body = element(
        "body",
        _draw_hatch(),
        _draw_header(document),
        element(
            "main",
            _draw_tables(document),
            _draw_time(document, timeline, over_time),
            _draw_curves(curves),
            _draw_service(needed),
            element("h2", "What was run"),
            sections.draw_settings(document),
        ),
        element(
            "footer",
            f"Made by llmctl {document.version} from run.json, which holds every figure of this page.",
        ),
        verbatim("script", encode_readings(readings), type="application/json", id="readings"),
        verbatim("script", SCRIPT),
    )
    return "<!DOCTYPE html>\n" + element("html", _draw_head(document), body, lang="en") + "\n"


def encode_readings(readings: object) -> str:
    """JSON without any character that could end the element it stands in."""
    text = json.dumps(readings, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _draw_head(document: RunDocument) -> Markup:
    """Nothing may be loaded, sent or run but the style and the script that stand in the page."""
    policy = (
        f"default-src 'none'; style-src '{_hash(STYLE)}'; script-src '{_hash(SCRIPT)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return element(
        "head",
        element("meta", charset="utf-8"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}"/>'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{word_headline(document)[1]} · load run {document.run_id}"),
        verbatim("style", STYLE),
    )


def _draw_header(document: RunDocument) -> Markup:
    state, words = word_headline(document)
    configuration = document.configuration
    asked = [
        sections.write_setting(configuration[name]) for name in _FIRST_SETTINGS if configuration.get(name)
    ]
    started = document.started_at.strftime("%Y-%m-%d %H:%M:%S %Z").strip()
    facts = [*asked, f"seed {document.seed}", started, f"llmctl {document.version}", document.host.platform]
    cards = [
        element(
            "li",
            element(
                "h2",
                sections.mark_state(verdict.state),
                " ",
                f"{verdict.title}: ",
                element("span", verdict.word, class_="word"),
            ),
            element("p", verdict.sentence),
            class_=verdict.state.value,
        )
        for verdict in judge_run(document)
    ]
    return element(
        "header",
        element("p", "llmctl simulate load · run ", element("code", document.run_id), class_="eyebrow"),
        element("h1", sections.mark_state(state), " ", words, class_=state.value),
        element(
            "p", element("b", f"Exit code {document.exit_code}"), " · ", " · ".join(facts), class_="facts"
        ),
        element("ul", *cards, class_="verdicts"),
        _draw_figures(document),
    )


def _draw_figures(document: RunDocument) -> Markup:
    """The figures that are asked for first; those that nobody could measure are left out."""
    service, latency = document.service, document.latency
    corrected = latency.get("e2e_corrected")
    shown = (
        ("offered", format_rate(document.offered_per_second)),
        ("achieved", format_rate(document.achieved_per_second)),
        ("goodput", format_share(document.goodput)),
        ("error rate", format_share(document.error_rate)),
        ("e2e p99, corrected", None if corrected is None else format_seconds(corrected.p99)),
        ("peak queue", _known(service.peak_queue_depth, format_count)),
        ("peak outbox", _known(service.peak_outbox_depth, format_count)),
        ("time to drain", _known(service.drain_seconds, format_seconds)),
        ("CPU per request", _known(service.cpu_seconds_per_request, format_seconds)),
        ("peak memory", _known(service.peak_memory_bytes, format_bytes)),
    )
    tiles = [
        element("div", element("dt", name), element("dd", words))
        for name, words in shown
        if words is not None
    ]
    return element("dl", *tiles, class_="figures")


def _draw_remarks(document: RunDocument) -> Markup:
    remarks = find_remarks(document)
    if not remarks:
        return Markup("")
    glyph = element("span", "➜", class_="glyph", aria_hidden="true")
    entries = [element("li", glyph, remark) for remark in remarks]
    return join(element("h2", "What to look at"), element("ul", *entries, class_="remarks card"))


def _draw_tables(document: RunDocument) -> Markup:
    words = "corrected: counted from the intended time, so that no wait is left out"
    return join(
        element(
            "div",
            element("section", element("h2", "Ledger"), sections.draw_ledger(document.ledger)),
            element(
                "section",
                element("h2", "Thresholds"),
                sections.draw_thresholds(document.thresholds),
                _draw_remarks(document),
            ),
            class_="pair",
        ),
        element("h2", "Latency ", element("small", words)),
        sections.draw_latency(document.latency),
    )


def _draw_time(document: RunDocument, timeline: timelines.Timeline | None, charts: Sequence[Chart]) -> Markup:
    phases = " · ".join(_word_phase(span) for span in document.phases)
    heading = element("h2", "Time lines ", element("small", phases))
    if timeline is None:
        return join(
            heading, element("p", "There is no second to draw: nothing was sent.", class_="card soft")
        )
    faults = [
        element("li", element("b", str(number)), timelines.describe_fault(mark))
        for number, mark in timelines.number_faults(document)
    ]
    return join(
        heading,
        element("ul", *faults, class_="marks") if faults else "",
        _draw_phases(document, timeline),
        element("div", *(draw_chart(chart) for chart in charts), class_="charts"),
    )


def _draw_phases(document: RunDocument, timeline: timelines.Timeline) -> Markup:
    """A strip above the charts, on their axis; a phase too short for its name has it as a title only."""
    drawn = []
    for span in timelines.find_visible(document.phases, timeline.scale):
        left, right = timeline.scale.place(span.begins), timeline.scale.place(span.ends)
        title = element("title", _word_phase(span))
        box = element("rect", width="100%", height="100%")
        fits = right - left > _LEAST_NAMED_SHARE
        name = element("text", span.name, x="6", y="14", class_="first") if fits else ""
        place = {"x": f"{left:.3%}", "width": f"{right - left:.3%}", "height": "100%"}
        drawn.append(element("svg", title, box, name, **place))
    return element("svg", *drawn, class_="phases") if drawn else Markup("")


def _word_phase(span: Span) -> str:
    return f"{span.name} {format_moment(round(span.ends - span.begins, 1))}"


def _draw_curves(charts: Sequence[Chart]) -> Markup:
    if not charts:
        return Markup("")
    drawn = (draw_chart(chart) for chart in charts)
    return join(element("h2", "Percentiles"), element("div", *drawn, class_="charts two"))


def _draw_service(charts: Sequence[Chart]) -> Markup:
    heading = element("h2", "The service")
    if not charts:
        words = "Its CPU and memory could not be measured: it did not run on this machine, or not at all."
        return join(heading, element("p", words, class_="card soft"))
    return join(heading, element("div", *(draw_chart(chart) for chart in charts), class_="charts two"))


def _draw_timelines(timeline: timelines.Timeline) -> list[Chart]:
    return _drop_none(
        timelines.draw_rate(timeline), timelines.draw_depth(timeline), timelines.draw_latency(timeline)
    )


def _draw_hatch() -> Markup:
    """The pattern of what is shaded as a fault; it must be in the page before anything uses it."""
    stroke = element("line", x1="0", y1="0", x2="0", y2="6", class_="hatch")
    pattern = element(
        "pattern",
        stroke,
        id="hatch",
        width="6",
        height="6",
        patternUnits="userSpaceOnUse",
        patternTransform="rotate(45)",
    )
    return element("svg", element("defs", pattern), class_="offstage", aria_hidden="true")


def _drop_none(*charts: Chart | None) -> list[Chart]:
    return [chart for chart in charts if chart is not None]


def _known(value: float | None, write: Callable[[float | None], str]) -> str | None:
    return None if value is None else write(value)


def _hash(text: str) -> str:
    """How a content security policy names the text of an element."""
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
