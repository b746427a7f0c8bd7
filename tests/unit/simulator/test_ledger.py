"""The ledger's verdicts: one for each accepted request, whatever the order of the facts."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.contracts.codec import seal
from service.contracts.enums import EssayComparisonWinner, LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.contracts.errors import ErrorDetail
from service.contracts.events import EventEnvelope, LLMComparisonResultV1
from service.contracts.topics import derive_event_id
from simulator.load.ledger import Accepted, Ambiguous, Fact, Ledger, LedgerReport, Received, Rejected, Verdict

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
TOPIC = "results"


def accept(number: int, at: float = 0.0) -> Accepted:
    return Accepted(f"request-{number}", UUID(int=number), TOPIC, at)


def answer(number: int, at: float = 1.0, *, failed: bool = False, **changes: Any) -> Received:
    """The callback that belongs to `accept(number)`; `changes` go into its envelope."""
    correlation_id = UUID(int=number)
    a_wins = EssayComparisonWinner.ESSAY_A
    outcome: dict[str, Any] = {"winner": a_wins, "justification": "It is better.", "confidence": 0.9}
    if failed:
        error = ErrorDetail(
            error_code=LLMErrorCode.PROVIDER_TIMEOUT,
            message="The provider did not answer.",
            correlation_id=correlation_id,
            timestamp=NOON,
            service="llm_provider_service",
            operation="compare",
        )
        outcome = {"winner": None, "justification": None, "confidence": None, "error_detail": error}
    result = LLMComparisonResultV1(
        **outcome,
        request_id=f"request-{number}",
        correlation_id=correlation_id,
        provider=LLMProviderType.OPENAI,
        model="gpt-4o-mini",
        response_time_ms=50,
        cost_estimate=0.0,
        requested_at=NOON,
        completed_at=NOON,
    )
    fields: dict[str, Any] = {
        "event_id": derive_event_id(f"request-{number}"),
        "event_type": "llm_provider.comparison_result",
        "event_timestamp": NOON,
        "source_service": "llm_provider_service",
        "correlation_id": correlation_id,
        "data": result,
        **changes,
    }
    sealed = seal(EventEnvelope[LLMComparisonResultV1](**fields))
    return Received(TOPIC, str(correlation_id).encode(), sealed.headers, sealed.value, at)


def without_header(record: Received, *names: str) -> Received:
    return replace(record, headers=tuple(pair for pair in record.headers if pair[0] not in names))


def settle(*facts: Fact, limit: float | None = None) -> LedgerReport:
    return Ledger(late_after_seconds=limit).fold(*facts).report()


def nonzero(report: LedgerReport) -> dict[str, int]:
    return {name: count for name, count in report.totals.items() if count}


def test_a_sound_run_has_one_callback_for_each_request() -> None:
    report = settle(
        accept(1), answer(1), accept(2), answer(2, failed=True), Rejected(503, "LLM_QUEUE_FULL"),
        Rejected(502, None),
    )  # fmt: skip
    assert nonzero(report) == {"accepted": 2, "ok": 1, "failed": 1, "rejected": 2}
    assert report.rejections == {"502 -": 1, "503 LLM_QUEUE_FULL": 1}
    assert report.sound
    assert report.exit_code == 0
    # `--output json` shows these eleven, in this order.
    assert list(report.totals) == [
        "accepted", "ok", "failed", "missing", "duplicate", "late", "orphan", "wrong_topic", "wrong_key",
        "corrupt", "rejected",
    ]  # fmt: skip


def test_a_callback_before_its_202_is_as_good_as_a_later_one_and_counted_as_early() -> None:
    """Kafka can be faster than HTTP."""
    assert nonzero(settle(answer(1, at=1.0), accept(1, at=2.0), limit=5)) == {"accepted": 1, "ok": 1}
    assert settle(answer(1, at=1.0), accept(1, at=2.0), accept(2, at=1.0), answer(2, at=2.0)).early == 1


def test_a_request_in_doubt_is_cleared_up_by_its_callback() -> None:
    doubts = [Ambiguous(UUID(int=number), TOPIC) for number in (1, 2, 3)]
    facts = [*doubts, answer(1), answer(2, failed=True)]
    report, backwards = settle(*facts), settle(*reversed(facts))
    assert report == backwards
    assert (report.accepted, report.ok, report.failed, report.ambiguous) == (2, 1, 1, 1)
    assert (report.orphan, report.missing, report.early, report.sound) == (0, 0, 0, True)
    twice = settle(Ambiguous(UUID(int=1), TOPIC), answer(1), answer(1))
    assert (twice.duplicate, twice.sound) == (1, False)


def test_an_identical_copy_and_a_changed_answer_are_told_apart() -> None:
    copied = settle(accept(1), answer(1), answer(1, at=2.0))
    changed = settle(accept(1), answer(1), answer(1, failed=True))
    assert (copied.duplicate, copied.identical, copied.conflicting) == (1, 1, 0)
    assert (changed.duplicate, changed.identical, changed.conflicting) == (1, 0, 1)
    assert copied.exit_code == changed.exit_code == 5


def test_lateness_counts_from_acceptance_to_the_callback() -> None:
    """At the limit is in time, beyond it is late; a late run is still sound."""
    assert settle(accept(1, at=10.0), answer(1, at=15.0), limit=5).ok == 1
    late = settle(accept(1, at=10.0), answer(1, at=15.1), limit=5)
    assert nonzero(late) == {"accepted": 1, "late": 1}
    assert late.sound
    assert settle(accept(1), answer(1, at=1e9)).ok == 1


def test_topic_key_and_request_id_are_checked() -> None:
    assert settle(accept(1), replace(answer(1), topic="elsewhere")).wrong_topic == 1
    assert settle(accept(1), replace(answer(1), key=b"another")).wrong_key == 1
    assert settle(accept(1), replace(answer(1), key=None)).wrong_key == 1
    report = settle(answer(1), answer(1), answer(2))
    assert nonzero(report) == {"orphan": 2}
    assert report.exit_code == 5


@pytest.mark.parametrize(
    "spoil",
    [
        lambda record: replace(record, value=None),
        lambda record: replace(record, value=b"{}"),
        lambda record: replace(record, value=record.value[:-1]),
        lambda record: without_header(record, "event_id"),
        lambda record: without_header(record, "request_id"),
        lambda record: replace(record, headers=answer(2).headers),
        lambda _: answer(1, event_id=UUID(int=5)),
        lambda _: answer(1, event_type="another.event"),
        lambda _: answer(1, correlation_id=UUID(int=2)),
        lambda _: replace(answer(2), value=(answer(2).value or b"").replace(b"request-2", b"request-1")),
    ],
)
def test_a_record_that_is_not_intact_is_corrupt(spoil: Callable[[Received], Received]) -> None:
    """Invalid envelope, missing or other header, event id against the rule, correlation ids that differ."""
    report = settle(accept(1), spoil(answer(1)))
    assert nonzero(report) == {"accepted": 1, "corrupt": 1}
    assert not report.sound


def test_the_correlation_id_is_the_one_that_was_accepted() -> None:
    """An envelope that agrees with itself but not with the 202 is corrupt, and so is the reverse."""
    accepted = Accepted("request-1", UUID(int=9), TOPIC, 0.0)
    torn = answer(1, correlation_id=UUID(int=9))
    assert nonzero(settle(accepted, answer(1))) == {"accepted": 1, "corrupt": 1}
    assert nonzero(settle(accepted, torn)) == {"accepted": 1, "corrupt": 1}


def test_a_corrupt_record_that_names_no_request_stands_by_itself() -> None:
    stray = replace(answer(1), value=b"?", headers=())
    assert nonzero(settle(accept(1), stray)) == {"accepted": 1, "missing": 1, "corrupt": 1}
    foreign = replace(answer(2), value=b"?")
    assert nonzero(settle(accept(1), foreign, foreign)) == {"accepted": 1, "missing": 1, "corrupt": 1}


def test_a_repeated_202_is_one_request_and_a_shared_id_is_corrupt() -> None:
    """Resubmitting with the same key returns the same id; two requests never share one."""
    assert nonzero(settle(accept(1), accept(1, at=3.0), answer(1))) == {"accepted": 1, "ok": 1}
    other = Accepted("request-1", UUID(int=7), TOPIC, 0.0)
    assert nonzero(settle(accept(1), other, answer(1))) == {"accepted": 1, "corrupt": 1}


def test_outstanding_is_what_a_run_still_waits_for() -> None:
    ledger = Ledger()
    assert ledger.fold(accept(1), accept(2), accept(1), answer(3)).outstanding == 2
    assert ledger.fold(answer(1), answer(1), replace(answer(2), value=b"?")).outstanding == 0
    assert ledger.fold(accept(3), accept(4)).outstanding == 1


def test_a_ledger_forgets_the_bytes() -> None:
    ledger = Ledger().fold(accept(1), answer(1, metadata={"blob": "x" * 100_000}))
    assert "x" * 100 not in repr(vars(ledger))
    assert dict(ledger.verdicts()) == {"request-1": Verdict.OK}


RUN: tuple[Fact, ...] = tuple(
    fact for number in range(12) for fact in (accept(number), answer(number, failed=number % 4 == 0))
)
TROUBLE: tuple[Fact, ...] = (
    accept(20), accept(21), answer(21), answer(21, failed=True), answer(22), accept(23),
    replace(answer(23), topic="elsewhere"), accept(24), replace(answer(24), key=b""), accept(25, at=1.0),
    accept(25, at=5.0), answer(25, at=14.0), answer(25, at=15.0), accept(26), replace(answer(26), value=b""),
    accept(27), answer(27, at=99.0), Rejected(422, "LLM_INVALID_PROMPT"),
    replace(answer(28), value=b"?", headers=()),
    accept(30, at=1.0), accept(30, at=5.0), answer(30, at=14.0), replace(answer(31), value=b""),
    accept(29), answer(29), without_header(answer(29), "event_id"),
    Accepted("request-29", UUID(int=1), "x", 0.0),
)  # fmt: skip


@settings(max_examples=60)
@given(st.permutations(RUN + TROUBLE))
def test_the_order_of_the_facts_changes_nothing(facts: list[Fact]) -> None:
    report = settle(*facts, limit=10)
    assert report == settle(*RUN, *TROUBLE, limit=10)
    answered = report.ok + report.failed + report.late + report.wrong_topic + report.wrong_key
    stray_corrupt = 2
    assert report.accepted == answered + report.missing + report.duplicate + report.corrupt - stray_corrupt


@settings(max_examples=60)
@given(st.sets(st.integers(0, 11)), st.sets(st.integers(0, 11)), st.sets(st.integers(0, 11)))
def test_each_fault_is_counted_once(dropped: set[int], doubled: set[int], forgotten: set[int]) -> None:
    facts: list[Fact] = []
    for number in range(12):
        if number not in forgotten:
            facts.append(accept(number))
        copies = 0 if number in dropped else 2 if number in doubled else 1
        facts += [answer(number)] * copies
    report = settle(*facts)
    known = set(range(12)) - forgotten
    assert report.accepted == len(known)
    assert report.missing == len(known & dropped)
    assert report.duplicate == report.identical == len((known & doubled) - dropped)
    assert report.orphan == len(forgotten - dropped)
    assert report.ok == len(known - dropped - doubled)
    assert report.sound == (not (known & dropped or (known & doubled) - dropped or forgotten - dropped))


@given(st.data())
def test_one_flipped_byte_is_never_taken_for_a_second_answer(data: st.DataObject) -> None:
    record = answer(1)
    assert record.value is not None
    place = data.draw(st.integers(0, len(record.value) - 1))
    damaged = bytearray(record.value)
    damaged[place] ^= data.draw(st.integers(1, 255))
    report = settle(accept(1), replace(record, value=bytes(damaged)))
    assert report.accepted == 1
    assert report.duplicate == report.late == report.wrong_topic == 0
