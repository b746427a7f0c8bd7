"""`simulate load --record`: how a run stands, second by second, in the file that the monitor replays.

What the service and Kafka show is recorded by a monitor without a screen, in a process of its own: the
generator's time is for its schedule.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from llmctl.exits import Failed
from llmctl.jobs.load_views import say_value
from llmctl.tui.feeds.recording import Recorder
from llmctl.tui.model.frames import RunFigures
from simulator.load.injector import FaultInjector
from simulator.load.plan import LoadPlan
from simulator.load.referee import Phase, Referee, Where
from simulator.load.shape import rate_at

EVERY_SECONDS = 1.0
END_LIMIT_SECONDS = 10.0
GRACE_SECONDS = 60.0
"""How much longer than the run the other process records at most, should nobody end it."""
_COUNTS = ("intended", "sent", "accepted", "called_back", "failed", "rejected", "skipped")


@asynccontextmanager
async def record_run(
    path: Path | None, plan: LoadPlan, where: Where, referee: Referee, injector: FaultInjector
) -> AsyncIterator[None]:
    """Records while the run goes on, where a file is named; Failed where it cannot be written."""
    if path is None:
        yield
        return
    with Recorder(path) as recorder:
        observer = await _start_observer(path, plan, where)
        telling = asyncio.create_task(_tell(recorder, plan, referee, injector), name="record-run")
        try:
            yield
        finally:
            telling.cancel()
            recorder.take(RunFigures(time.time(), describe_run(plan, referee, injector, ended=True)))
            await _end(observer)


async def _tell(recorder: Recorder, plan: LoadPlan, referee: Referee, injector: FaultInjector) -> None:
    while True:
        recorder.take(RunFigures(time.time(), describe_run(plan, referee, injector)))
        await asyncio.to_thread(recorder.write)
        await asyncio.sleep(EVERY_SECONDS)


async def _start_observer(path: Path, plan: LoadPlan, where: Where) -> asyncio.subprocess.Process:
    longest = plan.warm_up_seconds + plan.shape.seconds + plan.settle_limit_seconds + GRACE_SECONDS
    arguments = ["monitor", *plan.callback_topics, "--headless", "--record", str(path)]
    arguments += ["--duration", f"{math.ceil(longest)}s"]
    arguments += ["--url", where.service_url]
    token = where.admin_token or where.token
    # How another Kafka is logged in to is none of this one's business.
    ours = {name: value for name, value in os.environ.items() if not name.startswith("LLMCTL_KAFKA_")}
    environment = {**ours, **where.kafka.for_llmctl(), **({"LLMCTL_TOKEN": token} if token else {})}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "llmctl",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        start_new_session=True,  # Ctrl-C is the run's: it goes on until its callbacks have come
    )


async def _end(observer: asyncio.subprocess.Process) -> None:
    if observer.returncode is None:
        observer.terminate()
    try:
        async with asyncio.timeout(END_LIMIT_SECONDS):
            _, said = await observer.communicate()
    except TimeoutError:
        observer.kill()
        await observer.wait()
        return
    if observer.returncode not in (0, 130):
        last = said.decode(errors="replace").strip().splitlines()[-1:]
        raise Failed(f"The recording ended early: {' '.join(last) or f'exit {observer.returncode}'}")


def describe_run(
    plan: LoadPlan, referee: Referee, injector: FaultInjector, *, ended: bool = False
) -> dict[str, Any]:
    """How the run stands, as `RunFigures` tells it."""
    figures, at = referee.figures, referee.seconds
    full = figures.slices(2)[:-1]  # the last one is not over
    active = referee.phase is Phase.ACTIVE
    return {
        "run_id": plan.run_id,
        "phase": "ended" if ended else referee.phase.value,
        "shape": str(plan.shape),
        "seconds": round(at, 1),
        "intended_per_second": rate_at(plan.shape, at) if active and not plan.shape.is_closed else None,
        "sent_per_second": full[-1].sent / figures.slice_seconds if full else None,
        "counts": {name: figures.total(name) for name in _COUNTS},
        "outstanding": referee.outstanding,
        "lateness_p99": figures.generator_figures().lateness_p99,
        "thresholds": _describe_thresholds(plan, referee),
        "faults": _describe_faults(plan, at, injector),
    }


def _describe_thresholds(plan: LoadPlan, referee: Referee) -> list[dict[str, Any]]:
    described = []
    for threshold in plan.thresholds:
        known_at_end = threshold.metric.startswith("ledger.") or threshold.metric == "cpu_per_request"
        value = None if known_at_end else referee.figures.read(threshold.metric, threshold.aggregate)
        described.append(
            {
                "text": str(threshold),
                "value": value,
                "said": None if value is None else say_value(value, threshold.unit),
                "met": None if value is None else threshold.holds(value),
            }
        )
    return described


def _describe_faults(plan: LoadPlan, at: float, injector: FaultInjector) -> list[dict[str, Any]]:
    marks = {mark.fault: mark for mark in injector.marks}
    described = []
    for fault in plan.faults:
        mark = marks.get(fault.text)
        state = "ahead" if at < fault.at_seconds else "active"
        if mark is not None:
            state = "over" if mark.problem is None else f"failed: {mark.problem}"
        described.append({"text": fault.text, "at": fault.at_seconds, "state": state})
    return described
