"""`drain`: orders it, watches it, says what was finished and what is left; or takes it back."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from llmctl.client.operators import DrainStatus, OperatorClient, open_operator
from llmctl.durations import format_duration
from llmctl.exits import Failed, LimitNotMet, Unreachable
from llmctl.render.progress import progress_line
from llmctl.render.tables import BAD, GOOD, cell
from llmctl.render.terminal import Terminal
from llmctl.targets import Target

POLL_SECONDS = 0.25
GRACE_SECONDS = 5.0
"""So long after its limit the service has to say itself that the limit has passed."""


@dataclass(frozen=True)
class DrainOrder:
    """How to drain."""

    timeout_seconds: float
    until_empty: bool
    wait: bool


async def drain_and_report(order: DrainOrder, target: Target, terminal: Terminal) -> None:
    """Drains; raises LimitNotMet where the limit passes first."""
    async with open_operator(target.url, target.bearer_token) as operator:
        begun = time.monotonic()
        status = await operator.start_drain(order.timeout_seconds, until_empty=order.until_empty)
        if not order.wait:
            _report("draining", 0.0, status, terminal)
            return
        try:
            status = await _watch(operator, order, status, terminal)
        except asyncio.CancelledError:
            terminal.say("The drain goes on; `llmctl drain --resume` takes it back.", "yellow")
            raise
        waited_seconds = time.monotonic() - begun
    if status.state == "done":
        _report("drained", waited_seconds, status, terminal)
    elif status.state == "none":
        raise Failed("The drain was taken back by somebody else; the service accepts requests again.")
    else:
        _report("timeout", waited_seconds, status, terminal)
        raise LimitNotMet(
            f"Not drained within {format_duration(order.timeout_seconds)}: {status.describe()}. The service "
            "still refuses new requests; drain again with a longer --timeout, or --resume."
        )


async def resume_and_report(target: Target, terminal: Terminal) -> None:
    """Takes a drain back."""
    async with open_operator(target.url, target.bearer_token) as operator:
        _report("resumed", 0.0, await operator.resume(), terminal)


async def _watch(
    operator: OperatorClient, order: DrainOrder, status: DrainStatus, terminal: Terminal
) -> DrainStatus:
    """Waits until the service says how the drain ended."""
    begun = time.monotonic()
    with progress_line(terminal, counted=False) as line:
        while status.state == "running":
            left_seconds = order.timeout_seconds - (time.monotonic() - begun)
            if left_seconds < -GRACE_SECONDS:
                break
            limit = format_duration(max(0.0, left_seconds))
            line.begin(f"draining: {status.describe()}; {limit} left")
            await asyncio.sleep(POLL_SECONDS)
            try:
                status = await operator.read_drain()
            except Unreachable as problem:
                raise Unreachable(f"{problem} The last it said: {status.describe()}.") from problem
    return status


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
