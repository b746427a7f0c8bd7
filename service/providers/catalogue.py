"""The models that can be asked: their limits, what they accept, what they cost.

Prices are USD per million tokens on OpenAI's standard tier, limits are tokens. They were read on 2026-11-23
from public reprints of the vendor's price list (https://platform.openai.com/docs/pricing) and model pages
(https://platform.openai.com/docs/models), which mostly agreed with one another; the vendor's page itself was
not at hand. Compare them with your invoice: a cost is an estimate.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from service.contracts.enums import LLMProviderType
from service.contracts.requests import LLMConfigOverrides
from service.core.outcome import Usage

_MILLION: Final = 1_000_000
_DATED: Final = re.compile(r"-\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True, slots=True)
class Model:
    """One model family of one provider."""

    name: str
    provider: LLMProviderType
    context_window_tokens: int
    output_limit_tokens: int
    accepts_temperature: bool
    prompt_usd_per_million: float
    cached_prompt_usd_per_million: float
    completion_usd_per_million: float
    prices_read_on: date

    def price(self, usage: Usage) -> Usage:
        """The same usage with its cost in USD; cached tokens are part of the prompt and cost less."""
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        cost_usd = (
            (usage.prompt_tokens - cached) * self.prompt_usd_per_million
            + cached * self.cached_prompt_usd_per_million
            + usage.completion_tokens * self.completion_usd_per_million
        ) / _MILLION
        return replace(usage, cost_usd=cost_usd)


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
        if overrides.temperature_override is not None and not model.accepts_temperature:
            return f"{name} accepts no temperature; leave temperature_override out."
        return None


def _openai(
    name: str,
    window: int,
    limit: int,
    usd: tuple[float, float, float],
    *,
    accepts_temperature: bool = True,
) -> Model:
    prompt, cached, completion = usd
    return Model(
        name=name,
        provider=LLMProviderType.OPENAI,
        context_window_tokens=window,
        output_limit_tokens=limit,
        accepts_temperature=accepts_temperature,
        prompt_usd_per_million=prompt,
        cached_prompt_usd_per_million=cached,
        completion_usd_per_million=completion,
        prices_read_on=date(2026, 11, 23),
    )


CATALOGUE: Final = Catalogue(
    (
        _openai("gpt-4o-mini", 128_000, 16_384, (0.15, 0.075, 0.60)),
        _openai("gpt-4o", 128_000, 16_384, (2.50, 1.25, 10.00)),
        _openai("gpt-4.1", 1_047_576, 32_768, (2.00, 0.50, 8.00)),
        _openai("gpt-4.1-mini", 1_047_576, 32_768, (0.40, 0.10, 1.60)),
        _openai("gpt-4.1-nano", 1_047_576, 32_768, (0.10, 0.025, 0.40)),
        _openai("o4-mini", 200_000, 100_000, (1.10, 0.275, 4.40), accepts_temperature=False),
    ),
    # The first gpt-4o knows no JSON schema and has prices of its own.
    unusable=[(LLMProviderType.OPENAI, "gpt-4o-2024-05-13")],
)
"""The models that are known, with the prices and limits of the module's date."""
