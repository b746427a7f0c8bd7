"""Token counts without a tokenizer: near enough to budget with, the same on every machine."""

from __future__ import annotations

from collections.abc import Iterable

CHARACTERS_PER_TOKEN = 4
"""OpenAI's rule of thumb for English text."""

TOKENS_PER_MESSAGE = 3
TOKENS_OF_REPLY_PRIMER = 3
"""Overhead of the chat format, as in OpenAI's cookbook on counting tokens."""

LEAST_CACHED_TOKENS = 1024
CACHE_STEP_TOKENS = 128


def estimate_text_tokens(text: str) -> int:
    """Tokens of a text: a quarter of its characters, rounded up."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def estimate_prompt_tokens(message_texts: Iterable[str]) -> int:
    """Tokens of a chat prompt, with what the chat format adds."""
    return TOKENS_OF_REPLY_PRIMER + sum(
        TOKENS_PER_MESSAGE + estimate_text_tokens(text) for text in message_texts
    )


def estimate_cached_tokens(instruction_texts: Iterable[str]) -> int:
    """How much of a prompt comes from the vendor's cache, as OpenAI documents its own.

    Prompts are cached from 1,024 tokens on, in steps of 128. What callers repeat is their instructions, and
    here these are always warm: whether a call was the first to send them must not change its answer.
    """
    tokens = sum(TOKENS_PER_MESSAGE + estimate_text_tokens(text) for text in instruction_texts)
    return tokens - tokens % CACHE_STEP_TOKENS if tokens >= LEAST_CACHED_TOKENS else 0


def truncate_to_tokens(text: str, max_tokens: int) -> str:
    """The longest beginning of the text that is estimated at no more than `max_tokens`."""
    return text[: max_tokens * CHARACTERS_PER_TOKEN]
