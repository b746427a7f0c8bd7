"""What calls have used, for whom and of whom: added up by day (UTC), caller, provider and model. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import date

from service.core.outcome import Spent

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Payer:
    """Whose use it is, and of what."""

    caller: str | None
    """None where nobody needs a name."""
    provider: str
    model: str
    """As the provider names it."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What calls have used."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    """Known or, where a call may be billed and its usage is not known, estimated."""

    def __add__(self, other: "Charge") -> "Charge":
        return Charge(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(Charge)))


@dataclass(frozen=True, slots=True)
class DayCharge:
    """What one day's calls of one payer have used."""

    day: date
    payer: Payer
    charge: Charge


def find_charge(caller: str | None, before: Spent, after: Spent) -> tuple[Payer, Charge] | None:
    """What the attempts between have used; None where there were none."""
    charge = Charge(
        max(0, after.calls - before.calls),
        max(0, after.usage.prompt_tokens - before.usage.prompt_tokens),
        max(0, after.usage.completion_tokens - before.usage.completion_tokens),
        max(0.0, after.cost_usd - before.cost_usd),
    )
    if charge == Charge():
        return None
    provider = after.attempts[-1].provider.value if after.attempts else UNKNOWN
    return Payer(caller, provider, after.model or UNKNOWN), charge


class ChargeBook:
    """Charges by day and payer."""

    def __init__(self) -> None:
        self._days: dict[date, dict[Payer, Charge]] = {}

    def add(self, day: date, payer: Payer, charge: Charge) -> None:
        """Adds what was used on a day."""
        of_day = self._days.setdefault(day, {})
        of_day[payer] = of_day.get(payer, Charge()) + charge

    def replace(self, day: date, charges: Iterable[tuple[Payer, Charge]]) -> None:
        """What was used on a day is this, whatever was known before."""
        self._days[day] = dict(charges)

    def of_day(self, day: date) -> dict[Payer, Charge]:
        """What was used on a day."""
        return dict(self._days.get(day, {}))

    def usd_of(self, day: date) -> float:
        """What a day has cost."""
        return sum(charge.usd for charge in self._days.get(day, {}).values())

    def days(self) -> list[date]:
        """The days that something is known of."""
        return sorted(self._days)

    def forget_before(self, day: date) -> None:
        """Forgets what is older."""
        for old in [each for each in self._days if each < day]:
            del self._days[old]

    def list_since(self, day: date) -> Iterator[DayCharge]:
        """Everything since a day, in the order of days."""
        for each in self.days():
            if each >= day:
                for payer, charge in self._days[each].items():
                    yield DayCharge(each, payer, charge)
