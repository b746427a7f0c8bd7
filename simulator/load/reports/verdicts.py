"""What a run proved, in words: its three verdicts, and what deserves a look. Every report says the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from simulator.load.reports.figures import (
    count_things,
    format_count,
    format_moment,
    format_rate,
    format_seconds,
    format_share,
    format_value,
    list_words,
)
from simulator.load.run_document import FaultMark, RunDocument, Slice, Span, ThresholdResult

BREACHES = {
    "missing": "were never called back",
    "duplicate": "were called back more than once",
    "wrong_topic": "were called back on another topic",
    "wrong_key": "were called back under another key",
    "corrupt": "got a callback that is not intact",
    "orphan": "were called back without having been accepted",
}
"""The ledger's totals that must be 0 in a sound run, and what happened to such requests."""

MEANINGS = {
    "accepted": "answered 202",
    "ok": "exactly one callback, with a winner",
    "failed": "exactly one callback, with an error",
    "missing": "no callback",
    "duplicate": "more than one callback",
    "late": "called back after the limit",
    "orphan": "called back, never accepted",
    "wrong_topic": "called back on a topic that was not asked for",
    "wrong_key": "the record's key is not the correlation id",
    "corrupt": "no valid callback, or one with wrong ids",
    "rejected": "answered anything but 202",
    "ambiguous": "no answer to the submission, so nobody knows",
    "early": "called back before the 202 was read",
    "unreachable": "never sent, for there was no connection",
    "skipped": "never sent, for too many were open already",
}
"""The ledger's totals, in the order in which they are read."""

WORTH_A_LOOK = {
    "failed": "were answered with an error",
    "late": "were called back after the limit",
    "rejected": "were rejected",
    "ambiguous": "got no answer when submitted and may have been accepted or not",
    "unreachable": "were never sent, because the service took no connection",
    "skipped": "were never sent, because too many were open already",
}
"""Totals above 0 that leave a run sound and yet say something, and what happened to such requests."""

EXIT_WORDS = {
    0: "Everything held",
    1: "The run failed",
    3: "Service, broker or provider were out of reach",
    4: "A threshold was not met",
    5: "Callbacks were lost, duplicated or wrong",
    6: "The load generator itself was the bottleneck",
    130: "Interrupted; this is what was seen until then",
}

_PARTED_FACTOR = 1.5
_PARTED_SECONDS = 0.01
"""Corrected and uncorrected p99 have parted company where they differ by both."""
_LONG_DRAIN_SECONDS = 10.0
_SHORT_OF_RATE = 0.98
"""What is achieved of the offered rate in a valid run (the study's rule, after k6 and inference-perf)."""


class State(StrEnum):
    """How a question about the run was answered."""

    HELD = "held"
    BROKEN = "broken"
    OPEN = "open"
    """Nothing was there to judge."""


@dataclass(frozen=True)
class RunVerdict:
    """One of the three questions that are asked of every run."""

    title: str
    state: State
    word: str
    """The state as this question has it, such as `valid`."""
    sentence: str


def word_headline(document: RunDocument) -> tuple[State, str]:
    """The whole run in one state and a few words."""
    if document.exit_code == 0 and document.ledger.totals.get("accepted", 0) == 0:
        return State.OPEN, "Nothing was proved: no request was accepted"
    words = EXIT_WORDS.get(document.exit_code, f"The run ended with exit code {document.exit_code}")
    return (State.HELD if document.exit_code == 0 else State.BROKEN), words


def judge_run(document: RunDocument) -> tuple[RunVerdict, RunVerdict, RunVerdict]:
    """Correctness, thresholds, and whether the measurement is valid: three separate verdicts."""
    return judge_correctness(document), judge_thresholds(document), judge_validity(document)


def judge_correctness(document: RunDocument) -> RunVerdict:
    """Whether every accepted request had exactly one intact callback."""
    title, ledger = "Callbacks", document.ledger
    accepted = ledger.totals.get("accepted", 0)
    if not ledger.sound:
        broken = " ".join(describe_breaches(document)) or "The ledger does not add up."
        return RunVerdict(title, State.BROKEN, "wrong", broken)
    if accepted == 0:
        return RunVerdict(title, State.OPEN, "nothing to judge", "No request was accepted.")
    early = " so far" if document.interrupted else ""
    each = "The accepted request" if accepted == 1 else f"Each of {accepted:,} accepted requests"
    return RunVerdict(title, State.HELD, "correct", f"{each} has exactly one intact callback{early}.")


def judge_thresholds(document: RunDocument) -> RunVerdict:
    """Whether every threshold was met."""
    title, results = "Thresholds", document.thresholds
    missed = [result for result in results if not result.met]
    if not results:
        return RunVerdict(title, State.OPEN, "none given", "The run was asked to keep no threshold.")
    if missed:
        sentence = " ".join(describe_threshold(result) for result in missed)
        return RunVerdict(title, State.BROKEN, f"{len(missed)} of {len(results)} not met", sentence)
    every = "The threshold was met." if len(results) == 1 else f"All {len(results)} thresholds were met."
    return RunVerdict(title, State.HELD, "met", every)


def judge_validity(document: RunDocument) -> RunVerdict:
    """Whether the generator measured the service and not itself."""
    title, validity = "Measurement", document.validity
    if not validity.valid:
        reasons = " ".join(validity.reasons) or "The load generator was the bottleneck."
        return RunVerdict(title, State.BROKEN, "not valid", reasons)
    lateness = document.latency.get("lateness")
    if lateness is None:
        return RunVerdict(title, State.HELD, "valid", "Nothing speaks against it.")
    sentence = f"Requests left on time: lateness p99 is {format_seconds(lateness.p99)}."
    return RunVerdict(title, State.HELD, "valid", sentence)


def describe_breaches(document: RunDocument) -> Iterator[str]:
    """A sentence for each total that must be 0 and is not, with the ids that are known."""
    for name, words in BREACHES.items():
        count = document.ledger.totals.get(name, 0)
        if count:
            ids = document.ledger.examples.get(name, ())
            yield f"{_say(count, words)}{': ' + list_words(ids) if ids else ''}."


def describe_threshold(result: ThresholdResult) -> str:
    """What a threshold came to, in a sentence."""
    if result.value is None:
        return f"{result.threshold} could not be judged: nothing was measured."
    return f"{result.threshold} came to {format_value(result.value, result.unit)}."


def find_remarks(document: RunDocument) -> tuple[str, ...]:
    """What deserves a look beyond the verdicts, the gravest first; empty for a run without any."""
    return (
        *_remark_on_ledger(document),
        *_remark_on_coordinated_omission(document),
        *_remark_on_pace(document),
        *_remark_on_faults(document),
        *_remark_on_worst_second(document),
    )


def find_active(document: RunDocument) -> Span | None:
    """The phase that is measured; None where the run never came so far."""
    return next((span for span in document.phases if span.name == "active"), None)


def _remark_on_ledger(document: RunDocument) -> Iterator[str]:
    totals = document.ledger.totals
    for name, words in WORTH_A_LOOK.items():
        count = totals.get(name, 0)
        if count:
            detail = ""
            if name == "rejected":
                codes = [f"{count:,} with {code}" for code, count in document.ledger.rejections.items()]
                detail = f": {list_words(codes)}" if codes else ""
            yield f"{_say(count, words)}{detail}."


def _remark_on_coordinated_omission(document: RunDocument) -> Iterator[str]:
    for name in ("accept", "e2e"):
        plain, corrected = document.latency.get(name), document.latency.get(f"{name}_corrected")
        if plain is None or corrected is None:
            continue
        if corrected.p99 > max(plain.p99 * _PARTED_FACTOR, plain.p99 + _PARTED_SECONDS):
            yield (
                f"The {name} p99 is {format_seconds(plain.p99)}, but {format_seconds(corrected.p99)} counted "
                f"from the intended time: requests had to wait before they could be sent."
            )


def _remark_on_pace(document: RunDocument) -> Iterator[str]:
    offered, achieved = document.offered_per_second, document.achieved_per_second
    if achieved < offered * _SHORT_OF_RATE:
        share = format_share(achieved / offered)
        yield f"{format_rate(achieved)} of {format_rate(offered)} was achieved, {share}."
    drain = document.service.drain_seconds
    if drain is not None and drain > _LONG_DRAIN_SECONDS:
        peak = document.service.peak_queue_depth
        depth = "" if peak is None else f"; the queue was {format_count(peak)} deep at its peak"
        yield f"It took {format_seconds(drain)} after the last send until everything was answered{depth}."


def _remark_on_faults(document: RunDocument) -> Iterator[str]:
    for fault in document.faults:
        if fault.problem is not None:
            yield f"The fault {fault.fault} was not injected: {fault.problem}"


def _remark_on_worst_second(document: RunDocument) -> Iterator[str]:
    timed = [each for each in document.slices if each.e2e_corrected_p99 is not None]
    median = document.latency.get("e2e_corrected")
    if not timed or median is None:
        return
    worst = max(timed, key=_read_corrected_p99)
    if _read_corrected_p99(worst) < max(3 * median.p50, 1.0):
        return
    faults = [mark.fault for mark in document.faults if _was_under_way(mark, worst.at)]
    when = f", while or just after: {list_words(faults)}" if faults else ""
    slowest = format_seconds(_read_corrected_p99(worst))
    yield f"The slowest second began at {format_moment(worst.at)}: its corrected e2e p99 is {slowest}{when}."


def _say(count: int, words: str) -> str:
    """So many requests and what happened to them; `words` begin with their verb in the plural."""
    said = words.replace("were ", "was ", 1) if count == 1 else words
    return f"{count_things(count, 'request')} {said}"


def _read_corrected_p99(each: Slice) -> float:
    return each.e2e_corrected_p99 or 0.0


def _was_under_way(mark: FaultMark, at: float, *, aftermath_seconds: float = 5.0) -> bool:
    """Whether a fault was on in the second from `at`, or had ended shortly before."""
    ends = mark.begins if mark.ends is None else mark.ends
    return mark.problem is None and mark.begins - 1 < at <= ends + aftermath_seconds
