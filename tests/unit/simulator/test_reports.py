"""The reports of a run: true, whole, safe against foreign text, and readable without a network."""

from __future__ import annotations

import json
import math
import re
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from simulator.load.histogram import Histogram
from simulator.load.reports import figures, scales, timelines
from simulator.load.reports.folder import ReportError, format_run, read_run, write_report
from simulator.load.reports.html import encode_readings, render_page
from simulator.load.reports.junit import CORRECTNESS, VALIDITY, render_junit
from simulator.load.reports.markup import element, show_harmful, verbatim
from simulator.load.reports.percentiles import read_curve
from simulator.load.reports.sections import write_setting
from simulator.load.reports.style import SCRIPT, STYLE
from simulator.load.reports.summary import escape_markdown, render_summary
from simulator.load.reports.verdicts import State, find_remarks, judge_run, word_headline
from simulator.load.run_document import (
    LATENCIES,
    FaultMark,
    LedgerFigures,
    RunDocument,
    Slice,
    Span,
    ThresholdResult,
    Validity,
)
from tests.unit.simulator.run_examples import (
    FIXTURE,
    Recipe,
    make_bad_run,
    make_empty_run,
    make_fixture,
    make_good_run,
    make_run,
    name_request,
)

HOSTILE = (
    "</script></title><img src=http://evil.example onerror=\"alert('x')\">"
    "`|*[a](javascript:b)]]>&amp;\x1b[31m\u202e\x00"
)
EXAMPLES = [make_good_run, make_bad_run, make_empty_run, make_fixture]
each_example = pytest.mark.parametrize("make", EXAMPLES)
NOTHING_ACCEPTED = LedgerFigures(totals={"accepted": 0}, sound=True, examples={}, rejections={})
FILES = {"run.json", "report.html", "summary.md", "junit.xml"}


def parse_page(page: str) -> Element:
    """The page's tree; it is well-formed XML, so that what a parser sees is all there is."""
    return ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>\n"))


def read_text(found: Element | None) -> str:
    assert found is not None
    return " ".join(" ".join(found.itertext()).split())


def poison(value: Any) -> Any:
    """The same value with every string in it hostile, whether it is a field, a name or an element."""
    match value:
        case str():
            return HOSTILE
        case BaseModel():
            return value.model_copy(
                update={name: poison(getattr(value, name)) for name in type(value).model_fields}
            )
        case dict():
            return {
                **{key: poison(each) for key, each in value.items()},
                HOSTILE: poison(next(iter(value.values()), 1)),
            }
        case tuple() | list():
            return type(value)(poison(each) for each in value)
        case _:
            return value


def poison_run(document: RunDocument) -> RunDocument:
    """A run in which all foreign text is hostile; the names of latencies are our own."""
    named = {name: document.latency[name] for name in document.latency}
    spans = (Span(name="active", begins=0.0, ends=600.0), *poison(document.phases))
    return poison(document).model_copy(
        update={"latency": named, "phases": spans, "schema_version": 1, "validity": poison(document.validity)}
    )


def find_rows(page: Element, name: str) -> list[Element]:
    """The rows of the ledger or thresholds whose first cell ends with a name."""
    return [row for row in page.iter("tr") if read_text(row[0]).endswith(name)]


def find_chart(page: Element, name: str) -> Element:
    return next(each for each in page.iter("figure") if each.get("data-chart") == name)


@each_example
def test_what_is_written_is_read_back(make: Callable[[], RunDocument], tmp_path: Path) -> None:
    write_report(tmp_path / "new" / "folder", make())
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == FILES
    assert read_run(tmp_path / "new" / "folder") == make()
    assert read_run(tmp_path / "new" / "folder" / "run.json") == make()


def test_an_earlier_report_is_replaced_never_written_over_and_other_files_stay(tmp_path: Path) -> None:
    (tmp_path / "requests.jsonl.gz").write_bytes(b"requests")
    write_report(tmp_path, make_bad_run())
    with (tmp_path / "run.json").open() as earlier:
        beginning = earlier.read(1000)
        write_report(tmp_path, make_good_run())
        assert beginning + earlier.read() == format_run(make_bad_run())
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"requests.jsonl.gz"}
    assert (tmp_path / "requests.jsonl.gz").read_bytes() == b"requests"
    assert (tmp_path / "report.html").read_text() == render_page(make_good_run())
    assert (tmp_path / "summary.md").read_text() == render_summary(make_good_run())
    assert (tmp_path / "junit.xml").read_text() == render_junit(make_good_run())


def test_a_report_that_cannot_be_finished_leaves_the_earlier_one_whole(tmp_path: Path) -> None:
    """All files are written beside their places before the first one is renamed."""
    write_report(tmp_path, make_good_run())
    (tmp_path / ".junit.xml.part").mkdir()
    with pytest.raises(ReportError, match=r"^The report cannot be written to .*: Is a directory\.$"):
        write_report(tmp_path, make_bad_run())
    assert read_run(tmp_path) == make_good_run()
    assert (tmp_path / "report.html").read_text() == render_page(make_good_run())
    assert {path.name for path in tmp_path.iterdir()} == FILES | {".junit.xml.part"}


def test_a_report_that_cannot_be_written_or_read_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()
    with pytest.raises(ReportError, match=r"run\.json cannot be read: Is a directory\.$"):
        read_run(tmp_path)
    (tmp_path / "out").write_text("")
    with pytest.raises(ReportError, match=r"^The report cannot be written to .*out: File exists\.$"):
        write_report(tmp_path / "out", make_good_run())
    with pytest.raises(ReportError, match=r"^The run load-0007 cannot be written as JSON: .* inf, which"):
        write_report(tmp_path, make_run(configuration={"late_after": math.inf}))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"There is no .*run\.json; name a folder"),
        (b"{", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        (b'{"schema_version": 1, "seed": NaN}', "is no JSON"),
        (b'{"schema_version": 1, "goodput": 1e999}', "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"[]", "is no run: it has no schema_version"),
        (b"{}", "is no run: it has no schema_version"),
        (b'{"schema_version": 2}', "has schema version 2, and this llmctl reads only 1"),
        (b'{"schema_version": true}', "has schema version True"),
        (b'{"schema_version": 1}', "is no whole run: run_id: Field required"),
    ],
)
def test_what_is_no_run_is_one_sentence(content: bytes | None, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ReportError, match=sentence) as refused:
        read_run(tmp_path)
    assert str(file) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert str(refused.value).endswith(".")


def test_run_json_reads_line_by_line() -> None:
    document = make_fixture()
    lines = format_run(document).splitlines()
    assert sum(line.lstrip().startswith('{"at": ') for line in lines) == len(document.slices)
    shuffled = dict(reversed(document.configuration.items()))
    assert format_run(document.model_copy(update={"configuration": shuffled})) == format_run(document)
    assert lines[1] == '  "schema_version": 1,'


def test_the_run_in_the_fixtures_can_still_be_read() -> None:
    """Schema version 1 stays readable, and the file is what its function makes."""
    assert read_run(FIXTURE.parent) == make_fixture()
    assert FIXTURE.read_text() == format_run(make_fixture())


@each_example
def test_the_page_needs_nothing_from_anywhere(make: Callable[[], RunDocument]) -> None:
    """No reference leaves it, and its policy lets only its own style and script work."""
    text = render_page(make())
    page = parse_page(text)
    attributes = [(name, value) for each in page.iter() for name, value in each.attrib.items()]
    names = {name for name, _ in attributes}
    assert not names & {"src", "href", "srcset", "data", "style", "action"}
    assert not [name for name in names if name.startswith("on")]
    assert {value for _, value in attributes if "url(" in value} <= {"url(#hatch)"}
    assert not re.search("https?:", text)
    assert not re.search(r"url\(|@import", STYLE)
    policy = next(each.attrib["content"] for each in page.iter("meta") if "http-equiv" in each.attrib)
    for kind, words in (("style", STYLE), ("script", SCRIPT)):
        allowed = f"{kind}-src 'sha256-{b64encode(sha256(words.encode()).digest()).decode()}'"
        assert allowed in policy
        assert words in [each.text for each in page.iter(kind)]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy


@each_example
def test_no_foreign_text_becomes_markup(make: Callable[[], RunDocument]) -> None:
    """Hostile strings in every field of the document add no element, and can be read as they are."""
    poisoned = parse_page(render_page(poison_run(make())))
    ours = {each.tag for other in EXAMPLES for each in parse_page(render_page(other())).iter()}
    assert {each.tag for each in poisoned.iter()} <= ours
    assert len(list(poisoned.iter("script"))) == 2
    assert not list(poisoned.iter("img"))
    assert not [name for each in poisoned.iter() for name in each.attrib if name.startswith("on")]
    text = "".join(poisoned.itertext())
    assert show_harmful(HOSTILE) in text
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", text)


@each_example
def test_no_foreign_text_becomes_markdown_or_xml(make: Callable[[], RunDocument]) -> None:
    poisoned = poison_run(make())
    summary = render_summary(poisoned)
    assert not re.search(r"(?<!\\)[<\[`]", summary)
    assert "http\\://" in summary
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", summary)
    tables = [line for line in summary.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} <= {4, 7}
    suite = ElementTree.fromstring(render_junit(poisoned))
    assert {each.tag for each in suite.iter()} <= {
        "testsuite", "properties", "property", "testcase", "failure", "skipped",
    }  # fmt: skip


@given(st.text())
def test_any_text_survives_in_a_page(text: str) -> None:
    found = ElementTree.fromstring(element("p", text, title=text))
    assert (found.text or "").replace("\r", "\n") == show_harmful(text)
    assert len(found) == 0
    assert found.get("title") == show_harmful(text).replace("\n", " ").replace("\t", " ")


@given(st.text())
def test_any_text_is_one_plain_line_of_markdown(text: str) -> None:
    escaped = escape_markdown(text)
    assert len(escaped.splitlines()) <= 1
    assert not re.search(r"(?<!\\)(?:\\\\)*[<|`\[]", escaped)


def test_nothing_ends_the_script_element_early() -> None:
    """JSON in a page has none of the characters that a parser of pages would act on."""
    encoded = encode_readings([HOSTILE])
    assert not set("<>&") & set(encoded)
    assert json.loads(encoded) == [HOSTILE]
    with pytest.raises(ValueError, match="script element must hold neither"):
        verbatim("script", "a</script>")


@pytest.mark.parametrize(
    ("make", "state", "words", "verdicts"),
    [
        (make_good_run, State.HELD, "Everything held", ["correct", "met", "valid"]),
        (make_bad_run, State.BROKEN, "Callbacks were lost", ["wrong", "3 of 4 not met", "valid"]),
        (make_empty_run, State.BROKEN, "Interrupted", ["nothing to judge", "1 of 1 not met", "valid"]),
    ],
)
def test_the_page_opens_with_the_verdicts(
    make: Callable[[], RunDocument], state: State, words: str, verdicts: list[str]
) -> None:
    document = make()
    header = parse_page(render_page(document)).find("body/header")
    assert header is not None
    headline = header.find("h1")
    assert headline is not None
    assert headline.get("class") == state.value
    assert words in read_text(headline)
    assert read_text(headline)[0] in "✔✖"
    assert f"Exit code {document.exit_code}" in read_text(header)
    cards = header.findall("ul/li")
    assert [read_text(card.find("h2/span[@class='word']")) for card in cards] == verdicts
    assert [card.get("class") for card in cards] == [verdict.state.value for verdict in judge_run(document)]
    assert all(read_text(card)[0] in "✔✖–" for card in cards)  # noqa: RUF001 - the dash of an open question


@pytest.mark.parametrize("name", ["missing", "duplicate", "orphan", "wrong_topic", "wrong_key", "corrupt"])
def test_every_breach_makes_the_callbacks_wrong(name: str) -> None:
    """Each by itself, with a sentence of its own; an unsound ledger without any is wrong all the same."""
    ledger = make_good_run().ledger
    breached = ledger.model_copy(update={"totals": {**ledger.totals, name: 1}, "sound": False})
    verdict = judge_run(make_run(ledger=breached))[0]
    assert (verdict.state, verdict.word) == (State.BROKEN, "wrong")
    assert verdict.sentence.startswith("1 request ")
    unsound = judge_run(make_run(ledger=ledger.model_copy(update={"sound": False})))[0]
    assert (unsound.state, unsound.sentence) == (State.BROKEN, "The ledger does not add up.")


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({"exit_code": 4}, State.BROKEN, "A threshold was not met"),
        ({"exit_code": 6}, State.BROKEN, "The load generator itself was the bottleneck"),
        ({"exit_code": 99}, State.BROKEN, "exit code 99"),
        ({"ledger": NOTHING_ACCEPTED}, State.OPEN, "Nothing was proved: no request was accepted"),
    ],
)
def test_the_headline_follows_the_exit_code(changes: dict[str, Any], state: State, words: str) -> None:
    found, headline = word_headline(make_run(**changes))
    assert found is state
    assert words in headline


def test_an_invalid_measurement_gives_its_reasons() -> None:
    validity = Validity(valid=False, reasons=("Sends were late.", "The loop stood still."))
    verdict = judge_run(make_run(validity=validity))[2]
    assert (verdict.state, verdict.word) == (State.BROKEN, "not valid")
    assert verdict.sentence == "Sends were late. The loop stood still."


def test_bad_rows_of_the_ledger_are_marked_and_name_examples() -> None:
    """What must be 0 and is not stands out by glyph, class and ids; what is 0 does not."""
    document = make_bad_run()
    page = parse_page(render_page(document))
    names = ("missing", "duplicate", "orphan", "late")
    missing, duplicate, orphan, late = (find_rows(page, name)[0] for name in names)
    assert missing.get("class") == duplicate.get("class") == "broken"
    assert read_text(missing).startswith("✖ missing 4")
    assert all(each in read_text(missing) for each in document.ledger.examples["missing"])
    assert name_request(77) in read_text(duplicate)
    assert orphan.get("class") == "held zero"
    assert read_text(orphan).startswith("✔ orphan 0")
    assert read_text(late).startswith("! late 3")
    assert "and 231 more" in read_text(find_rows(page, "failed")[0])
    assert "503 LLM_QUEUE_FULL: 120" in read_text(find_rows(page, "rejected")[0])


def test_every_total_has_its_row() -> None:
    ledger = make_good_run().ledger
    totals = {**ledger.totals, "brand_new": 3}
    page = parse_page(render_page(make_run(ledger=ledger.model_copy(update={"totals": totals}))))
    for name, count in totals.items():
        assert f"{count:,}" in read_text(find_rows(page, name.replace("_", " "))[0])


def test_the_latency_table_has_every_percentile_of_every_latency() -> None:
    """Corrected figures stand directly beside the uncorrected ones."""
    document = make_bad_run()
    table = parse_page(render_page(document)).find(".//table[@class='latency']")
    assert table is not None
    rows = {read_text(row[0]): [read_text(cell) for cell in row[1:]] for row in table.findall("tbody/tr")}
    for label, field in (("p50", "p50"), ("p90", "p90"), ("p99", "p99"), ("p99.9", "p999"), ("max", "max")):
        expected = [figures.format_seconds(getattr(document.latency[name], field)) for name in LATENCIES]
        assert rows[label] == expected
    titles = [read_text(each) for each in table.findall("thead/tr")[1]]
    corrected = [number for number, name in enumerate(LATENCIES, start=1) if name.endswith("_corrected")]
    assert [number for number, title in enumerate(titles) if title == "corrected"] == corrected


def test_thresholds_say_what_they_came_to() -> None:
    results = (
        ThresholdResult(threshold="e2e:p99 < 2s", met=True, value=1.5, unit="s"),
        ThresholdResult(threshold="goodput > 99%", met=False, value=0.5, unit="%"),
        ThresholdResult(threshold="rate.accepted > 5/s", met=False, value=None, unit="/s"),
    )
    page = parse_page(render_page(make_run(thresholds=results)))
    rows = [read_text(find_rows(page, each.threshold)[0]) for each in results]
    assert rows == [
        "e2e:p99 < 2s 1.5s ✔ met",
        "goodput > 99% 50% ✖ not met",
        "rate.accepted > 5/s – ✖ not measured",  # noqa: RUF001 - stands where there is no figure
    ]


def test_faults_are_shaded_and_numbered_in_every_time_line() -> None:
    """One with a length is an area, one at an instant a line; one that was not injected is only named."""
    page = parse_page(render_page(make_bad_run()))
    for name in ("rate", "depth", "latency", "cpu", "memory"):
        area = find_chart(page, name).find(".//svg[@class='area']")
        assert area is not None
        assert len(area.findall(".//rect[@class='fault']")) == 1
        assert len(area.findall(".//line[@class='instant']")) == 1
        assert [each.text for each in area.findall(".//text[@class='badge-number']")] == ["1", "2"]
    marks = [read_text(each) for each in page.findall(".//ul[@class='marks']")]
    assert marks == ["1 broker down 30s at 120s, 2m to 2m30s 2 service kill at 400s, at 6m40s"]
    assert "The fault provider outage 10s at 500s was not injected: It did not answer." in read_text(page)
    # The axis does not reach a fault before the first second; the list above the charts still has it.
    early = FaultMark(fault="provider slow", begins=-60.0, ends=-50.0)
    page = parse_page(render_page(make_run(faults=(early,))))
    assert not find_chart(page, "rate").findall(".//rect[@class='fault']")
    assert "provider slow" in read_text(page)


def test_charts_are_told_to_those_who_do_not_see_them() -> None:
    page = parse_page(render_page(make_good_run()))
    for figure in page.iter("figure"):
        area = next(each for each in figure.iter("svg") if each.get("class") == "area")
        assert area.get("role") == "img"
        for entry in figure.iter("li"):
            assert read_text(entry.find("output")) in area.attrib["aria-label"]


def test_the_script_has_a_word_for_every_line_at_every_place() -> None:
    """The script reads out what is drawn."""
    document = make_bad_run()
    page = parse_page(render_page(document))
    readings = json.loads(page.findtext(".//script[@id='readings']", ""))
    shown = {each.attrib["data-chart"]: each for each in page.iter("figure")}
    assert set(readings["charts"]) == set(shown)
    for name, lines in readings["charts"].items():
        group = readings["groups"][shown[name].attrib["data-group"]]
        assert len(lines) == len(list(shown[name].iter("output")))
        assert {len(words) for words in lines} == {len(group["x"])} == {len(group["at"])}
        assert group["x"] == sorted(group["x"])
    peak = max(document.slices, key=lambda each: each.called_back)
    place = readings["groups"]["time"]["at"].index(f"at {figures.format_moment(peak.at)}")
    assert readings["charts"]["rate"][2][place] == f"{peak.called_back:,}/s"


def test_without_figures_of_the_service_its_charts_are_left_out() -> None:
    silent = tuple(
        Slice(at=each.at, intended=each.intended, accepted=each.accepted) for each in make_good_run().slices
    )
    page = parse_page(render_page(make_run(slices=silent, latency={})))
    assert [each.get("data-chart") for each in page.iter("figure")] == ["rate"]
    assert "could not be measured" in read_text(page)


def test_a_peak_after_an_outage_does_not_flatten_the_rest() -> None:
    timeline = timelines.make_timeline(make_bad_run())
    assert timeline is not None
    chart = timelines.draw_rate(timeline)
    peak = max(each.called_back for each in make_bad_run().slices)
    assert [words for _, words in chart.beyond] == [f"to {peak:,}/s"]
    assert chart.y.high < peak
    assert chart.lines[2].summary == f"peak {peak:,}/s"
    calm = timelines.make_timeline(make_good_run())
    assert calm is not None
    assert timelines.draw_rate(calm).beyond == ()


def test_a_gap_in_the_figures_is_a_gap_in_the_line() -> None:
    """Nothing is drawn while the service did not answer; a single figure is a dot."""
    depths = [3, None, 5, None, None, 2, 4]
    slices = tuple(Slice(at=float(at), in_flight=depth) for at, depth in enumerate(depths))
    page = parse_page(render_page(make_run(slices=slices)))
    path = next(each for each in find_chart(page, "depth").iter("path"))
    assert re.sub(r"[\d. ]+", "", path.attrib["d"]) == "MhMhMhL"


def test_a_stall_parts_corrected_from_uncorrected_and_is_remarked() -> None:
    document = make_run(Recipe(seconds=30, stall=(10.0, 13.0)))
    assert re.search("The accept p99 is .*from the intended time", "\n".join(find_remarks(document)))
    assert not any("intended time" in remark for remark in find_remarks(make_good_run()))


def test_a_wait_that_is_short_beside_the_latency_is_not_remarked() -> None:
    """Twenty milliseconds matter to an acceptance of two, not to an answer of two seconds."""
    latency = make_good_run().latency
    later = {
        name: latency[name].model_copy(update={"p99": latency[name.removesuffix("_corrected")].p99 + 0.02})
        for name in ("accept_corrected", "e2e_corrected")
    }
    remarks = find_remarks(make_run(latency={**latency, **later}))
    assert [each.split(" p99 ")[0] for each in remarks if "intended time" in each] == ["The accept"]


def test_the_slowest_second_names_the_fault_behind_it() -> None:
    (remark,) = [each for each in find_remarks(make_bad_run()) if "slowest second" in each]
    assert "broker down 30s at 120s" in remark
    assert "service kill" not in remark


def test_requests_that_were_not_answered_well_are_remarked() -> None:
    ledger = LedgerFigures(
        totals={"accepted": 9, "failed": 1, "late": 2, "rejected": 3, "missing": 1, "orphan": 2},
        sound=False,
        examples={"missing": ("a",)},
        rejections={"503 LLM_QUEUE_FULL": 3},
    )
    document = make_run(ledger=ledger)
    assert find_remarks(document)[:3] == (
        "1 request was answered with an error.",
        "2 requests were called back after the limit.",
        "3 requests were rejected: 3 with 503 LLM_QUEUE_FULL.",
    )
    assert judge_run(document)[0].sentence == (
        "1 request was never called back: a. 2 requests were called back without having been accepted."
    )


def test_a_rate_not_reached_and_a_long_drain_are_remarked() -> None:
    service = make_good_run().service.model_copy(update={"drain_seconds": 42.0, "peak_queue_depth": 1200})
    remarks = find_remarks(make_run(achieved_per_second=30.0, service=service))
    assert "30/s of 40/s was achieved, 75%." in remarks
    assert re.search("It took 42s after the last send.*1,200 deep", "\n".join(remarks))


def test_the_summary_is_short_and_says_the_same() -> None:
    document = make_bad_run()
    summary = render_summary(document)
    lines = summary.splitlines()
    assert len(lines) < 60
    assert lines[0] == "## ❌ Callbacks were lost, duplicated or wrong: load run load-0007"
    assert [line for line in lines if line.startswith("###")] == [
        "### Ledger", "### Thresholds", "### Latency", "### 6 things to look at",
    ]  # fmt: skip
    (missing,) = [line for line in lines if line.startswith("| ❌ **missing**")]
    assert all(each in missing for each in document.ledger.examples["missing"][:3])
    assert "| publish:p99 \\< 100ms | 24.4s | ❌ not met |" in lines
    (corrected,) = [line for line in lines if line.startswith("| e2e, corrected |")]
    assert figures.format_seconds(document.latency["e2e_corrected"].p99) in corrected


def test_an_empty_run_has_no_empty_tables_and_ticks_nothing_off() -> None:
    assert "### Latency" not in render_summary(make_empty_run())
    assert "### Thresholds" not in render_summary(make_run(thresholds=()))
    page = parse_page(render_page(make_empty_run()))
    assert read_text(find_rows(page, "missing")[0]).startswith("missing 0")


def test_junit_has_a_case_for_each_verdict_and_each_threshold() -> None:
    suite = ElementTree.fromstring(render_junit(make_bad_run()).encode())
    cases = {case.attrib["name"]: case for case in suite.findall("testcase")}
    thresholds = [each.threshold for each in make_bad_run().thresholds]
    assert list(cases) == [CORRECTNESS, *thresholds, VALIDITY]
    failed = {name: case.find("failure") for name, case in cases.items() if case.find("failure") is not None}
    assert list(failed) == [CORRECTNESS, *thresholds[:3]]
    assert failed["publish:p99 < 100ms"].text == "publish:p99 < 100ms came to 24.4s."  # type: ignore[union-attr]
    assert name_request(77) in failed[CORRECTNESS].attrib["message"]  # type: ignore[union-attr]
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "6", "failures": "4", "errors": "0", "skipped": "0"}
    assert float(suite.attrib["time"]) == pytest.approx(611.9, abs=0.1)


def test_junit_skips_what_could_not_be_judged() -> None:
    suite = ElementTree.fromstring(render_junit(make_empty_run()).encode())
    skipped = suite.find("testcase/skipped")
    assert skipped is not None
    assert skipped.get("message") == "No request was accepted."
    assert suite.get("skipped") == "1"


seconds = st.floats(min_value=1e-6, max_value=100_000)


@given(st.lists(seconds, min_size=1))
def test_a_latency_axis_holds_all_values_between_known_ticks(values: list[float]) -> None:
    scale = scales.choose_latency_scale(values)
    assert scale.low <= min(values) * 1.0001
    assert scale.high >= max(values)
    check_ticks(scale, most=12)


@given(st.lists(st.floats(min_value=0, max_value=1e9), min_size=1), st.sampled_from([1.0, 2.0**20]))
def test_a_linear_axis_begins_at_nothing_and_ends_above_all(values: list[float], base: float) -> None:
    scale = scales.choose_linear_scale(values, figures.format_count, base=base)
    assert scale.low == 0
    assert scale.high >= max(values) * (1 - 1e-9)
    check_ticks(scale, most=5)


@given(st.floats(min_value=-600, max_value=600), st.floats(min_value=1, max_value=10_000_000))
def test_a_time_axis_has_few_ticks_at_round_moments(begins: float, length: float) -> None:
    check_ticks(scales.choose_time_scale(begins, begins + length), most=7)


def check_ticks(scale: scales.Scale, most: int) -> None:
    places = [tick.place for tick in scale.ticks]
    assert places == sorted(set(places))
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)
    assert len(places) <= most
    assert len({tick.label for tick in scale.ticks}) == len(places)
    middle = (scale.low + scale.high) / 2
    assert scale.place(scale.low) == pytest.approx(0)
    assert scale.place(scale.high) == pytest.approx(1)
    assert 0 < scale.place(middle) < 1


@pytest.mark.parametrize(
    ("scale", "labels"),
    [
        (scales.choose_time_scale(-5.0, 612.0), ["0s", "2m", "4m", "6m", "8m", "10m"]),
        (scales.choose_time_scale(0, 90), ["0s", "15s", "30s", "45s", "1m", "1m15s", "1m30s"]),
        (scales.choose_percentile_scale(10_000), ["0", "50", "90", "99", "99.9", "99.99"]),
    ],
)
def test_ticks_are_labelled_as_a_person_would_choose(scale: scales.Scale, labels: list[str]) -> None:
    assert [tick.label for tick in scale.ticks] == labels


def test_a_percentile_axis_gives_each_nine_the_same_room() -> None:
    """Up to what the count can tell."""
    scale = scales.choose_percentile_scale(10_000)
    assert [round(tick.place, 6) for tick in scale.ticks[2:]] == [0.25, 0.5, 0.75, 1.0]
    assert scales.choose_percentile_scale(5).high == 2
    assert scales.choose_percentile_scale(10**9).high == 5


@given(
    st.lists(st.one_of(st.none(), st.floats(min_value=0, max_value=1e6)), min_size=1, max_size=200),
    st.integers(min_value=1, max_value=50),
)
def test_thinning_keeps_every_spike(values: list[float | None], most: int) -> None:
    columns = timelines.cut_columns(len(values), most)
    assert len(columns) == min(len(values), most)
    assert [place for first, end in columns for place in range(first, end)] == list(range(len(values)))
    assert all(end > first for first, end in columns)
    thinned = timelines.thin(values, columns, max)
    for (first, end), value in zip(columns, thinned, strict=True):
        known = [each for each in values[first:end] if each is not None]
        assert value == (max(known) if known else None)


def test_a_long_run_is_drawn_in_columns_with_greatest_and_least() -> None:
    """Four hours give no larger page than 25 minutes, and the one spike is still there."""
    slices = tuple(
        Slice(at=float(at), intended=10, accepted=10, e2e_p99=90.0 if at == 7777 else 0.5)
        for at in range(14_400)
    )
    run = make_run(slices=slices)
    timeline = timelines.make_timeline(run)
    assert timeline is not None
    chart = timelines.draw_latency(timeline)
    assert chart is not None
    (line,) = [each for each in chart.lines if each.name == "e2e p99"]
    assert len(chart.places) == len(line.values) == timelines.MOST_COLUMNS
    assert max(value or 0 for value in line.values) == 90.0
    assert set(line.least) == {0.5}
    text = render_page(run)
    assert len(text) < 2_000_000
    paths = find_chart(parse_page(text), "latency").iter("path")
    assert any("band" in each.attrib["class"] for each in paths)


@given(
    st.lists(seconds, min_size=1, max_size=300), st.lists(st.floats(min_value=0, max_value=5), max_size=20)
)
def test_a_percentile_curve_reads_like_the_histogram(values: list[float], depths: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    ordered = sorted(depths)
    curve = read_curve(histogram.to_distribution(), ordered)
    for depth, value in zip(ordered, curve, strict=True):
        beyond = len(values) * 10**-depth
        assert beyond < 1 + 1e-6 if value is None else beyond > 1 - 1e-6
        if value is None:
            continue
        if abs(beyond - round(beyond)) > 1e-4:
            assert value == histogram.percentile(1 - 10**-depth)


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (figures.format_seconds, {0.0: "0", 0.000012: "12µs", 0.0009999: "1ms", 0.05812: "58.1ms"}),
        (figures.format_seconds, {0.9996: "1s", 1.2345: "1.23s", 59.999: "1m00s", -0.25: "-250ms"}),
        (figures.format_seconds, {None: figures.NOTHING, math.inf: figures.NOTHING}),
        (figures.format_moment, {60: "1m", 90: "1m30s", 7200: "2h", -5: "-5s"}),
        (figures.format_count, {12000: "12,000", 0.25: "0.25"}),
        (figures.format_share, {1.0: "100%", 0.99999: ">99.99%", 0.00001: "<0.01%", 0.9312: "93.12%"}),
        (figures.format_bytes, {101 * 2**20: "101MiB", 3 * 2**40: "3072GiB"}),
        (figures.format_percent, {0.125: "+12.5%", -0.0001: "0.0%", 19.0: "×20"}),  # noqa: RUF001
    ],
)
def test_figures_read_well(write: Callable[[Any], str], expected: dict[Any, str]) -> None:
    assert {value: write(value) for value in expected} == expected


def test_values_and_settings_read_well() -> None:
    values = [(0.98, "%"), (3.0, ""), (None, "/s")]
    assert [figures.format_value(*value) for value in values] == ["98%", "3", figures.NOTHING]
    assert figures.list_words(["a", "b", "c"], most=2) == "a, b and 1 more"
    settings = [None, [], ["a", 1], {"a": [1]}]
    assert [write_setting(each) for each in settings] == [figures.NOTHING, "none", "a\n1", '{"a": [1]}']
