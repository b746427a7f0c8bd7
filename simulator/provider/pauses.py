"""Waiting that can be cut short: a provider that stops answers its calls instead of breaking them off."""

from __future__ import annotations

import asyncio

from simulator.provider.connection import CallerLeft, Connection


class Pauses:
    """The simulated latencies under way in one server."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()
        self._over = False

    @property
    def under_way(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def over(self) -> bool:
        """Whether nobody waits any more."""
        return self._over

    async def pause(self, seconds: float, connection: Connection | None = None) -> None:
        """Waits so long, or until `end` is called; not at all from then on.

        Raises `CallerLeft` as soon as the connection is gone.
        """
        if self._over or seconds <= 0:
            return
        if connection is not None and connection.is_gone:
            raise CallerLeft
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[None] = loop.create_future()
        self._waiting.add(waiting)
        timer = loop.call_later(seconds, _wake, waiting)
        if connection is not None:
            connection.when_gone(lambda: _wake(waiting))
        try:
            await waiting
        finally:
            timer.cancel()
            self._waiting.discard(waiting)
            if connection is not None:
                connection.when_gone(None)
        if connection is not None and connection.is_gone:
            raise CallerLeft

    def end(self) -> None:
        """Wakes all that wait; later pauses take no time."""
        self._over = True
        for waiting in self._waiting:
            _wake(waiting)


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
