"""Tokens without a tokenizer."""

import pytest

from service.core.tokens import estimate_tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a", 1),
        ("abcd", 1),
        ("abcde", 2),
        ("é" * 8, 2),
        ("日本語", 3),
        ("한국어", 3),
        ("日本語 abc", 4),
        ("𠮷", 1),
        ("\ud800", 1),
    ],
)
def test_estimate(text: str, tokens: int) -> None:
    """A quarter of the characters, rounded up, but each Chinese, Japanese or Korean one in full."""
    assert estimate_tokens(text) == tokens
