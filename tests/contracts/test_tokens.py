"""Tokens without a tokenizer."""

import pytest

from service.contracts.requests import LLMComparisonRequest, LLMConfigOverrides
from service.contracts.tokens import (
    EXPECTED_ANSWER_TOKENS,
    SYSTEM_PROMPT_TOKENS,
    TokenEstimate,
    estimate_request,
    estimate_tokens,
)
from service.core.prompt import SYSTEM_PROMPT


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("é" * 8, 2), ("日本語", 3), ("한국어", 3),
        ("日本語 abc", 4), ("𠮷", 1), ("\ud800", 1),
    ],
)  # fmt: skip
def test_estimate(text: str, tokens: int) -> None:
    """A quarter of the characters, rounded up, but each Chinese, Japanese or Korean one in full."""
    assert estimate_tokens(text) == tokens


def test_the_instructions_are_counted_as_they_are() -> None:
    assert estimate_tokens(SYSTEM_PROMPT) == SYSTEM_PROMPT_TOKENS


@pytest.mark.parametrize(
    ("overrides", "instructions", "answer"),
    [
        (None, SYSTEM_PROMPT_TOKENS, EXPECTED_ANSWER_TOKENS),
        (LLMConfigOverrides(), SYSTEM_PROMPT_TOKENS, EXPECTED_ANSWER_TOKENS),
        (LLMConfigOverrides(system_prompt_override="x" * 40, max_tokens_override=50), 10, 50),
        (LLMConfigOverrides(max_tokens_override=5000), SYSTEM_PROMPT_TOKENS, EXPECTED_ANSWER_TOKENS),
    ],
)
def test_a_request_takes_all_its_texts_and_an_answer(
    overrides: LLMConfigOverrides | None, instructions: int, answer: int
) -> None:
    """A limit on the answer counts only if it is lower than the expected length."""
    request = LLMComparisonRequest(
        user_prompt="p" * 4,
        essay_a="a" * 8,
        essay_b="b" * 12,
        callback_topic="t",
        llm_config_overrides=overrides,
    )
    found = estimate_request(request)
    assert found == TokenEstimate(instructions + 6, answer)
    assert found.total == instructions + 6 + answer
