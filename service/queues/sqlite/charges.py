"""What calls have used, in the file: added up by day, caller, provider and model."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from service.core.charges import Charge, DayCharge, Payer, find_charge
from service.core.outcome import Spent
from service.core.records import Claim
from service.queues.sqlite.file import SqliteFile, Statement

DAYS_KEPT = 40

_ADD = (
    "INSERT INTO charge (day, caller, provider, model, calls, prompt_tokens, completion_tokens, usd) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (day, caller, provider, model) DO UPDATE SET "
    "calls = calls + excluded.calls, prompt_tokens = prompt_tokens + excluded.prompt_tokens, "
    "completion_tokens = completion_tokens + excluded.completion_tokens, usd = usd + excluded.usd"
)
_READ_DAY = "SELECT coalesce(sum(usd), 0.0) FROM charge WHERE day = ?"
_READ = (
    "SELECT day, caller, provider, model, calls, prompt_tokens, completion_tokens, usd FROM charge "
    "WHERE day >= ? ORDER BY day, caller, provider, model"
)
_FORGET_DAYS = "DELETE FROM charge WHERE day < ?"


class SqliteCharges:
    """The account in the file."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    def add(self, claim: Claim, spent: Spent) -> list[Statement]:
        """Adds to what this day has used, in the transaction that stores what it was used for."""
        found = find_charge(claim.request.caller, claim.spent, spent)
        if found is None:
            return []
        payer, charge = found
        today = datetime.now(UTC).date().isoformat()
        return [
            Statement(
                _ADD,
                (
                    today,
                    payer.caller or "",
                    payer.provider,
                    payer.model,
                    charge.calls,
                    charge.prompt_tokens,
                    charge.completion_tokens,
                    charge.usd,
                ),
            )
        ]

    async def list_since(self, day: date) -> Sequence[DayCharge]:
        """What calls have used since a day, as far back as it is kept."""
        rows = await self._file.submit((), query=Statement(_READ, (day.isoformat(),)))
        return [
            DayCharge(date.fromisoformat(day), Payer(caller or None, provider, model), Charge(*used))
            for day, caller, provider, model, *used in rows
        ]

    async def usd_of(self, day: date) -> float:
        """What all calls that ended on a day have cost, as far as it is known or estimated."""
        rows = await self._file.submit((), query=Statement(_READ_DAY, (day.isoformat(),)))
        return float(rows[0][0])

    async def forget_old(self) -> None:
        """Forgets the days before those that are kept."""
        oldest = (datetime.now(UTC) - timedelta(days=DAYS_KEPT)).date()
        await self._file.submit([Statement(_FORGET_DAYS, (oldest.isoformat(),))])
