"""Tokens, cost and duration that a dry run estimates."""

from typing import Any

import pytest

from llmctl.client.offers import Offer, Price
from llmctl.jobs.estimates import Reckoning
from service.contracts.requests import LLMComparisonRequest, LLMConfigOverrides
from service.contracts.tokens import estimate_request


def offer(name: str = "openai", **changes: Any) -> Offer:
    known: dict[str, Any] = {
        "provider": name,
        "is_default": name == "openai",
        "default_model": "m",
        "prices": {"m": Price(10.0, 10.0)},
        "requests_per_minute": None,
        "tokens_per_minute": None,
        "concurrency": 100,
    }
    return Offer(**(known | changes))


def ask(**overrides: Any) -> LLMComparisonRequest:
    return LLMComparisonRequest(
        user_prompt="p" * 400,
        essay_a="a",
        essay_b="b",
        callback_topic="t",
        llm_config_overrides=LLMConfigOverrides(**overrides),
    )


TOKENS = estimate_request(ask()).total


def test_price_and_tokens_add_up() -> None:
    reckoning = Reckoning({"openai": offer(requests_per_minute=30.0)})
    tokens, cost_usd = reckoning.add(ask())
    assert tokens.total == TOKENS
    assert cost_usd == pytest.approx(TOKENS / 100_000)
    for _ in range(2):
        reckoning.add(ask())
    assert reckoning.describe() == (
        f"3 requests, about {3 * TOKENS:,} tokens, about ${3 * TOKENS / 100_000:.5f}, "
        "at least 6.0s (openai: 30 requests a minute)"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"requests_per_minute": 60, "tokens_per_minute": TOKENS * 6}, "at least 10.0s"),
        ({"requests_per_minute": 60, "seconds_per_call": 2.0, "concurrency": 1}, "at least 2.0s"),
        ({}, "time unknown: no limit is set and no call has been measured"),
    ],
)
def test_the_tightest_limit_decides(changes: dict[str, Any], said: str) -> None:
    reckoning = Reckoning({"openai": offer(**changes)})
    reckoning.add(ask())
    assert said in reckoning.describe()


def test_providers_work_side_by_side() -> None:
    offers = {
        "openai": offer(requests_per_minute=60.0),
        "google": offer("google", requests_per_minute=6.0),
    }
    reckoning = Reckoning(offers)
    reckoning.add(ask())
    reckoning.add(ask(provider_override="google"))
    assert "at least 10.0s (google: 6 requests a minute)" in reckoning.describe()


def test_what_is_not_known_is_said() -> None:
    reckoning = Reckoning(None)
    assert reckoning.add(ask())[1] is None
    assert reckoning.describe().endswith("tokens, price and time unknown")
    reckoning = Reckoning({"openai": offer()})
    reckoning.add(ask(model_override="x"))
    assert "price unknown" in reckoning.describe()
    reckoning.add(ask())
    assert "without 1 of unknown price" in reckoning.describe()
