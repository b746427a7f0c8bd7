"""What attempts have cost, added up."""

from hypothesis import given, settings
from hypothesis import strategies as st

from service.contracts.error_codes import LLMErrorCode
from service.core.outcome import Spent, Usage

COUNTS = st.integers(0, 10**9)
USAGES = st.builds(
    Usage,
    prompt_tokens=COUNTS,
    completion_tokens=COUNTS,
    cached_tokens=COUNTS,
    reasoning_tokens=COUNTS,
    cost_usd=st.integers(0, 10**6).map(float),
)
SPENT = st.builds(
    Spent,
    usage=USAGES,
    provider_seconds=st.integers(0, 10**6).map(float),
    model=st.none() | st.text(min_size=1),
    last_code=st.none() | st.sampled_from(LLMErrorCode),
    last_message=st.none() | st.text(min_size=1),
)


def test_usage_adds_up_field_by_field() -> None:
    """Five different fields, each to its own."""
    total = Usage(1, 2, 3, 4, 5.0) + Usage(10, 20, 30, 40, 50.0)
    assert total == Usage(11, 22, 33, 44, 55.0)
    assert total.total_tokens == 33


def test_the_latest_word_counts() -> None:
    """Of model, code and message the last that is known stays; time and money add up."""
    first = Spent(Usage(1), 1.5, "one", LLMErrorCode.PROVIDER_TIMEOUT, "It took too long.")
    silent = Spent(Usage(2), 0.5)
    assert first + silent == Spent(Usage(3), 2.0, "one", LLMErrorCode.PROVIDER_TIMEOUT, "It took too long.")
    last = Spent(Usage(4), 1.0, "two", LLMErrorCode.PARSING_ERROR, "It is not JSON.")
    assert first + silent + last == Spent(Usage(7), 3.0, "two", LLMErrorCode.PARSING_ERROR, "It is not JSON.")


@settings(deadline=None, max_examples=100)
@given(first=SPENT, second=SPENT, third=SPENT)
def test_it_does_not_matter_where_the_process_was_restarted(
    first: Spent, second: Spent, third: Spent
) -> None:
    """Adding is associative with nothing as its zero: what was stored between attempts loses nothing."""
    assert (first + second) + third == first + (second + third)
    assert first + Spent() == Spent() + first == first
