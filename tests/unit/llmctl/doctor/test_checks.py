"""The verdict of all checks together, and the words in them."""

import pytest

from llmctl.doctor.checks import Report, Section, Verdict
from llmctl.doctor.words import say_bytes, say_count, say_milliseconds, split_advice
from llmctl.exits import ExitCode

SECTION = Section("topics", "results")
PASSED = SECTION.passed("exists", "3 partitions")
WARNED = SECTION.warned("copies", "1 copy", "Make more.")
FAILED = SECTION.failed("settings", "wrong", "Mend them.")
LEFT_OUT = SECTION.left_out("readers", "not told")


@pytest.mark.parametrize(
    ("checks", "strict", "verdict", "code"),
    [
        ([PASSED, LEFT_OUT], False, Verdict.PASS, ExitCode.DONE),
        ([PASSED, LEFT_OUT], True, Verdict.PASS, ExitCode.DONE),
        ([PASSED, WARNED], False, Verdict.WARN, ExitCode.DONE),
        ([PASSED, WARNED], True, Verdict.WARN, ExitCode.FAILED),
        ([WARNED, FAILED, PASSED], False, Verdict.FAIL, ExitCode.FAILED),
    ],
)
def test_the_worst_check_counts(checks: list, strict: bool, verdict: Verdict, code: ExitCode) -> None:  # type: ignore[type-arg]
    """A warning fails only in strict mode; a skipped check never does."""
    report = Report(checks, strict)
    assert (report.verdict, report.exit_code) == (verdict, code)


def test_nobody_there_is_more_than_a_failed_check() -> None:
    assert Report([FAILED], out_of_reach=True).exit_code is ExitCode.UNREACHABLE


def test_a_check_is_told_as_json_with_all_that_it_says() -> None:
    assert WARNED.describe() == {
        "group": "topics",
        "subject": "results",
        "name": "copies",
        "verdict": "warn",
        "seen": "1 copy",
        "advice": "Make more.",
    }
    assert WARNED.title == "topics results copies"
    assert Report([WARNED]).describe() == {"checks": [WARNED.describe()], "verdict": "warn", "exit_code": 0}


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**26, "64 MiB"), (2**40, "1.0 TiB")],
)
def test_sizes_are_said_shortly(count: int, said: str) -> None:
    assert say_bytes(count) == said


@pytest.mark.parametrize(
    ("milliseconds", "said"),
    [(604_800_000, "7 days"), (86_400_000, "24 h"), (5_400_000, "90 min"), (20_000, "20 s")],
)
def test_spans_are_said_shortly(milliseconds: int, said: str) -> None:
    assert say_milliseconds(milliseconds) == said


def test_counts_have_their_plural() -> None:
    assert (say_count(1, "topic"), say_count(1200, "topic")) == ("1 topic", "1,200 topics")


@pytest.mark.parametrize(
    ("sentence", "parts"),
    [
        ("No broker answers; start one.", ("No broker answers", "Start one.")),
        ("There is no x; did you mean y?", ("There is no x", "Did you mean y?")),
        ("It broke.", ("It broke", "Look.")),
    ],
)
def test_a_sentence_is_split_into_what_is_wrong_and_what_to_do(sentence: str, parts: tuple[str, str]) -> None:
    assert split_advice(sentence, "Look.") == parts
