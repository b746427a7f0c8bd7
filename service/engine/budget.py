"""Keeps to what may be spent: on one request, and on one day (UTC) over all of them.

A call reserves its estimate before it is made and settles on its true cost afterwards, so that a thousand
calls under way together cannot overrun a day's limit. What a day has cost survives restarts. Of replicas that
share a queue each knows what the others have spent until a second ago, and not what they have reserved.
"""

import asyncio
from dataclasses import dataclass
from datetime import date

from service.contracts.enums import LLMProviderType
from service.contracts.tokens import EXPECTED_ANSWER_TOKENS, estimate_tokens
from service.core.outcome import Spent
from service.core.ports import Clock, CostMemory, PriceList
from service.core.records import ProviderCall


@dataclass(frozen=True, slots=True)
class BudgetLimits:
    """What may be spent, in USD; None is no limit."""

    request_usd: float | None = None
    day_usd: float | None = None


class Budget:
    """Reserves and settles the cost of calls."""

    def __init__(self, limits: BudgetLimits, prices: PriceList, memory: CostMemory, clock: Clock) -> None:
        self._limits = limits
        self._prices = prices
        self._memory = memory
        self._clock = clock
        self._day: date | None = None
        self._spent_usd = 0.0
        self._elsewhere_usd = 0.0
        """How much of it others had spent when the day began here."""
        self._reserved: dict[int, float] = {}
        self._reserved_usd = 0.0
        self._reading = asyncio.Lock()

    def estimate_usd(self, provider: LLMProviderType, call: ProviderCall) -> float:
        """What a call is expected to cost."""
        prompt_tokens = estimate_tokens(call.system_prompt) + estimate_tokens(call.user_prompt)
        answer_tokens = min(EXPECTED_ANSWER_TOKENS, call.max_tokens or EXPECTED_ANSWER_TOKENS)
        return self._prices.estimate(provider, call.model, prompt_tokens, answer_tokens)

    async def reserve(self, sequence: int, estimated_usd: float, spent: Spent) -> str | None:
        """Reserves a call's cost, or says in a sentence which limit it would break."""
        limits = self._limits
        of_request = spent.cost_usd + estimated_usd
        if limits.request_usd is not None and of_request > limits.request_usd:
            return (
                f"The request would cost about ${of_request:.6f} with this call, and at most "
                f"${limits.request_usd:g} may be spent on one (MAX_COST_USD_PER_REQUEST)."
            )
        if limits.day_usd is None:
            return None
        await self._begin_day()
        grown_elsewhere = self._memory.spent_elsewhere_usd(self._clock.now().date()) - self._elsewhere_usd
        of_day = self._spent_usd + grown_elsewhere + self._reserved_usd + estimated_usd
        if of_day > limits.day_usd:
            return (
                f"The day's budget of ${limits.day_usd:g} is used up (MAX_COST_USD_PER_DAY); "
                "the next one begins at 00:00 UTC."
            )
        self._reserved[sequence] = estimated_usd
        self._reserved_usd += estimated_usd
        return None

    def settle(self, sequence: int, cost_usd: float) -> None:
        """The call is over, and this is what it has cost; its outcome takes the same figure to the queue."""
        reserved_usd = self._reserved.pop(sequence, None)
        if reserved_usd is None:
            return
        self._reserved_usd = self._reserved_usd - reserved_usd if self._reserved else 0.0
        self._spent_usd += cost_usd

    async def _begin_day(self) -> None:
        today = self._clock.now().date()
        if today == self._day:
            return
        async with self._reading:
            if today != self._day:
                self._spent_usd = await self._memory.spent_usd(today)
                self._elsewhere_usd = self._memory.spent_elsewhere_usd(today)
                self._day = today
