"""Token estimates are what the documentation says: a quarter of the characters."""

from hypothesis import given
from hypothesis import strategies as st

from simulator.provider.tokens import estimate_prompt_tokens, estimate_text_tokens, truncate_to_tokens


def test_four_characters_are_a_token_and_a_prompt_costs_more_than_its_texts() -> None:
    """Three tokens a message and three for the reply, as the chat format has it."""
    for text, tokens in (("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("x" * 400, 100)):
        assert estimate_text_tokens(text) == tokens
    assert estimate_prompt_tokens(["abcd", "abcdefgh"]) == 3 + (3 + 1) + (3 + 2)


@given(st.text("aé ", max_size=200), st.integers(min_value=1, max_value=60))
def test_a_truncated_text_fits_and_is_as_long_as_it_can_be(text: str, limit: int) -> None:
    cut = truncate_to_tokens(text, limit)
    assert text.startswith(cut)
    assert estimate_text_tokens(cut) == min(limit, estimate_text_tokens(text))
