"""What attempts have cost, added up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.contracts.enums import LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.core.outcome import AttemptRecord, Spent, Usage

COUNTS = st.integers(0, 10**9)
USAGES = st.builds(
    Usage,
    prompt_tokens=COUNTS,
    completion_tokens=COUNTS,
    cached_tokens=COUNTS,
    reasoning_tokens=COUNTS,
    cost_usd=st.integers(0, 10**6).map(float),
)
ATTEMPTS = st.builds(
    AttemptRecord,
    started_unix_milliseconds=st.integers(0, 10**13),
    seconds=st.integers(0, 10**4).map(float),
    provider=st.sampled_from(LLMProviderType),
    code=st.none() | st.sampled_from(LLMErrorCode),
)
SPENT = st.builds(
    Spent,
    usage=USAGES,
    provider_seconds=st.integers(0, 10**6).map(float),
    model=st.none() | st.text(min_size=1),
    last_code=st.none() | st.sampled_from(LLMErrorCode),
    last_message=st.none() | st.text(min_size=1),
    attempts=st.lists(ATTEMPTS, max_size=20).map(tuple),
)


def test_usage_adds_up_field_by_field() -> None:
    total = Usage(1, 2, 3, 4, 5.0) + Usage(10, 20, 30, 40, 50.0)
    assert total == Usage(11, 22, 33, 44, 55.0)
    assert total.total_tokens == 33


def test_latest_known_model_code_and_message_stay() -> None:
    first = Spent(Usage(1), 1.5, "one", LLMErrorCode.PROVIDER_TIMEOUT, "It took too long.")
    silent = Spent(Usage(2), 0.5)
    assert first + silent == Spent(Usage(3), 2.0, "one", LLMErrorCode.PROVIDER_TIMEOUT, "It took too long.")
    last = Spent(Usage(4), 1.0, "two", LLMErrorCode.PARSING_ERROR, "It is not JSON.")
    assert first + silent + last == Spent(Usage(7), 3.0, "two", LLMErrorCode.PARSING_ERROR, "It is not JSON.")


@pytest.mark.parametrize(
    ("calls", "kept"),
    [
        (0, []),
        (20, [*range(20)]),
        (21, [*range(10), *range(11, 21)]),
        (500, [*range(10), *range(490, 500)]),
    ],
)
def test_first_and_last_ten_attempts_are_kept(calls: int, kept: list[int]) -> None:
    spent = Spent()
    for start in range(calls):
        spent += Spent(calls=1, attempts=(AttemptRecord(start, 0.5, LLMProviderType.OPENAI),))
    assert [attempt.started_unix_milliseconds for attempt in spent.attempts] == kept
    assert spent.calls == calls


@given(first=SPENT, second=SPENT, third=SPENT)
def test_adding_is_associative(first: Spent, second: Spent, third: Spent) -> None:
    """So it does not matter at which attempt the process restarted."""
    assert (first + second) + third == first + (second + third)
    assert first + Spent() == Spent() + first == first
