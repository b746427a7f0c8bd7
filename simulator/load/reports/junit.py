"""`junit.xml`: a run's verdicts as test cases, which every CI system can show.

The shape is the one that Jenkins, GitHub and GitLab read alike: one testsuite with testcases, and in them
failure or skipped (windyroad's JUnit schema).
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from simulator.load.reports.markup import show_harmful
from simulator.load.reports.verdicts import (
    RunVerdict,
    State,
    describe_threshold,
    judge_correctness,
    judge_validity,
)
from simulator.load.run_document import RunDocument, ThresholdResult

SUITE = "llmctl simulate load"
CORRECTNESS = "every accepted request has exactly one intact callback"
VALIDITY = "the load generator measured the service and not itself"


def render_junit(document: RunDocument) -> str:
    """The whole file."""
    cases = list(_make_cases(document))
    suite = Element(
        "testsuite",
        {
            "name": SUITE,
            "tests": str(len(cases)),
            "failures": str(sum(case.find("failure") is not None for case in cases)),
            "errors": "0",
            "skipped": str(sum(case.find("skipped") is not None for case in cases)),
            "time": f"{_measure_seconds(document):.3f}",
            "timestamp": document.started_at.replace(microsecond=0).isoformat(),
        },
    )
    properties = SubElement(suite, "properties")
    for name, value in (
        ("run_id", document.run_id),
        ("seed", str(document.seed)),
        ("version", document.version),
        ("exit_code", str(document.exit_code)),
        ("interrupted", str(document.interrupted).lower()),
    ):
        SubElement(properties, "property", {"name": name, "value": show_harmful(value)})
    suite.extend(cases)
    indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(suite, encoding="unicode") + "\n"


def _make_cases(document: RunDocument) -> Iterator[Element]:
    yield _make_case(CORRECTNESS, judge_correctness(document))
    for result in document.thresholds:
        yield _make_threshold_case(result)
    yield _make_case(VALIDITY, judge_validity(document))


def _make_case(name: str, verdict: RunVerdict) -> Element:
    case = _start_case(name)
    sentence = show_harmful(verdict.sentence)
    if verdict.state is State.BROKEN:
        SubElement(case, "failure", {"message": sentence, "type": verdict.word}).text = sentence
    elif verdict.state is State.OPEN:
        SubElement(case, "skipped", {"message": sentence})
    return case


def _make_threshold_case(result: ThresholdResult) -> Element:
    case = _start_case(result.threshold)
    if not result.met:
        sentence = show_harmful(describe_threshold(result))
        SubElement(case, "failure", {"message": sentence, "type": "not met"}).text = sentence
    return case


def _start_case(name: str) -> Element:
    return Element("testcase", {"classname": SUITE, "name": show_harmful(name), "time": "0"})


def _measure_seconds(document: RunDocument) -> float:
    """From the begin of the first phase to the end of the last."""
    if not document.phases:
        return 0.0
    return max(span.ends for span in document.phases) - min(span.begins for span in document.phases)
