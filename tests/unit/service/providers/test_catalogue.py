"""The models that can be asked."""

import pytest

from service.contracts.enums import LLMProviderType
from service.contracts.requests import LLMConfigOverrides
from service.core.outcome import Usage
from service.providers.catalogue import CATALOGUE

OPENAI = LLMProviderType.OPENAI


@pytest.mark.parametrize(
    "name", ["gpt-4o-mini", "gpt-4o", "gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano", "o4-mini"]
)
def test_every_model_has_plausible_limits_and_prices(name: str) -> None:
    model = CATALOGUE.find(OPENAI, name)
    assert model is not None
    assert 0 < model.output_limit_tokens < model.context_window_tokens
    assert 0 < model.cached_prompt_usd_per_million < model.prompt_usd_per_million
    assert model.prompt_usd_per_million < model.completion_usd_per_million


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-2024-05-13", None),
        ("gpt-4o-mini-latest", None),
        ("GPT-4o", None),
        ("", None),
    ],
)
def test_dated_version_belongs_to_its_family(name: str, family: str | None) -> None:
    model = CATALOGUE.find(OPENAI, name)
    assert (model.name if model else None) == family


def test_other_provider_has_its_own_models() -> None:
    assert CATALOGUE.find(LLMProviderType.OPENROUTER, "gpt-4o") is None


def test_cached_tokens_are_priced_once() -> None:
    model = CATALOGUE.find(OPENAI, "gpt-4o")
    assert model is not None
    assert model.price(Usage(1_000_000, 1_000_000)).cost_usd == pytest.approx(12.5)
    assert model.price(Usage(1_000_000, 0, cached_tokens=1_000_000)).cost_usd == pytest.approx(1.25)
    assert model.price(Usage(100, 0, cached_tokens=500)).cost_usd == pytest.approx(100 * 1.25 / 1e6)


@pytest.mark.parametrize(
    ("model", "overrides", "part"),
    [
        ("gpt-9", None, "gpt-4.1, gpt-4.1-mini, gpt-4.1-nano, gpt-4o, gpt-4o-mini, gpt-6-luna"),
        ("gpt-4o", LLMConfigOverrides(max_tokens_override=16_385), "at most 16384 tokens"),
        ("o4-mini", LLMConfigOverrides(temperature_override=0.0), "accepts no temperature"),
        ("gpt-4o", LLMConfigOverrides(max_tokens_override=16_384, temperature_override=2.0), None),
        ("o4-mini-2025-04-16", LLMConfigOverrides(max_tokens_override=100_000), None),
        ("gpt-4o", None, None),
    ],
)
def test_objection_is_one_sentence(
    model: str, overrides: LLMConfigOverrides | None, part: str | None
) -> None:
    objection = CATALOGUE.find_objection(OPENAI, model, overrides)
    assert objection is None if part is None else objection is not None and part in objection
