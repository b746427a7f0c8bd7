"""What calls have used, by day, caller, provider and model, beside what may be spent."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from service.contracts.error_codes import LLMErrorCode
from service.core.charges import DayCharge
from service.core.errors import QueueUnavailable, Refused
from service.core.ports import Clock, CostMemory
from service.engine.budget import BudgetLimits

UNAVAILABLE_RETRY_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Account:
    """What was used since a day (UTC), and how today stands."""

    since: date
    today: date
    today_usd: float
    limits: BudgetLimits
    charges: Sequence[DayCharge]


@dataclass(frozen=True, slots=True)
class Accounting:
    """The account as operators read it."""

    memory: CostMemory
    limits: BudgetLimits
    clock: Clock

    async def read(self, days: int) -> Account:
        """The account of today and of the days before it, `days` together. Raises `Refused`."""
        today = self.clock.now().date()
        since = today - timedelta(days=days - 1)
        try:
            charges = await self.memory.list_charges(since)
            spent = await self.memory.spent_usd(today)
        except QueueUnavailable as error:
            raise Refused(
                LLMErrorCode.INTERNAL_ERROR,
                "The queue cannot be read at the moment; its log says why. Try again later.",
                retry_after_seconds=UNAVAILABLE_RETRY_SECONDS,
                status=503,
            ) from error
        return Account(since, today, spent, self.limits, charges)
