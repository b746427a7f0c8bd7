"""`monitor`: puts a session together, and shows it, prints it once, records it, or serves it to a browser."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from llmctl.exits import Failed, UsageProblem
from llmctl.loop import own_tasks
from llmctl.masking import mask_url
from llmctl.render.tables import NOTHING, cell, make_table
from llmctl.render.terminal import Terminal
from llmctl.targets import Target
from llmctl.tui.feeds.kafka import CallbackSource, TopicSource
from llmctl.tui.feeds.mock import MockFeed
from llmctl.tui.feeds.recording import Recorder, Recording
from llmctl.tui.feeds.replay import Replay, ReplayClock, RunFollower
from llmctl.tui.feeds.service import ServiceFeed
from llmctl.tui.model.clock import LiveClock
from llmctl.tui.model.reading import LATENCIES
from llmctl.tui.model.store import EXACT_WINDOW_SECONDS, Store
from llmctl.tui.session import Controls, Session, Source
from llmctl.tui.widgets.words import say_count, say_rate, say_seconds
from simulator.load.thresholds import Threshold

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class MonitorOrder:
    """What is to be watched, and how."""

    target: Target
    topics: Sequence[str]
    alerts: Sequence[Threshold] = ()
    record: Path | None = None
    with_payloads: bool = False
    replay: Path | None = None
    speed: float = 1.0
    attach: Path | None = None
    mock: bool = False
    control: bool = False


def show_monitor(order: MonitorOrder) -> None:
    """Shows the screen until `q`; what ended its sources otherwise is raised."""
    # Textual takes a third of a second to import: only the screen pays for it.
    from llmctl.tui.app import Monitor

    # A browser's process has pipes, and textual-serve names the driver that speaks through them.
    served = "TEXTUAL_DRIVER" in os.environ
    if not served and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageProblem(
            "The monitor is a screen and needs a terminal; "
            "`llmctl monitor --once --output json` prints the figures instead."
        )
    with _open_session(order) as session:
        app = Monitor(session, export_folder=Path.cwd())
        app.run()
    if app.failure is not None:
        raise app.failure


async def print_once(order: MonitorOrder, terminal: Terminal) -> None:
    """Prints the figures of this moment; Unreachable where the service does not answer."""
    target = order.target
    clock = LiveClock()
    store = Store(order.alerts)
    store.take(await ServiceFeed(target.url, target.bearer_token, clock).read_once())
    if terminal.as_json:
        terminal.write(store.describe(clock.now()))
    else:
        terminal.show(_make_table(store))


async def record_headless(order: MonitorOrder, seconds: float | None, terminal: Terminal) -> None:
    """Records without a screen, for so long or until Ctrl-C."""
    with _open_session(order) as session:
        recorder = session.recorder
        assert recorder is not None, "the command asks for a file"
        terminal.say(f"Recording into {order.record}; Ctrl-C ends it.")
        begun = time.monotonic()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds), own_tasks() as tasks:
                    tasks.create_task(session.observe(), name="observe")
        finally:
            recorder.close()
            took = time.monotonic() - begun
            terminal.say(f"{recorder.frames:,} frames in {took:.0f} s are in {order.record}.")


def serve_monitor(arguments: Sequence[str], port: int, terminal: Terminal) -> None:
    """Serves the screen to browsers on this machine, each with a process of its own, read-only."""
    try:
        from textual_serve.server import Server
    except ImportError:
        raise UsageProblem(
            "Serving the monitor to a browser needs an extra; install it with `pip install 'llmctl[web]'`."
        ) from None
    command = shlex.join([sys.executable, "-m", "llmctl", *arguments])
    terminal.say(f"The monitor is at http://{LOOPBACK}:{port}, read-only; Ctrl-C ends it.")
    try:
        Server(command, host=LOOPBACK, port=port, title="llmctl monitor").serve()
    except OSError as problem:
        raise Failed(f"Port {port} cannot be listened on: {problem.strerror}.") from problem


@contextlib.contextmanager
def _open_session(order: MonitorOrder) -> Iterator[Session]:
    with ExitStack() as closing:
        if order.replay is not None:
            yield _replay(order, order.replay, closing)
        else:
            yield _observe(order, closing)


def _replay(order: MonitorOrder, path: Path, closing: ExitStack) -> Session:
    recording = Recording(path)
    closing.callback(recording.close)
    clock = ReplayClock(recording.begin, recording.end, order.speed)
    return Session(path.name, clock, replay=Replay(recording, clock), alerts=order.alerts)


def _observe(order: MonitorOrder, closing: ExitStack) -> Session:
    clock = LiveClock()
    target = order.target
    if order.mock:
        title, sources = "a made-up service", list[Source]([MockFeed(clock)])
    else:
        title, sources = mask_url(target.url), _make_sources(order, clock)
    if order.attach is not None:
        run = Recording(order.attach)
        closing.callback(run.close)
        sources.append(RunFollower(run))
    session = Session(
        title,
        clock,
        sources,
        controls=Controls(target.url, target.bearer_token) if order.control else None,
        alerts=order.alerts,
        production=target.is_production and not order.mock,
    )
    if order.record is not None:
        recorder = Recorder(order.record, with_payloads=order.with_payloads, then=session.store)
        session.recorder = closing.enter_context(recorder)
    return session


def _make_sources(order: MonitorOrder, clock: LiveClock) -> list[Source]:
    target = order.target
    kafka = target.kafka
    return [
        ServiceFeed(target.url, target.bearer_token, clock),
        CallbackSource(kafka, order.topics, clock),
        TopicSource(kafka, order.topics, clock),
    ]


def _make_table(store: Store) -> Table:
    """The figures for people."""
    reading = store.reading
    assert reading is not None
    table = make_table(("figure", "value"), right=("value",))
    rows = [
        ("phase", reading.phase),
        ("queue depth", say_count(reading.queue_depth)),
        ("oldest in the queue", say_seconds(reading.oldest_age_seconds)),
        ("in flight", say_count(reading.in_flight)),
        ("outbox", say_count(reading.outbox_depth)),
        ("undelivered", say_count(reading.parked)),
        ("accepted", f"{say_count(reading.totals.get('accepted'))} ({say_rate(store.rate('accepted'))}/s)"),
        (
            "called back",
            f"{say_count(reading.totals.get('published'))} ({say_rate(store.rate('published'))}/s)",
        ),
        ("failed", say_count(reading.totals.get("failed"))),
    ]
    for name in LATENCIES:
        spread = [store.percentile(name, which, EXACT_WINDOW_SECONDS) for which in ("p50", "p99")]
        rows.append((f"{name.replace('_', ' ')} p50 / p99", " / ".join(say_seconds(each) for each in spread)))
    rows += [(f"{each.name}", f"{each.circuit}, {each.in_flight} in flight") for each in reading.providers]
    rows.append(("advice", "; ".join(str(each) for each in store.advice) or NOTHING))
    for name, value in rows:
        table.add_row(cell(name), cell(value, wrap=True))
    return table
