"""Runs a load and judges it: every accepted request against what comes back on the topics.

The phases are warm-up, active, settle (until every callback is there) and quiet (in which a second callback
would show itself). What is sent, what is received and what the service says of itself arrives in batches;
they are matched here, by queue_id, into figures and the ledger.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from simulator.kafka_address import KafkaAddress
from simulator.load.dispatch import WorkerBatch
from simulator.load.figures import Callback, Figures, ServiceReading
from simulator.load.injector import FaultInjector
from simulator.load.ledger import Ambiguous, Ledger
from simulator.load.plan import LoadPlan
from simulator.load.probe import ProcessUse, ServiceProbe, read_process
from simulator.load.requests_file import RequestsFile, Story
from simulator.load.run_document import Span
from simulator.load.stages import Closed
from simulator.load.submits import Submit, SubmitEnd
from simulator.load.watch import Reading, TopicWatch
from simulator.load.workers import Workers

BEGIN_AHEAD_SECONDS = 0.3
"""So much later than it is ordered a run begins, so that every worker has heard of it."""
PROBE_EVERY_SECONDS = 1.0
LOOK_EVERY_SECONDS = 0.05
FINISH_SECONDS = 5.0
"""How long open HTTP requests may take once a run is ended early."""


REFEREE = -1
"""This process, among the workers' numbers."""


class Phase(StrEnum):
    """Where a run stands."""

    PREFLIGHT = "preflight"
    WARM_UP = "warm-up"
    ACTIVE = "active"
    SETTLE = "settle"
    QUIET = "quiet"


@dataclass(frozen=True)
class Where:
    """The system that is driven."""

    service_url: str
    kafka: KafkaAddress
    token: str | None = None
    admin_token: str | None = None
    service_pid: Callable[[], int | None] = lambda: None
    """Of the service's process where it is on this machine; another one after a kill."""


class Ending:
    """The wish to end a run early: the first time no more is sent, the second time nothing is waited for."""

    def __init__(self) -> None:
        self.sending = asyncio.Event()
        self.waiting = asyncio.Event()

    def ask(self) -> None:
        """Somebody wants the run to end."""
        (self.waiting if self.sending.is_set() else self.sending).set()


@dataclass(frozen=True)
class Course:
    """All that a run brought to light, for whoever writes its document."""

    begin_wall: float
    """Second 0, since 1970."""
    spans: tuple[Span, ...]
    busiest_cpu_share: float
    """Of one core, by the busiest of the generator's processes while it sent."""
    drain_seconds: float | None
    """From the last intended send until nothing was outstanding; None where it never came to that."""
    service_cpu_seconds: float | None
    unsent: Mapping[str, int]
    """Requests that never left, by why: `unreachable` and `skipped`."""
    interrupted: bool


class Referee:
    """One run; `figures` and `ledger` may be looked at while it goes on."""

    def __init__(self, plan: LoadPlan, where: Where, injector: FaultInjector) -> None:
        self._plan = plan
        self._where = where
        self._injector = injector
        self.ledger = Ledger(late_after_seconds=plan.late_after_seconds)
        # A single burst takes no time; its active phase is the second in which it is sent.
        self.figures = Figures(max(plan.shape.seconds, 1.0), plan.thresholds)
        self.phase = Phase.PREFLIGHT
        self._begin = 0.0
        self._begin_wall = 0.0
        self._spans: list[Span] = []
        self._open: dict[str, Submit] = {}
        """Accepted requests without a callback, by queue_id."""
        self._early: dict[str, Reading] = {}
        """Callbacks to requests of which no 202 is known yet, by queue_id."""
        self._doubtful: dict[str, Submit] = {}
        """Requests of which nobody knows whether they were accepted, by correlation id."""
        self._unsent = {SubmitEnd.UNREACHABLE: 0, SubmitEnd.SKIPPED: 0}
        self._file: RequestsFile | None = None
        self._workers: Workers | None = None
        self._cpu_marks: dict[int, tuple[float, float]] = {}
        """When each process of the generator was looked at first, and its CPU seconds then."""
        self._cpu_shares: dict[int, float] = {}
        self._target = 0
        """How many requests a closed loop is to keep outstanding now."""
        self._withheld = 0
        """How many places of a closed loop are not filled again, for its target has become smaller."""
        self._service_cpu_seconds: float | None = None

    @property
    def seconds(self) -> float:
        """How far the run is; negative in the warm-up."""
        return time.monotonic() - self._begin if self._begin else -self._plan.warm_up_seconds

    @property
    def outstanding(self) -> int:
        """Accepted requests whose callback is still to come."""
        return len(self._open)

    async def run(self, ending: Ending, watching: Awaitable[None]) -> Course:
        """Carries the run out; `watching` never returns, and raises where a part of the system ends.

        Raises an exception group with `WatchError`, `WorkerError` or whatever `watching` raises.
        """
        plan, where = self._plan, self._where
        probe = ServiceProbe(where.service_url, where.admin_token)
        workers = Workers(plan.for_workers(where.service_url, where.token), plan.workers)
        async with (
            TopicWatch(where.kafka, plan.callback_topics, plan.run_id, self._take_readings) as watch,
            workers,
        ):
            self._workers = workers
            self._begin = time.monotonic() + BEGIN_AHEAD_SECONDS + plan.warm_up_seconds
            self._begin_wall = time.time() + BEGIN_AHEAD_SECONDS + plan.warm_up_seconds
            self._file = RequestsFile(plan.requests_file, self._begin, self._begin_wall)
            try:
                async with asyncio.TaskGroup() as tasks:
                    helpers = [
                        tasks.create_task(self._probe(probe), name="probe"),
                        tasks.create_task(self._injector.run(self._begin), name="faults"),
                        tasks.create_task(watch.wait(), name="topics"),
                        tasks.create_task(_await(watching), name="system"),
                    ]
                    drain_seconds = await self._pass_phases(workers, ending)
                    for helper in helpers:
                        helper.cancel()
            finally:
                self._tell_rest(was_ended=ending.sending.is_set())
                self._file.close()
                await probe.close()
        return Course(
            begin_wall=self._begin_wall,
            spans=tuple(self._spans),
            busiest_cpu_share=max(self._cpu_shares.values(), default=0.0),
            drain_seconds=drain_seconds,
            service_cpu_seconds=self._service_cpu_seconds,
            unsent={end.value: count for end, count in self._unsent.items()},
            interrupted=ending.sending.is_set(),
        )

    # --- the phases ---

    async def _pass_phases(self, workers: Workers, ending: Ending) -> float | None:
        plan = self._plan
        workers.begin(self._begin - plan.warm_up_seconds)
        async with asyncio.TaskGroup() as tasks:
            steering = [tasks.create_task(self._end_early(workers, ending), name="early end")]
            steering.append(tasks.create_task(self._keep_phase(), name="phase"))
            if plan.shape.is_closed:
                steering.append(tasks.create_task(self._steer_closed(workers), name="closed loop"))
            async for batch in workers.batches():
                self._take_batch(batch)
            for task in steering:
                task.cancel()
        active_ends = self.figures.active_seconds
        self._note(Phase.ACTIVE, 0.0, active_ends)
        settle_begins = self.seconds
        self.phase = Phase.SETTLE
        drained = await self._wait(
            lambda: not self.ledger.outstanding or ending.waiting.is_set(), plan.settle_limit_seconds
        )
        is_drained = drained and not self.ledger.outstanding
        # All may be called back before the last phase of sending is over.
        drain_seconds = max(0.0, self.seconds - active_ends) if is_drained else None
        self._note(Phase.SETTLE, settle_begins, self.seconds)
        self.phase = Phase.QUIET
        quiet_begins = self.seconds
        await self._wait(ending.waiting.is_set, plan.quiet_seconds)
        self._note(Phase.QUIET, quiet_begins, self.seconds)
        return drain_seconds

    async def _keep_phase(self) -> None:
        if self._plan.warm_up_seconds:
            self.phase = Phase.WARM_UP
        await asyncio.sleep(max(0.0, self._begin - time.monotonic()))
        if self._plan.warm_up_seconds:
            self._note(Phase.WARM_UP, -self._plan.warm_up_seconds, 0.0)
        self.phase = Phase.ACTIVE

    async def _end_early(self, workers: Workers, ending: Ending) -> None:
        await ending.sending.wait()
        self.figures.cut_short(max(self.seconds, LOOK_EVERY_SECONDS))
        self._target = 0
        workers.stop(FINISH_SECONDS)
        await ending.waiting.wait()
        workers.stop(0.0)

    async def _wait(self, is_so: Callable[[], bool], limit_seconds: float) -> bool:
        """Waits for a condition, at most so long; whether it came true. Stories that are over are written."""
        limit = time.monotonic() + limit_seconds
        while not is_so():
            if time.monotonic() >= limit:
                return False
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            self._write_due()
        return True

    async def _steer_closed(self, workers: Workers) -> None:
        """Keeps as many requests outstanding as each stage wants, and ends the last one."""
        for stage, begins in _place_stages(self._plan.shape.stages):
            await asyncio.sleep(max(0.0, self._begin + begins - time.monotonic()))
            wanted = stage.callers * stage.outstanding
            self._withheld = max(0, self._withheld + self._target - wanted)
            if wanted > self._target:
                workers.release(wanted - self._target, time.monotonic())
            self._target = wanted
        await asyncio.sleep(max(0.0, self._begin + self._plan.shape.seconds - time.monotonic()))
        self._target = 0
        workers.stop(FINISH_SECONDS)

    def _finish_one(self) -> None:
        """A request of a closed loop has come to its end: its place is free."""
        if not self._target or self._workers is None:
            return
        if self._withheld:
            self._withheld -= 1
        else:
            self._workers.release(1, time.monotonic())

    # --- what arrives ---

    def _take_batch(self, batch: WorkerBatch) -> None:
        if self.phase is Phase.ACTIVE:
            self._judge_cpu(batch.worker, batch.at, batch.pulse.cpu_seconds)
            self._judge_cpu(REFEREE, time.monotonic(), time.process_time())
        for submit in batch.submits:
            self._take_submit(submit)
        self._write_due()

    def _take_submit(self, submit: Submit) -> None:
        intended = submit.intended - self._begin
        self.figures.intended(intended)
        if submit.sent is not None:
            self.figures.sent(intended, submit.sent - self._begin)
        fact = submit.to_fact()
        if fact is not None:
            self.ledger.fold(fact)
        match submit.end:
            case SubmitEnd.ACCEPTED:
                assert submit.queue_id is not None
                assert submit.sent is not None
                self.figures.accepted(intended, submit.sent - self._begin, submit.ended - self._begin)
                reading = self._early.pop(submit.queue_id, None)
                if reading is None:
                    self._open[submit.queue_id] = submit
                else:
                    self._match(submit, reading)
                return
            case SubmitEnd.REJECTED:
                self.figures.rejected(intended, submit.ended - self._begin)
            case SubmitEnd.AMBIGUOUS:
                assert submit.correlation_id is not None
                assert submit.callback_topic is not None
                self.ledger.fold(Ambiguous(UUID(submit.correlation_id), submit.callback_topic))
                self._doubtful[submit.correlation_id] = submit
                return
            case SubmitEnd.SKIPPED:
                self.figures.skipped(intended)
                self._unsent[submit.end] += 1
            case SubmitEnd.UNREACHABLE:
                self._unsent[submit.end] += 1
        self._tell(Story(submit, None, time.monotonic()))
        self._finish_one()

    def _take_readings(self, readings: Sequence[Reading]) -> None:
        for reading in readings:
            self.ledger.fold(reading.fact)
            submit = self._open.pop(reading.queue_id or "", None)
            if submit is None and reading.fact.key is not None:
                submit = self._doubtful.pop(reading.fact.key.decode("utf-8", "replace"), None)
            if submit is not None:
                self._match(submit, reading)
            elif reading.queue_id is not None:
                self._early[reading.queue_id] = reading

    def _match(self, submit: Submit, reading: Reading) -> None:
        """A request has its first callback."""
        begin, timing = self._begin, reading.timing
        publish = delivery = queue_wait = None
        if reading.appended_wall is not None:
            # Kafka's times are whole milliseconds, and two machines' clocks differ: what seems negative is 0.
            delivery = max(0.0, reading.received_wall - reading.appended_wall)
            publish = max(0.0, reading.appended_wall - timing.completed) if timing else None
        if timing is not None:
            queue_wait = max(0.0, timing.completed - timing.requested - timing.provider_seconds)
        self.figures.called_back(
            Callback(
                intended_at=submit.intended - begin,
                at=reading.fact.received_at - begin,
                success=reading.success,
                sent_at=None if submit.sent is None else submit.sent - begin,
                accepted_at=submit.ended - begin if submit.queue_id is not None else None,
                queue_wait=queue_wait,
                provider=None if timing is None else timing.provider_seconds,
                publish=publish,
                delivery=delivery,
            )
        )
        self._tell(Story(submit, reading, time.monotonic() + self._plan.quiet_seconds))
        self._finish_one()

    # --- what is told ---

    def _tell(self, story: Story) -> None:
        assert self._file is not None
        self._file.add(story)

    def _write_due(self) -> None:
        assert self._file is not None
        for story in self._file.take_due(time.monotonic()):
            self._file.write(story, self._judge(story))

    def _tell_rest(self, *, was_ended: bool) -> None:
        """What is still without an end is told as it stands; where the run `was_ended`, that is why."""
        assert self._file is not None
        for submit in (*self._open.values(), *self._doubtful.values()):
            if was_ended:
                self.figures.cancelled(submit.intended - self._begin)
            self._file.add(Story(submit, None, 0.0))
        for story in self._file.take_due(float("inf")):
            self._file.write(story, self._judge(story))

    def _judge(self, story: Story) -> str | None:
        queue_id = story.submit.queue_id or (story.reading.queue_id if story.reading else None)
        verdict = None if queue_id is None else self.ledger.judge(queue_id)
        return None if verdict is None else verdict.value

    def _note(self, phase: Phase, begins: float, ends: float) -> None:
        self._spans.append(Span(name=phase.value, begins=begins, ends=max(begins, ends)))

    def _judge_cpu(self, process: int, at: float, cpu_seconds: float) -> None:
        """How much of a core a process of the generator has taken since the active phase began."""
        marked_at, marked = self._cpu_marks.setdefault(process, (at, cpu_seconds))
        if at - marked_at >= PROBE_EVERY_SECONDS:  # else it is too short to tell
            self._cpu_shares[process] = (cpu_seconds - marked) / (at - marked_at)

    async def _probe(self, probe: ServiceProbe) -> None:
        """Asks the service how it is, once a second, as long as the run goes on."""
        await asyncio.sleep(max(0.0, self._begin - self._plan.warm_up_seconds - time.monotonic()))
        before: ProcessUse | None = None
        while True:
            state = await probe.look()
            pid = self._where.service_pid()
            use = None if pid is None else read_process(pid)
            cpu_percent = None
            # A process that was killed and started again begins at 0: what it took in between is not known.
            if use and before and use.cpu_seconds >= before.cpu_seconds and use.at > before.at:
                spent = use.cpu_seconds - before.cpu_seconds
                cpu_percent = 100 * spent / (use.at - before.at)
                if self.seconds > 0:
                    self._service_cpu_seconds = (self._service_cpu_seconds or 0.0) + spent
            before = use
            self.figures.observe_service(
                self.seconds,
                ServiceReading(
                    queue_depth=state.queue_depth if state else None,
                    in_flight=state.in_flight if state else None,
                    outbox_depth=state.outbox_depth if state else None,
                    cpu_percent=cpu_percent,
                    memory_bytes=use.memory_bytes if use else None,
                ),
            )
            await asyncio.sleep(PROBE_EVERY_SECONDS)


async def _await(watching: Awaitable[None]) -> None:
    await watching


def _place_stages(stages: Sequence[object]) -> list[tuple[Closed, float]]:
    """Each stage of a closed loop and when it begins."""
    placed, begins = [], 0.0
    for stage in stages:
        assert isinstance(stage, Closed)
        placed.append((stage, begins))
        begins += stage.seconds
    return placed
