"""`simulate load`: brings up what is needed, lets the referee run, shows it live, says the verdict."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from llmctl.client.topics import TopicWish, bootstrap_topics
from llmctl.exits import (
    CallbackProblem,
    CliError,
    Failed,
    GeneratorLimited,
    Interrupted,
    LimitNotMet,
    UsageProblem,
)
from llmctl.jobs.load_views import live_view, show_run
from llmctl.jobs.run_recording import record_run
from llmctl.jobs.scenarios import check_scenario
from llmctl.loop import first_problem
from llmctl.render.progress import progress_line
from llmctl.render.terminal import Terminal
from llmctl.targets import Target
from simulator.broker.control import find_control
from simulator.load.document import Findings, RunExit, write_document
from simulator.load.injector import FaultInjector, Targets, find_untouchable
from simulator.load.plan import LoadPlan
from simulator.load.referee import Course, Ending, Referee, Where
from simulator.load.reports.folder import ReportError, write_report
from simulator.load.run_document import RunDocument
from simulator.load.watch import WatchError
from simulator.load.workers import WorkerError
from simulator.stack import Stack, StackError, StackPlan

PARTITIONS = 6
REQUESTS_FILE = "requests.jsonl.gz"
_TROUBLE = (WatchError, WorkerError, StackError, ReportError)
"""What ends a run with one sentence."""


@dataclass(frozen=True)
class LoadOrder:
    """What was asked for."""

    plan: LoadPlan
    running: Target | None
    """A system that runs already; None brings up a stack of our own."""
    scenario: str | None
    admin_token: str | None
    report: Path | None
    record: Path | None = None
    """What `llmctl monitor --replay` plays."""

    def describe(self) -> dict[str, Any]:
        """The configuration as it is kept, without tokens."""
        plan = self.plan
        return {
            "shape": str(plan.shape),
            "warm_up_seconds": plan.warm_up_seconds,
            "workers": plan.workers,
            "max_outstanding": plan.max_outstanding,
            "callback_topics": list(plan.callback_topics),
            "provider": None if plan.provider is None else plan.provider.value,
            "thresholds": [str(threshold) for threshold in plan.thresholds],
            "faults": [fault.text for fault in plan.faults],
            "settle_limit_seconds": plan.settle_limit_seconds,
            "quiet_seconds": plan.quiet_seconds,
            "late_after_seconds": plan.late_after_seconds,
            "scenario": None if self.running else self.scenario or "calm",
            "target": self.running.url if self.running else "a stack of its own",
        }


@dataclass(frozen=True)
class _System:
    """What is driven, and how faults reach it."""

    where: Where
    targets: Targets
    stack: Stack | None

    async def watch(self) -> None:
        """Never returns; raises where a part of our own ends by itself."""
        if self.stack is None:
            await asyncio.Event().wait()
        else:
            await self.stack.wait()


async def load_and_report(order: LoadOrder, terminal: Terminal) -> None:
    """Runs the load and says the verdict; the exception that ends it carries the exit code."""
    document = await run_load(order, obey_signals(terminal), terminal)
    show_run(document, terminal, order.report)
    _judge(document, order.report)


def obey_signals(terminal: Terminal) -> Ending:
    """The wish to end early, which Ctrl-C and SIGTERM express from here on."""
    ending = Ending()

    def obey() -> None:
        if not ending.sending.is_set():
            terminal.say("No more is sent; callbacks are waited for. Ctrl-C again ends at once.", "yellow")
        ending.ask()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, obey)
    return ending


async def run_load(order: LoadOrder, ending: Ending, terminal: Terminal) -> RunDocument:
    """Runs a load, with a stack of its own where no system was named; Failed where that cannot be done."""
    try:
        return await _run(_complete(order), ending, terminal)
    except BaseExceptionGroup as problems:
        raise _translate(first_problem(problems)) from problems
    except _TROUBLE as problem:
        raise _translate(problem) from problem


def _complete(order: LoadOrder) -> LoadOrder:
    """The order with all that can be settled before anything is started; UsageProblem or Failed."""
    plan = order.plan
    if order.running is not None and order.scenario is not None:
        raise UsageProblem(
            "--scenario is for the fake provider of a stack of our own; leave it out with --url."
        )
    check_scenario(order.scenario or "calm")
    if not plan.callback_topics:
        plan = replace(plan, callback_topics=(f"llmctl.{plan.run_id}",))
    if order.report is not None:
        try:
            order.report.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise Failed(f"The folder {order.report} cannot be made: {problem.strerror}.") from problem
        plan = replace(plan, requests_file=order.report / REQUESTS_FILE)
    return replace(order, plan=plan)


async def _run(order: LoadOrder, ending: Ending, terminal: Terminal) -> RunDocument:
    plan = order.plan
    async with _open_system(order, terminal) as system:
        untouchable = find_untouchable(plan.faults, system.targets)
        if untouchable is not None:
            raise UsageProblem(untouchable)
        injector = FaultInjector(plan.faults, system.targets)
        referee = Referee(plan, system.where, injector)
        terminal.say(f"Run {plan.run_id}: {plan.shape}, seed {plan.seed}.")
        async with record_run(order.record, plan, system.where, referee, injector):
            with live_view(referee, plan, terminal):
                course = await referee.run(ending, system.watch())
    document = _write(order, referee, course, injector)
    if order.report is not None:
        await asyncio.to_thread(write_report, order.report, document)
    return document


def _write(order: LoadOrder, referee: Referee, course: Course, injector: FaultInjector) -> RunDocument:
    findings = Findings(referee.figures, referee.ledger, course, injector.marks)
    return write_document(order.plan, findings, order.describe(), version("llmctl"))


@asynccontextmanager
async def _open_system(order: LoadOrder, terminal: Terminal) -> AsyncIterator[_System]:
    """The running system that was named, or a stack of our own that ends with the run."""
    topics = [TopicWish(name, partitions=PARTITIONS) for name in order.plan.callback_topics]
    async with AsyncExitStack() as closing:
        if order.running is not None:
            target = order.running
            await bootstrap_topics(target.kafka, topics)
            where = Where(target.url, target.kafka, target.bearer_token, order.admin_token)
            broker = await find_control(target.kafka.servers)
            yield _System(where, Targets(broker=broker), None)
            return
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="llmctl-load-")))
        stack = Stack(StackPlan(folder, scenario=order.scenario or "calm"))
        closing.callback(_say_notes, stack, terminal)
        with progress_line(terminal, counted=False) as progress:
            progress.begin("starting broker, provider and service")
            await closing.enter_async_context(stack)
        addresses = stack.addresses
        await bootstrap_topics(addresses.kafka, topics)
        where = Where(
            addresses.service_url,
            addresses.kafka,
            service_pid=lambda: stack.addresses.pids.get("service"),
        )
        provider_url = addresses.provider_urls["anthropic"]  # the one whose base URL is the root
        broker = await find_control(addresses.kafka.servers)
        yield _System(where, Targets(broker, provider_url, stack), stack)


def _say_notes(stack: Stack, terminal: Terminal) -> None:
    for note in stack.notes:
        terminal.say(note, "yellow")


def _translate(problem: BaseException) -> BaseException:
    """The error as the command line tells it."""
    if isinstance(problem, CliError):
        return problem
    return Failed(str(problem)) if isinstance(problem, _TROUBLE) else problem


def _judge(document: RunDocument, report: Path | None) -> None:
    """Ends the command as the verdicts want it."""
    where = "" if report is None else f"; {report / 'report.html'} shows all"
    match RunExit(document.exit_code):
        case RunExit.INTERRUPTED:
            raise Interrupted(f"Interrupted; what was measured until then was reported{where}.")
        case RunExit.UNSOUND:
            raise CallbackProblem(f"{_name_unsound(document)}{where}.")
        case RunExit.INVALID:
            raise GeneratorLimited(" ".join(document.validity.reasons))
        case RunExit.THRESHOLD:
            missed = ", ".join(each.threshold for each in document.thresholds if not each.met)
            raise LimitNotMet(f"Not met: {missed}{where}.")
        case RunExit.DONE:
            return


def _name_unsound(document: RunDocument) -> str:
    """Which callbacks are wrong, with the first ids of each kind."""
    fine = {"ok", "failed", "late"}
    said = [
        f"{document.ledger.totals.get(verdict, len(ids))} {verdict.replace('_', ' ')} ({', '.join(ids[:3])}"
        f"{', …' if len(ids) > 3 else ''})"
        for verdict, ids in document.ledger.examples.items()
        if verdict not in fine
    ]
    return f"Callbacks are not as they must be: {'; '.join(said)}"
