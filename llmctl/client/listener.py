"""The callbacks of some topics, as a program loops over them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from types import TracebackType

from llmctl.client.arrivals import Callback
from llmctl.client.dispatcher import Dispatcher
from llmctl.client.listening import Listening
from llmctl.client.positions import Position
from llmctl.client.starts import Start, find_start
from simulator.kafka_address import KafkaAddress


class Listener:
    """An async iterator; it begins at its first step, or where it is entered with `async with`.

    `async with` also closes what it has opened by the end of the block. Without, that happens some time
    after the loop is left.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        kafka: KafkaAddress,
        topics: Sequence[str],
        start: Start,
        wants_run: Callable[[str | None], bool],
    ) -> None:
        self._dispatcher = dispatcher
        self._kafka = kafka
        self._topics = topics
        self._start = start
        self._wants_run = wants_run
        self._listening: Listening | None = None
        self._stream: AsyncGenerator[Callback, None] | None = None

    @property
    def position(self) -> Position:
        """Behind all that was handed out or passed over; empty before it has begun."""
        return Position({}) if self._listening is None else self._listening.position

    async def __aenter__(self) -> Listener:
        await self._begin()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Listener:
        return self

    async def __anext__(self) -> Callback:
        return await anext(self._stream or await self._begin())

    async def aclose(self) -> None:
        """Ends it, and with it the consumer that it may have of its own."""
        if self._stream is not None:
            await self._stream.aclose()

    async def _begin(self) -> AsyncGenerator[Callback, None]:
        watches = await self._dispatcher.follow(self._topics)
        places = await find_start(self._dispatcher, self._topics, self._start)
        # It does not know of this object, so that it is closed with it when nobody holds this one any more.
        self._listening = Listening(
            self._dispatcher, self._kafka, self._topics, places, self._wants_run, watches
        )
        self._stream = self._listening.read()
        return self._stream
