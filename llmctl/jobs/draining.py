"""`drain`: orders it, watches it, says what was finished and what is left; or takes it back."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from llmctl.client.operators import DrainStatus, OperatorClient, open_operator
from llmctl.exits import Failed, Interrupted, LimitNotMet, Unreachable
from llmctl.masking import mask_url
from llmctl.render.progress import progress_line
from llmctl.render.tables import BAD, GOOD, cell
from llmctl.render.terminal import Terminal
from llmctl.targets import Target
from simulator.quantities import format_duration

POLL_SECONDS = 0.25
GRACE_SECONDS = 5.0
"""So long after its limit the service has to say itself that the limit has passed."""
TAKE_BACK = "`llmctl drain --resume` takes it back"


@dataclass(frozen=True)
class DrainOrder:
    """How to drain."""

    timeout_seconds: float
    until_empty: bool
    wait: bool


class Drain:
    """One drain as it is seen from here: what the service last said of it, and since when it is watched."""

    def __init__(self, order: DrainOrder, target: Target, terminal: Terminal) -> None:
        self._order = order
        self._url = target.url
        self._token = target.bearer_token
        self._terminal = terminal
        self._ordered = False
        self._begun = time.monotonic()
        self._status: DrainStatus | None = None

    async def carry_out(self) -> None:
        """Drains and reports; LimitNotMet where the limit passes, Unreachable where the service goes away."""
        async with open_operator(self._url, self._token) as operator:
            self._ordered = True
            self._status = await operator.start_drain(
                self._order.timeout_seconds, until_empty=self._order.until_empty
            )
            self._begun = time.monotonic()
            if not self._order.wait:
                _report("draining", 0.0, self._status, self._terminal)
                return
            self._status = await self._watch(operator, self._status)
        self._judge(self._status)

    def explain_interruption(self) -> Interrupted:
        """What ends with a signal is the waiting; the service goes on. Reports what it last said."""
        if not self._ordered:
            return Interrupted("Interrupted before anything was asked of the service.")
        if self._status is None:
            return Interrupted(f"Interrupted before an answer came; the drain may go on, {TAKE_BACK}.")
        if self._terminal.as_json:
            _report("draining", time.monotonic() - self._begun, self._status, self._terminal)
        return Interrupted(f"Interrupted, but the drain goes on: {self._status.describe()}; {TAKE_BACK}.")

    async def _watch(self, operator: OperatorClient, status: DrainStatus) -> DrainStatus:
        """Asks until the service says how the drain ended, or nothing while it should have."""
        limit_seconds = self._order.timeout_seconds
        try:
            # Around the asking too: a service that is there and silent must not outlast the limit.
            async with asyncio.timeout(limit_seconds + GRACE_SECONDS):
                with progress_line(self._terminal, counted=False) as line:
                    while status.state == "running":
                        left_seconds = max(0.0, limit_seconds - (time.monotonic() - self._begun))
                        line.begin(f"{format_duration(left_seconds)} left: {status.describe_briefly()}")
                        await asyncio.sleep(POLL_SECONDS)
                        self._status = status = await operator.read_drain()
        except TimeoutError:
            return status
        except Unreachable as problem:
            raise Unreachable(
                f"The service at {mask_url(self._url)} went away while draining; "
                f"it last said: {status.describe()}."
            ) from problem
        return status

    def _judge(self, status: DrainStatus) -> None:
        waited_seconds = time.monotonic() - self._begun
        if status.state == "done":
            _report("drained", waited_seconds, status, self._terminal)
            return
        if status.state == "none":
            raise Failed(
                "The drain was taken back, or the service was started again: "
                f"it is {status.phase} and not drained."
            )
        _report("timeout", waited_seconds, status, self._terminal)
        raise LimitNotMet(
            f"Not drained within {format_duration(self._order.timeout_seconds)}: {status.describe()}. The "
            "service still refuses new requests; drain again with a longer --timeout, or --resume."
        )


async def resume_and_report(target: Target, terminal: Terminal) -> None:
    """Takes a drain back."""
    async with open_operator(target.url, target.bearer_token) as operator:
        _report("resumed", 0.0, await operator.resume(), terminal)


_SENTENCES = {
    "drained": "Drained in {waited}: {figures}.",
    "timeout": "Not drained after {waited}: {figures}.",
    "draining": "The drain has begun: {figures}.",
    "resumed": "Resumed: the service accepts requests again; {queued} wait in its queue.",
}


def _report(state: str, waited_seconds: float, status: DrainStatus, terminal: Terminal) -> None:
    if terminal.as_json:
        terminal.write(
            {
                "state": state,
                "waited_seconds": round(waited_seconds, 3),
                "finished": status.finished,
                "remaining_in_flight": status.in_flight,
                "left_queued": status.queued,
                "outbox": status.outbox,
            }
        )
        return
    sentence = _SENTENCES[state].format(
        waited=format_duration(waited_seconds), figures=status.describe(), queued=status.queued
    )
    terminal.show(cell(sentence, BAD if state == "timeout" else GOOD, wrap=True))
