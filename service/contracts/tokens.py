"""How many tokens a text and a request take, near enough to reserve and budget; the bill goes by the usage.

It stands here so that a caller can know beforehand what the service will reckon with.
"""

import re
from dataclasses import dataclass
from typing import Final

from service.contracts.requests import LLMComparisonRequest

SYSTEM_PROMPT_TOKENS: Final = 75
"""What the service's own instructions to the judge take."""

EXPECTED_ANSWER_TOKENS: Final = 300
"""A judgement with its justification; a request's own limit is taken where it is lower."""

CHARACTERS_PER_TOKEN: Final = 4
"""OpenAI's and Google's rule of thumb for English
(https://help.openai.com/en/articles/4936856, https://ai.google.dev/gemini-api/docs/tokens)."""

_WIDE: Final = re.compile(
    "[\u1100-\u11ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef"
    "\U00020000-\U0003ffff]"
)
"""Chinese, Japanese and Korean: their tokenizers make about one token of each character."""


def estimate_tokens(text: str) -> int:
    """One token for each Chinese, Japanese or Korean character, one for four of any other, rounded up."""
    wide = 0 if text.isascii() else len(_WIDE.findall(text))
    return wide + -(-(len(text) - wide) // CHARACTERS_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class TokenEstimate:
    """What one call for a request takes, about."""

    prompt: int
    answer: int

    @property
    def total(self) -> int:
        """Both together: what a limit of tokens a minute counts."""
        return self.prompt + self.answer


def estimate_request(request: LLMComparisonRequest) -> TokenEstimate:
    """The instructions, the prompt and both essays, and an answer of the usual length."""
    overrides = request.llm_config_overrides
    own = overrides.system_prompt_override if overrides else None
    instructions = SYSTEM_PROMPT_TOKENS if own is None else estimate_tokens(own)
    texts = (request.user_prompt, request.essay_a, request.essay_b)
    answer = (overrides.max_tokens_override if overrides else None) or EXPECTED_ANSWER_TOKENS
    return TokenEstimate(instructions + sum(map(estimate_tokens, texts)), min(answer, EXPECTED_ANSWER_TOKENS))
