"""A run's load workers: started, told when to begin, listened to, and stopped."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from simulator.load.dispatch import (
    MAX_LINE_BYTES,
    Begin,
    Message,
    Release,
    Stop,
    WorkerBatch,
    WorkerPlan,
    write_message,
)

LAST_WORDS_BYTES: Final = 4096
BATCHES_AHEAD: Final = 100
"""Batches that may wait to be taken before the workers are read no further."""


class WorkerError(Exception):
    """A load worker did not start or ended before its work was done; the text names it and says why."""


@dataclass
class _Child:
    """A worker's process, and the end of what it said on standard error."""

    name: str
    process: asyncio.subprocess.Process
    last_words: bytearray = field(default_factory=bytearray)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def describe_end(self) -> str:
        """How it ended, in its own last words."""
        code = await self.process.wait()
        await self.tasks[0]
        lines = self.last_words.decode("utf-8", "replace").splitlines()
        words = next((line.strip() for line in reversed(lines) if line.strip()), "")
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return f"{self.name} {how} before its work was done" + (f": {words}" if words else ".")


class Workers:
    """Running load workers: `async with Workers(plan, 2) as workers`.

    Once entered all are ready. Whatever ends this process, they end with it: each holds the reading end of a
    pipe whose writing end is ours. All moments are seconds of CLOCK_MONOTONIC (`time.monotonic`).
    """

    def __init__(
        self,
        plan: WorkerPlan,
        count: int = 1,
        *,
        ready_limit_seconds: float = 30.0,
        stop_limit_seconds: float = 5.0,
    ) -> None:
        """`plan` is the same for all; which worker each is, it is told here."""
        if count < 1:
            raise ValueError(f"a load needs at least 1 worker; got {count}")
        self._plans = [plan.model_copy(update={"worker": place, "workers": count}) for place in range(count)]
        self._ready_limit_seconds = ready_limit_seconds
        self._stop_limit_seconds = stop_limit_seconds
        self._children: list[_Child] = []
        self._said: asyncio.Queue[WorkerBatch | WorkerError] = asyncio.Queue(BATCHES_AHEAD)
        self._released = 0

    async def __aenter__(self) -> Self:
        try:
            for plan in self._plans:
                await self._start(plan)
            for child in self._children:
                await self._await_ready(child)
        except BaseException:
            await self._end()
            raise
        for child in self._children:
            listening = asyncio.create_task(self._listen(child), name=f"{child.name} output")
            child.tasks.append(listening)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    @property
    def pids(self) -> tuple[int, ...]:
        """Of their processes, in order."""
        return tuple(child.process.pid for child in self._children)

    def begin(self, at: float) -> None:
        """The schedule's second 0; a moment that is a little ahead, so that all have heard of it."""
        self._order_all(Begin(at=at))

    def release(self, count: int, at: float) -> None:
        """So many more requests of a closed loop are due; the workers take turns."""
        for place, child in enumerate(self._children):
            first = (place - self._released) % len(self._children)
            share = len(range(first, count, len(self._children)))
            if share:
                self._order(child, Release(count=share, at=at))
        self._released += count

    def stop(self, finish_within_seconds: float) -> None:
        """Sends nothing that is due from now on; what is open so much later is given up as ambiguous.

        The batches go on until everything is told. A closed loop ends in no other way.
        """
        now = time.monotonic()
        self._order_all(Stop(at=now, finish_by=now + finish_within_seconds))

    async def batches(self) -> AsyncIterator[WorkerBatch]:
        """What the workers tell, until each has told everything; WorkerError where one ends before that."""
        left = len(self._children)
        while left:
            said = await self._said.get()
            if isinstance(said, WorkerError):
                raise said
            left -= said.is_last
            yield said

    def _order_all(self, order: Message) -> None:
        for child in self._children:
            self._order(child, order)

    def _order(self, child: _Child, order: Message) -> None:
        assert child.process.stdin is not None
        if not child.process.stdin.is_closing():  # it is where the worker has ended
            child.process.stdin.write(write_message(order))

    async def _start(self, plan: WorkerPlan) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # a folder named as one of our modules where the user stands is not ours
            "-m",
            "simulator.load.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches us, and we stop the workers in order
            limit=MAX_LINE_BYTES,
        )
        child = _Child(f"Load worker {plan.worker + 1} of {plan.workers}", process)
        child.tasks.append(asyncio.create_task(_keep_last_words(child), name=f"{child.name} errors"))
        self._children.append(child)
        self._order(child, plan)

    async def _await_ready(self, child: _Child) -> None:
        assert child.process.stdout is not None
        try:
            async with asyncio.timeout(self._ready_limit_seconds):
                line = await child.process.stdout.readline()
                if not line:
                    raise WorkerError(await child.describe_end())
        except TimeoutError as problem:
            raise WorkerError(
                f"{child.name} was not ready within {self._ready_limit_seconds:g} s."
            ) from problem

    async def _listen(self, child: _Child) -> None:
        """Hands on what a worker tells, and at last how it ended where it should not have."""
        assert child.process.stdout is not None
        try:
            while line := await child.process.stdout.readline():
                batch = WorkerBatch.unpack(line)
                await self._said.put(batch)
                if batch.is_last:
                    return
        except (ValueError, TypeError) as problem:  # the latter for JSON of another shape
            await self._said.put(WorkerError(f"{child.name} said what is no batch: {problem}"))
        else:
            await self._said.put(WorkerError(await child.describe_end()))

    async def _end(self) -> None:
        """Ends all; whoever cancels this is heard when they have ended."""
        ending = asyncio.create_task(self._end_children(), name="end the load workers")
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            await ending
            raise

    async def _end_children(self) -> None:
        for child in self._children:
            assert child.process.stdin is not None
            child.process.stdin.close()
        for child in self._children:
            for task in child.tasks[1:]:
                task.cancel()
            try:
                async with asyncio.timeout(self._stop_limit_seconds):
                    await child.process.wait()
            except TimeoutError:
                child.process.kill()
                await child.process.wait()
            await asyncio.gather(*child.tasks, return_exceptions=True)


async def _keep_last_words(child: _Child) -> None:
    assert child.process.stderr is not None
    while words := await child.process.stderr.read(LAST_WORDS_BYTES):
        child.last_words += words
        del child.last_words[:-LAST_WORDS_BYTES]
