"""What may be spent: reserved before a call, settled after it, kept over a restart."""

import asyncio
from datetime import date, timedelta
from typing import Any

import pytest

from service.core.outcome import Spent, Usage
from service.engine.budget import Budget, BudgetLimits


class Money:
    def __init__(self) -> None:
        self.days: dict[date, float] = {}
        self.read = 0
        self.elsewhere_usd = 0.0

    def estimate(self, *_: Any) -> float:
        return 1.0

    def spent_elsewhere_usd(self, day: date) -> float:
        return self.elsewhere_usd

    async def spent_usd(self, day: date) -> float:
        self.read += 1
        await asyncio.sleep(0)
        return self.days.get(day, 0.0)


@pytest.fixture
def money() -> Money:
    return Money()


async def test_reservations_count_against_the_budget_of_the_day(clock: Any, money: Money) -> None:
    budget = Budget(BudgetLimits(day_usd=10.0), money, money, clock)
    refusals = await asyncio.gather(*(budget.reserve(n, 1.0, Spent()) for n in range(25)))
    assert refusals.count(None) == 10
    assert all("MAX_COST_USD_PER_DAY" in refusal for refusal in refusals if refusal)

    granted = [n for n, refusal in enumerate(refusals) if refusal is None]
    for n in granted:
        budget.settle(n, 0.1)
    again = [await budget.reserve(100 + n, 1.0, Spent()) for n in range(12)]
    assert again.count(None) == 9


async def test_spend_of_the_day_survives_a_restart_and_ends_with_the_day(clock: Any, money: Money) -> None:
    money.days[clock.now().date()] = 9.5
    budget = Budget(BudgetLimits(day_usd=10.0), money, money, clock)
    assert await budget.reserve(1, 1.0, Spent()) is not None

    clock.seconds += timedelta(days=1).total_seconds()
    assert await budget.reserve(2, 1.0, Spent()) is None
    assert money.read == 2


async def test_spend_of_other_replicas_counts(clock: Any, money: Money) -> None:
    money.days[clock.now().date()] = money.elsewhere_usd = 4.0
    budget = Budget(BudgetLimits(day_usd=10.0), money, money, clock)
    assert await budget.reserve(1, 5.0, Spent()) is None
    budget.settle(1, 1.0)

    money.elsewhere_usd = 8.0
    assert await budget.reserve(2, 1.0, Spent()) is None
    assert await budget.reserve(3, 1.0, Spent()) is not None


async def test_request_budget_covers_all_attempts(clock: Any, money: Money) -> None:
    budget = Budget(BudgetLimits(request_usd=3.0), money, money, clock)
    assert await budget.reserve(1, 1.0, Spent(Usage(cost_usd=1.5))) is None
    assert await budget.reserve(1, 1.0, Spent(Usage(cost_usd=1.5), unconfirmed_usd=1.0)) is not None


async def test_settling_twice_or_without_a_reservation_changes_nothing(clock: Any, money: Money) -> None:
    budget = Budget(BudgetLimits(day_usd=1.0), money, money, clock)
    assert await budget.reserve(1, 1.0, Spent()) is None
    budget.settle(1, 0.0)
    budget.settle(1, 5.0)
    budget.settle(2, 5.0)
    assert await budget.reserve(3, 1.0, Spent()) is None


async def test_without_limits_nothing_is_counted(clock: Any, money: Money) -> None:
    budget = Budget(BudgetLimits(), money, money, clock)
    assert [await budget.reserve(n, 1e9, Spent()) for n in range(3)] == [None] * 3
    assert money.read == 0
