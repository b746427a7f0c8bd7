"""Points in time that every calendar and time zone can show."""

from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import AfterValidator

FIRST_YEAR: Final = 1970
LAST_YEAR: Final = 9998

_LAST_MILLISECOND: Final = int(datetime(LAST_YEAR, 12, 31, tzinfo=UTC).timestamp() * 1000)


def _require_calendar(moment: datetime) -> datetime:
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ValueError(f"the year must be from {FIRST_YEAR} to {LAST_YEAR}")
    return moment


Moment = Annotated[datetime, AfterValidator(_require_calendar)]
"""A time in an event; one that could not be converted between time zones is invalid."""


def bound_timestamp(milliseconds: int) -> int:
    """Returns a Kafka timestamp in milliseconds since 1970, moved to the nearest one that a calendar has.

    Producers may write any 64-bit number.
    """
    return min(max(milliseconds, 0), _LAST_MILLISECOND)
