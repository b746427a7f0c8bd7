"""What all senders of a run share while the service takes nothing: one knocks at a time, and not for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

Tell = Callable[[str | None], None]


class Patience:
    """While the service refuses, one attempt after the other, each when it was asked for; else all at once.

    The limit counts from the first refusal after the service had last taken something. 0 bears none.
    """

    def __init__(self, limit_seconds: float = 0.0, tell: Tell = lambda _: None) -> None:
        self.limit_seconds = limit_seconds
        self.heard = False
        """Whether the service has answered before: then one that is gone is expected back."""
        self._tell = tell
        self._knocking = asyncio.Lock()
        self._knock_at = 0.0
        self._closed_since: float | None = None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One attempt: at once where the door is open, else alone and not before the pause is over."""
        if self._closed_since is None:
            yield
            return
        async with self._knocking:
            if self._closed_since is not None:
                await asyncio.sleep(max(0.0, self._knock_at - time.monotonic()))
            # Who waited here goes alone even where the door has opened meanwhile: room for one is not
            # yet room for all.
            yield

    def bear(self, why: str, pause_seconds: float, begun_at: float, *, at_least_seconds: float = 0.0) -> bool:
        """An attempt that began then was in vain; True where another one may follow after the pause."""
        now = time.monotonic()
        if self._closed_since is None:
            self._closed_since = begun_at
        limit_seconds = max(self.limit_seconds, at_least_seconds)
        if now + pause_seconds > self._closed_since + limit_seconds:
            return False
        self._knock_at = max(self._knock_at, now + pause_seconds)
        self._tell(why)
        return True

    def open(self) -> None:
        """The service has answered to the purpose."""
        self.heard = True
        if self._closed_since is not None:
            self._closed_since = None
            self._tell(None)
