"""What one sitting at the monitor consists of: where figures come from, what may be done, what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from llmctl.client.operators import OperatorClient, open_operator
from llmctl.tui.feeds.recording import Recorder
from llmctl.tui.feeds.replay import Replay
from llmctl.tui.model.clock import Clock
from llmctl.tui.model.frames import Sink
from llmctl.tui.model.store import Sizes, Store
from simulator.load.thresholds import Threshold

DRAIN_TIMEOUT_SECONDS = 300.0


class Source(Protocol):
    """Something that observes."""

    async def run(self, sink: Sink) -> None:
        """Puts what it sees into the sink, until cancelled."""


class Controls:
    """The orders that a monitor with `--control` may give."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url
        self._token = token

    async def drain(self, until_empty: bool) -> None:
        """Begins to drain. Raises `CliError`, as all orders do."""
        await self._order(lambda client: client.start_drain(DRAIN_TIMEOUT_SECONDS, until_empty=until_empty))

    async def resume(self) -> None:
        """Takes the drain back."""
        await self._order(lambda client: client.resume())

    async def release(self, provider: str) -> None:
        """Has a provider asked again, whatever held it."""
        await self._order(lambda client: client.release_provider(provider))

    async def _order(self, give: Callable[[OperatorClient], Awaitable[object]]) -> None:
        async with open_operator(self._url, self._token) as client:
            await give(client)


@dataclass
class Session:
    """The parts; exactly one of `sources` and `replay` has something to tell."""

    title: str
    """What is watched, in a few words."""
    clock: Clock
    sources: Sequence[Source] = ()
    replay: Replay | None = None
    controls: Controls | None = None
    recorder: Recorder | None = None
    alerts: Sequence[Threshold] = ()
    production: bool = False
    """Whether others depend on what is watched."""
    sizes: Sizes = field(default_factory=Sizes)
    window_seconds: int = 60

    def __post_init__(self) -> None:
        self.store = self.make_store()

    def make_store(self) -> Store:
        """An empty store; a replay that goes back begins with one."""
        return Store(self.alerts, self.sizes)

    @property
    def sink(self) -> Sink:
        """Where frames go: into the store, and into the recording where there is one."""
        return self.store if self.recorder is None else self.recorder

    async def observe(self) -> None:
        """Runs all sources and the recorder, until cancelled; the first thing that goes wrong ends it."""
        async with asyncio.TaskGroup() as tasks:
            for source in self.sources:
                tasks.create_task(source.run(self.sink), name=type(source).__name__)
            if self.recorder is not None:
                tasks.create_task(self.recorder.run(), name="recorder")
