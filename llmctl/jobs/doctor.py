"""`doctor`: examines everything that a deployment takes, shows it, and ends by what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from itertools import groupby

from rich.table import Table
from rich.text import Text

from llmctl.doctor.brokers import judge_brokers
from llmctl.doctor.checks import Check, Report, Unknown, Verdict
from llmctl.doctor.configuration import find_places, judge_configuration, read_configuration
from llmctl.doctor.consumers import judge_consumers
from llmctl.doctor.examination import DoctorPlan, Facts, examine
from llmctl.doctor.providers import judge_providers
from llmctl.doctor.queue import judge_queue
from llmctl.doctor.round_trip import RoundTrip, judge_round_trip
from llmctl.doctor.service import judge_service
from llmctl.doctor.topics import judge_queue_topics, judge_topics, judge_usage_topic
from llmctl.exits import ExitCode, Failed, Unreachable
from llmctl.render.progress import progress_line
from llmctl.render.tables import BAD, DIM, GOOD, cell
from llmctl.render.terminal import Terminal
from llmctl.settings import Setting

WIDEST_NAME = 24
SHORT_SUBJECT = 12
"""A longer one stands in the heading, not before each name."""
NAMED_AT_MOST = 3
_MARKS = {
    Verdict.PASS: ("✓", GOOD),
    Verdict.WARN: ("!", "yellow"),
    Verdict.FAIL: ("✗", BAD),
    Verdict.SKIP: ("–", DIM),  # noqa: RUF001
}


async def examine_and_report(plan: DoctorPlan, spoken: Mapping[str, Setting], terminal: Terminal) -> None:
    """Examines and reports; Failed where a check failed, Unreachable where nobody answers at all."""
    configuration = read_configuration(spoken)
    places = find_places(configuration)
    with progress_line(terminal, counted=False) as progress:
        progress.begin("examining, and waiting for a callback" if plan.round_trip else "examining")
        facts = await examine(plan, configuration, places)
    report = Report(judge(plan, facts), plan.strict, _is_out_of_reach(facts))
    if terminal.as_json:
        terminal.write(report.describe())
    else:
        _show(report.checks, terminal)
        _summarize(report, terminal)
    _end(report)


def judge(plan: DoctorPlan, facts: Facts) -> list[Check]:
    """Every check, in the order of what rests on what."""
    return [
        *judge_configuration(facts.configuration, facts.places),
        *judge_service(facts.service, version("llmctl")),
        *judge_queue(facts.service),
        *judge_providers(facts.service, facts.keys),
        *judge_brokers(facts.kafka),
        *judge_queue_topics(facts.queue_topics),
        *judge_usage_topic(facts.kafka, facts.service.figures),
        *judge_topics(facts.kafka, plan.topics),
        *judge_consumers(facts.kafka, plan.topics, plan.max_lag),
        *judge_round_trip(facts.trip, _find_timestamp_type(facts)),
    ]


def _find_timestamp_type(facts: Facts) -> str | None:
    if not isinstance(facts.trip, RoundTrip) or isinstance(facts.kafka.cluster, Unknown):
        return None
    topic = facts.kafka.cluster.topics.get(facts.trip.topic)
    return None if topic is None else (topic.settings or {}).get("message.timestamp.type")


def _is_out_of_reach(facts: Facts) -> bool:
    return all(
        isinstance(found, Unknown) and found.out_of_reach
        for found in (facts.service.readiness, facts.kafka.cluster)
    )


def _show(checks: Sequence[Check], terminal: Terminal) -> None:
    lines = _merge(checks)
    widest = min(WIDEST_NAME, max(len(name) for _, name, check in lines if check.verdict is not Verdict.SKIP))
    for heading, found in groupby(lines, lambda line: line[0]):
        terminal.show(cell(heading, "bold", wrap=True))
        table = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column(width=3, justify="right")
        table.add_column(width=widest)
        table.add_column(ratio=1)
        for _, name, check in found:
            table.add_row(*_render(name, check))
        terminal.show(table)


def _merge(checks: Sequence[Check]) -> list[tuple[str, str, Check]]:
    """Heading, name and check of each line; what was left out for the same reason shares one."""
    lines: list[tuple[str, str, Check]] = []
    for check in checks:
        subject = check.subject or ""
        inline = len(subject) <= SHORT_SUBJECT
        heading = check.group if inline else f"{check.group} {subject}"
        name = f"{subject} {check.name}".strip() if inline else check.name
        if lines and check.verdict is Verdict.SKIP:
            heading_before, name_before, before = lines[-1]
            if (heading_before, before) == (heading, replace(check, name=before.name)):
                lines[-1] = heading, f"{name_before}, {name}", before
                continue
        lines.append((heading, name, check))
    return lines


def _render(name: str, check: Check) -> tuple[Text, Text, Text]:
    symbol, style = _MARKS[check.verdict]
    dim = DIM if check.verdict is Verdict.SKIP else ""
    seen = cell(check.seen, dim, wrap=True)
    if check.advice:
        seen = Text.assemble(seen, ("\n→ ", style), cell(check.advice, wrap=True), overflow="fold")
    return Text(symbol, style), cell(name, dim, wrap=True), seen


def _summarize(report: Report, terminal: Terminal) -> None:
    counts = [
        f"{len(report.find(verdict))} {word}"
        for verdict, word in (
            (Verdict.PASS, "passed"),
            (Verdict.WARN, "to look at"),
            (Verdict.FAIL, "failed"),
            (Verdict.SKIP, "left out"),
        )
        if report.find(verdict)
    ]
    style = {Verdict.PASS: GOOD, Verdict.WARN: "yellow", Verdict.FAIL: BAD}[report.verdict]
    terminal.say(" · ".join(counts), style)


def _end(report: Report) -> None:
    if report.exit_code is ExitCode.DONE:
        return
    if report.exit_code is ExitCode.UNREACHABLE:
        raise Unreachable(
            "Neither the service nor a Kafka broker answers; start them, or say where they are."
        )
    failed = report.find(Verdict.FAIL) or report.find(Verdict.WARN)
    what = "failed" if report.find(Verdict.FAIL) else "gave a warning, which --strict takes for a failure"
    names = ", ".join(check.title for check in failed[:NAMED_AT_MOST])
    more = f" and {len(failed) - NAMED_AT_MOST} more" if len(failed) > NAMED_AT_MOST else ""
    raise Failed(f"{len(failed)} of {len(report.checks)} checks {what}: {names}{more}.")
