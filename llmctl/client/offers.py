"""What the service offers: who can be asked, what that costs, how fast it may and can go."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from llmctl.client.http import open_http, read_refusal, refuse_service, refuse_stranger
from llmctl.exits import Failed
from service.contracts.requests import LLMComparisonRequest
from service.contracts.tokens import TokenEstimate

PROVIDERS_PATH = "/api/v1/providers"
METRICS_PATH = "/metrics"
_CALLS = "llm_provider_seconds"
_MILLION = 1_000_000
_DATED = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{8}|\d{3})$")
"""A dated version of a model has the price of its family."""


@dataclass(frozen=True)
class Price:
    """USD per million tokens."""

    prompt: float
    completion: float
    long_above_tokens: float = float("inf")
    """A longer prompt has the whole call cost the other two."""
    long_prompt: float = 0.0
    long_completion: float = 0.0

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Price:
        """What the service says; KeyError or TypeError where it is something else."""
        prompt, completion = document["prompt_usd_per_million"], document["completion_usd_per_million"]
        long = document["long_prompt"]
        if long is None:
            return cls(float(prompt), float(completion))
        return cls(
            float(prompt),
            float(completion),
            float(long["above_tokens"]),
            float(long["prompt_usd_per_million"]),
            float(long["completion_usd_per_million"]),
        )

    def cost_usd(self, tokens: TokenEstimate) -> float:
        """What a call costs."""
        long = tokens.prompt > self.long_above_tokens
        prompt, completion = (
            (self.long_prompt, self.long_completion) if long else (self.prompt, self.completion)
        )
        return (tokens.prompt * prompt + tokens.answer * completion) / _MILLION


@dataclass(frozen=True)
class Offer:
    """One provider of the service."""

    provider: str
    is_default: bool
    default_model: str
    prices: Mapping[str, Price]
    requests_per_minute: float | None
    tokens_per_minute: float | None
    concurrency: int
    seconds_per_call: float | None = None
    """As measured since the service started; None where it has made no call."""

    @classmethod
    def read(cls, document: Mapping[str, Any], seconds_per_call: float | None) -> Offer:
        """What the service says; KeyError, TypeError or ValueError where it is something else."""
        prices = document.get("prices", {})
        return cls(
            provider=str(document["name"]),
            is_default=bool(document["default"]),
            default_model=str(document["default_model"]),
            prices={name: Price.read(price) for name, price in prices.items() if price is not None},
            requests_per_minute=document["requests_per_minute"],
            tokens_per_minute=document["tokens_per_minute"],
            concurrency=int(document["concurrency_limit"]),
            seconds_per_call=seconds_per_call,
        )

    def find_price(self, model: str) -> Price | None:
        """The price of a model, or of its family."""
        return self.prices.get(model) or self.prices.get(_DATED.sub("", model))


def choose_offer(offers: Mapping[str, Offer], request: LLMComparisonRequest) -> tuple[Offer | None, str]:
    """Who would be asked, and which model; without an offer there is no such provider."""
    overrides = request.llm_config_overrides
    wanted = overrides.provider_override if overrides else None
    offer = next(
        (
            each
            for each in offers.values()
            if (each.is_default if wanted is None else each.provider == wanted.value)
        ),
        None,
    )
    model = (overrides.model_override if overrides else None) or (offer.default_model if offer else "")
    return offer, model


async def read_offers(url: str, token: str | None = None) -> dict[str, Offer]:
    """Every configured provider by its name; Unreachable or Failed where it does not tell."""
    async with open_http(url, token) as client:
        try:
            answer = await client.get(PROVIDERS_PATH)
            figures = await client.get(METRICS_PATH)
        except httpx.TransportError as problem:
            raise refuse_service(url) from problem
        if not answer.is_success:
            refusal = read_refusal(answer, url)
            raise Failed(f"The service refuses: {refusal.message} ({refusal.code})")
        try:
            documents = answer.json()["providers"]
            seconds = await asyncio.to_thread(_read_seconds, figures.text) if figures.is_success else {}
            offers = [Offer.read(each, seconds.get(each["name"])) for each in documents]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise refuse_stranger(url, answer.status_code) from None
    return {offer.provider: offer for offer in offers}


def _read_seconds(exposition: str) -> dict[str, float]:
    """How long a call to each provider takes on average."""
    sums: dict[str, float] = defaultdict(float)
    counts: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(exposition):
        if family.name == _CALLS:
            for sample in family.samples:
                kept = {f"{_CALLS}_sum": sums, f"{_CALLS}_count": counts}.get(sample.name)
                if kept is not None:
                    kept[sample.labels["provider"]] += sample.value
    return {name: sums[name] / count for name, count in counts.items() if count}
