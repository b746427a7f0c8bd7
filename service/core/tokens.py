"""How many tokens a text takes, near enough to reserve and to budget with; the bill goes by the usage."""

import re
from typing import Final

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
