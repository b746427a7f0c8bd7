"""The providers' offers are read and priced as the service does."""

from typing import Any

import pytest

from llmctl.client.offers import Offer, Price, choose_offer
from service.contracts.enums import LLMProviderType
from service.contracts.requests import LLMComparisonRequest, LLMConfigOverrides
from service.contracts.tokens import TokenEstimate
from service.providers.catalogue import CATALOGUE

DOCUMENT: dict[str, Any] = {
    "name": "openai",
    "default": True,
    "default_model": "gpt-4o-mini",
    "concurrency_limit": 10,
    "requests_per_minute": 60.0,
    "tokens_per_minute": None,
    "prices": {
        model: CATALOGUE.describe_price(LLMProviderType.OPENAI, model)
        for model in CATALOGUE.names(LLMProviderType.OPENAI)
    },
}


def ask(**overrides: Any) -> LLMComparisonRequest:
    return LLMComparisonRequest(
        user_prompt="p",
        essay_a="a",
        essay_b="b",
        callback_topic="t",
        llm_config_overrides=LLMConfigOverrides(**overrides),
    )


@pytest.mark.parametrize("tokens", [TokenEstimate(1000, 300), TokenEstimate(300_000, 300)])
@pytest.mark.parametrize("model", CATALOGUE.names(LLMProviderType.OPENAI))
def test_prices_are_those_of_the_catalogue(model: str, tokens: TokenEstimate) -> None:
    price = Offer.read(DOCUMENT, None).find_price(model)
    assert price is not None
    expected = CATALOGUE.estimate(LLMProviderType.OPENAI, model, tokens.prompt, tokens.answer)
    assert price.cost_usd(tokens) == pytest.approx(expected)


def test_a_dated_model_has_the_price_of_its_family() -> None:
    offer = Offer.read(DOCUMENT, 0.5)
    assert offer.find_price("gpt-4o-mini-2024-07-18") == Price(0.15, 0.6)
    assert offer.find_price("gpt-4o-mini-x") is None
    assert Offer.read(DOCUMENT | {"prices": {"mock": None}}, None).find_price("mock") is None


def test_a_request_is_for_whom_it_names_or_the_default() -> None:
    offers = {
        name: Offer.read(DOCUMENT | {"name": name, "default": name == "openai"}, None)
        for name in ("google", "openai")
    }
    assert choose_offer(offers, ask()) == (offers["openai"], "gpt-4o-mini")
    assert choose_offer(offers, ask(provider_override="google", model_override="m")) == (
        offers["google"],
        "m",
    )
    assert choose_offer(offers, ask(provider_override="anthropic")) == (None, "")
