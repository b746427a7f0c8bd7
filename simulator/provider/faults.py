"""What can go wrong with a call, by name, and the chance of each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum, auto

from simulator.provider.api import Ending, Trouble

_HTTP = re.compile(r"http_([45]\d\d)", re.ASCII)
_TROUBLE_OF_STATUS = {
    401: Trouble.UNAUTHORIZED,
    403: Trouble.FORBIDDEN,
    404: Trouble.NOT_FOUND,
    408: Trouble.TIMEOUT,
    413: Trouble.TOO_LARGE,
    429: Trouble.RATE_LIMITED,
    502: Trouble.BAD_GATEWAY,
    503: Trouble.UNAVAILABLE,
    504: Trouble.TIMEOUT,
    529: Trouble.OVERLOADED,
}
ADVISES_WAITING = frozenset(
    {Trouble.RATE_LIMITED, Trouble.OVERLOADED, Trouble.UNAVAILABLE, Trouble.QUOTA_EXHAUSTED}
)
"""Troubles that may say how long to wait."""


class Breakage(StrEnum):
    """What may happen to the connection."""

    RESET = auto()
    """It is reset before any work is done."""
    RESET_IN_BODY = auto()
    """The work is done, and it is reset in the middle of the answer."""
    AMBIGUOUS = auto()
    """The work is done and billed, and it is reset before the first byte of the answer."""
    HANG = auto()
    """It is held, and nothing ever comes."""
    DRIP = auto()
    """The answer comes, byte by byte."""


@dataclass(frozen=True)
class Fault:
    """One of the three: an error of the vendor's, another ending of the answer, or a broken connection."""

    name: str
    trouble: Trouble | None = None
    status: int | None = None
    """Instead of the vendor's usual one for this trouble."""
    ending: Ending | None = None
    breakage: Breakage | None = None


_NAMED: dict[str, Fault] = {
    **{trouble.value: Fault(trouble.value, trouble=trouble) for trouble in Trouble},
    **{ending.value: Fault(ending.value, ending=ending) for ending in Ending if ending is not Ending.STOP},
    **{breakage.value: Fault(breakage.value, breakage=breakage) for breakage in Breakage},
}
FAULT_NAMES = ("http_400 to http_599", *_NAMED)


def find_fault(name: str) -> Fault:
    """The fault of that name; raises `ValueError` with the names there are."""
    if name in _NAMED:
        return _NAMED[name]
    found = _HTTP.fullmatch(name)
    if found is None:
        raise ValueError(f"there is no fault {name!r}; choose among {', '.join(FAULT_NAMES)}")
    status = int(found[1])
    trouble = _TROUBLE_OF_STATUS.get(status, Trouble.INVALID if status < 500 else Trouble.SERVER_ERROR)
    return Fault(name, trouble=trouble, status=status)


@dataclass(frozen=True)
class Faults:
    """How often each fault strikes, as shares of all calls that add up to 1 at most."""

    shares: tuple[tuple[Fault, float], ...] = ()
    retry_after_seconds: float | None = None
    """What an error that advises waiting says, None for nothing."""
    drip_bytes_per_second: float = 20.0

    def pick(self, chance: float) -> Fault | None:
        """The fault that strikes a call of this chance, from 0 up to 1."""
        for fault, share in self.shares:
            chance -= share
            if chance < 0:
                return fault
        return None
