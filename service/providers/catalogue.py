"""The models that can be asked: their limits, what they accept, what they cost.

Prices are USD per million tokens on each vendor's standard tier, limits are tokens. They were read on the
dates that stand with them. At hand were, of the vendors' own pages: Anthropic's overviews of the models 5.5
and its price list, Google's model pages and announcements of 3.5 Flash-Lite, and OpenAI's page of one model;
for the rest public reprints of the vendors' lists, which mostly agreed with one another. OpenRouter passes on
its upstreams' prices and says in each answer what it charged, which goes before these figures. Gemini 3.8
Flash has a promotional price that doubles on 2027-01-01. Compare them with your invoice: a cost is an
estimate. What is wrong or missing is set right by a file (`catalogue_file.py`).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import Final

from service.contracts.enums import LLMProviderType
from service.contracts.requests import LLMConfigOverrides
from service.core.outcome import Usage

_MILLION: Final = 1_000_000
_DATED: Final = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{8}|\d{3})$")
"""OpenAI's, Anthropic's and Google's ways to name one version of a model."""


@dataclass(frozen=True, slots=True)
class LongPrompt:
    """What a whole call costs where its prompt is longer than `above_tokens`."""

    above_tokens: int
    prompt_usd_per_million: float
    cached_prompt_usd_per_million: float
    completion_usd_per_million: float


@dataclass(frozen=True, slots=True)
class Model:
    """One model family of one provider."""

    name: str
    provider: LLMProviderType
    context_window_tokens: int
    output_limit_tokens: int
    prompt_usd_per_million: float
    cached_prompt_usd_per_million: float
    completion_usd_per_million: float
    prices_read_on: date
    source: str
    """Where prices and limits stand."""
    max_temperature: float | None = None
    """None where it accepts no temperature."""
    long_prompt: LongPrompt | None = None

    @property
    def accepts_temperature(self) -> bool:
        """Whether a temperature may be sent at all."""
        return self.max_temperature is not None

    def price(self, usage: Usage) -> Usage:
        """The same usage with its cost in USD; cached tokens are part of the prompt and cost less."""
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        prices: Model | LongPrompt = self
        if self.long_prompt is not None and usage.prompt_tokens > self.long_prompt.above_tokens:
            prices = self.long_prompt
        cost_usd = (
            (usage.prompt_tokens - cached) * prices.prompt_usd_per_million
            + cached * prices.cached_prompt_usd_per_million
            + usage.completion_tokens * prices.completion_usd_per_million
        ) / _MILLION
        return replace(usage, cost_usd=cost_usd)

    def estimate(self, prompt_tokens: int, output_tokens: int) -> float:
        """What a call would cost in USD, with nothing read from the vendor's cache."""
        return self.price(Usage(prompt_tokens, output_tokens)).cost_usd


class Catalogue:
    """Finds models by provider and name."""

    def __init__(
        self, models: Iterable[Model], *, unusable: Iterable[tuple[LLMProviderType, str]] = ()
    ) -> None:
        self._models = {(model.provider, model.name): model for model in models}
        self._unusable = frozenset(unusable)

    def find(self, provider: LLMProviderType, name: str) -> Model | None:
        """The model of that name; a dated version, such as `gpt-4o-mini-2024-07-18`, is its family's."""
        if (provider, name) in self._unusable:
            return None
        return self._models.get((provider, name)) or self._models.get((provider, _DATED.sub("", name)))

    def names(self, provider: LLMProviderType) -> tuple[str, ...]:
        """What can be asked of a provider, in alphabetical order."""
        return tuple(sorted(name for owner, name in self._models if owner is provider))

    def find_objection(
        self, provider: LLMProviderType, name: str, overrides: LLMConfigOverrides | None
    ) -> str | None:
        """Says in a sentence why a model cannot be asked like this, or None where it can."""
        model = self.find(provider, name)
        if model is None:
            known = ", ".join(self.names(provider)) or "none"
            return f"{provider.value} has no usable model {name!r} in the catalogue; there are: {known}."
        if overrides is None:
            return None
        limit = overrides.max_tokens_override
        if limit is not None and limit > model.output_limit_tokens:
            most = model.output_limit_tokens
            return f"max_tokens_override is {limit}; {name} answers with at most {most} tokens."
        temperature = overrides.temperature_override
        if temperature is None:
            return None
        if model.max_temperature is None:
            return f"{name} accepts no temperature; leave temperature_override out."
        if temperature > model.max_temperature:
            return f"temperature_override is {temperature:g}; {name} takes at most {model.max_temperature:g}."
        return None

    def estimate(self, provider: LLMProviderType, name: str, prompt_tokens: int, output_tokens: int) -> float:
        """What a call would cost in USD; nothing where the model is not in the catalogue."""
        model = self.find(provider, name)
        return 0.0 if model is None else model.estimate(prompt_tokens, output_tokens)

    def describe_price(self, provider: LLMProviderType, name: str) -> dict[str, object] | None:
        """What a million tokens cost, as JSON; None where the model is not in the catalogue."""
        model = self.find(provider, name)
        if model is None:
            return None
        long = model.long_prompt
        return {
            "prompt_usd_per_million": model.prompt_usd_per_million,
            "completion_usd_per_million": model.completion_usd_per_million,
            "long_prompt": None
            if long is None
            else {
                "above_tokens": long.above_tokens,
                "prompt_usd_per_million": long.prompt_usd_per_million,
                "completion_usd_per_million": long.completion_usd_per_million,
            },
        }

    def extend(self, models: Iterable[Model]) -> "Catalogue":
        """The same catalogue with these models added, or in place of those of the same name."""
        return Catalogue((*self._models.values(), *models), unusable=self._unusable)


_OPENAI_LIST: Final = "https://platform.openai.com/docs/pricing"
_ANTHROPIC_LIST: Final = "https://platform.claude.com/docs/en/about-claude/pricing"
_GOOGLE_LIST: Final = "https://ai.google.dev/gemini-api/docs/pricing"
_OPENROUTER_LIST: Final = "https://openrouter.ai/models"
_READ_FIRST: Final = date(2026, 11, 23)
_READ: Final = date(2026, 11, 24)


def _describe(
    provider: LLMProviderType,
    source: str,
    name: str,
    tokens: tuple[int, int],
    usd: tuple[float, float, float],
    *,
    max_temperature: float | None = None,
    long_prompt: LongPrompt | None = None,
    read_on: date = _READ,
) -> Model:
    window, limit = tokens
    prompt, cached, completion = usd
    return Model(
        name=name,
        provider=provider,
        context_window_tokens=window,
        output_limit_tokens=limit,
        prompt_usd_per_million=prompt,
        cached_prompt_usd_per_million=cached,
        completion_usd_per_million=completion,
        prices_read_on=read_on,
        source=source,
        max_temperature=max_temperature,
        long_prompt=long_prompt,
    )


_openai = partial(_describe, LLMProviderType.OPENAI, _OPENAI_LIST)
_anthropic = partial(_describe, LLMProviderType.ANTHROPIC, _ANTHROPIC_LIST)
_google = partial(_describe, LLMProviderType.GOOGLE, _GOOGLE_LIST)
_openrouter = partial(_describe, LLMProviderType.OPENROUTER, _OPENROUTER_LIST)

_GPT_4O: Final = (128_000, 16_384)
_GPT_4_1: Final = (1_047_576, 32_768)
_GPT_6: Final = (1_050_000, 128_000)
_CLAUDE_5: Final = (1_000_000, 128_000)
_CLAUDE_4: Final = (200_000, 64_000)
_GEMINI_3: Final = (1_048_576, 65_536)

CATALOGUE: Final = Catalogue(
    (
        _openai("gpt-4o-mini", _GPT_4O, (0.15, 0.075, 0.60), max_temperature=2, read_on=_READ_FIRST),
        _openai("gpt-4o", _GPT_4O, (2.50, 1.25, 10.00), max_temperature=2, read_on=_READ_FIRST),
        _openai("gpt-4.1", _GPT_4_1, (2.00, 0.50, 8.00), max_temperature=2, read_on=_READ_FIRST),
        _openai("gpt-4.1-mini", _GPT_4_1, (0.40, 0.10, 1.60), max_temperature=2, read_on=_READ_FIRST),
        _openai("gpt-4.1-nano", _GPT_4_1, (0.10, 0.025, 0.40), max_temperature=2, read_on=_READ_FIRST),
        _openai("o4-mini", (200_000, 100_000), (1.10, 0.275, 4.40), read_on=_READ_FIRST),
        _openai("gpt-6-luna", _GPT_6, (0.10, 0.01, 0.50), long_prompt=LongPrompt(272_000, 0.20, 0.02, 0.75)),
        _openai("gpt-6-sol", _GPT_6, (2.00, 0.20, 10.00), long_prompt=LongPrompt(272_000, 4.00, 0.40, 15.00)),
        _anthropic("claude-haiku-4-5", _CLAUDE_4, (1.00, 0.10, 5.00), max_temperature=1),
        _anthropic(
            "claude-haiku-5-5",
            _CLAUDE_5,
            (0.10, 0.01, 0.50),
            long_prompt=LongPrompt(100_000, 0.50, 0.05, 2.50),
        ),
        _anthropic("claude-sonnet-4-5", _CLAUDE_4, (3.00, 0.30, 15.00), max_temperature=1),
        _anthropic("claude-opus-4-5", _CLAUDE_4, (5.00, 0.50, 25.00), max_temperature=1),
        _anthropic("claude-sonnet-5-5", _CLAUDE_5, (2.00, 0.10, 10.00)),
        _anthropic("claude-opus-5-5", _CLAUDE_5, (4.00, 0.20, 20.00)),
        # Google has announced the end of 2.0 for June 2026; gateways and fakes go on answering to the name.
        _google("gemini-2.0-flash", (1_048_576, 8_192), (0.10, 0.025, 0.40), max_temperature=2),
        _google("gemini-2.5-flash", _GEMINI_3, (0.30, 0.03, 2.50), max_temperature=2),
        _google("gemini-2.5-flash-lite", _GEMINI_3, (0.10, 0.01, 0.40), max_temperature=2),
        _google(
            "gemini-2.5-pro",
            _GEMINI_3,
            (1.25, 0.125, 10.00),
            max_temperature=2,
            long_prompt=LongPrompt(200_000, 2.50, 0.25, 15.00),
        ),
        _google("gemini-3.5-flash-lite", _GEMINI_3, (0.30, 0.03, 2.50), max_temperature=2),
        _google("gemini-3.8-flash", _GEMINI_3, (0.75, 0.075, 3.75)),
        _google(
            "gemini-3.1-pro-preview",
            _GEMINI_3,
            (2.00, 0.20, 12.00),
            max_temperature=2,
            long_prompt=LongPrompt(200_000, 4.00, 0.40, 18.00),
        ),
        _openrouter("openai/gpt-4o-mini", _GPT_4O, (0.15, 0.075, 0.60), max_temperature=2),
        _openrouter("openai/gpt-4.1-mini", _GPT_4_1, (0.40, 0.10, 1.60), max_temperature=2),
        _openrouter("openai/gpt-4o", _GPT_4O, (2.50, 1.25, 10.00), max_temperature=2),
        _openrouter("anthropic/claude-haiku-4.5", _CLAUDE_4, (1.00, 0.10, 5.00), max_temperature=1),
        _openrouter("anthropic/claude-sonnet-4.5", _CLAUDE_4, (3.00, 0.30, 15.00), max_temperature=1),
        _openrouter("google/gemini-2.5-flash", _GEMINI_3, (0.30, 0.03, 2.50), max_temperature=2),
        _openrouter("google/gemini-3.5-flash-lite", _GEMINI_3, (0.30, 0.03, 2.50), max_temperature=2),
    ),
    # The first gpt-4o knows no JSON schema and has prices of its own.
    unusable=[(LLMProviderType.OPENAI, "gpt-4o-2024-05-13")],
)
"""The models that are known, with the prices and limits of their dates."""
