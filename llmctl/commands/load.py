"""`llmctl simulate load`: load with a ledger."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Annotated, TypeVar
from uuid import uuid4

import typer

from llmctl.commands.options import BootstrapServers, OutputForm, Token, Url, find_spoken, reading
from llmctl.completion import complete_scenarios, complete_topics
from llmctl.contexts import KAFKA_KEYS
from llmctl.exits import UsageProblem
from llmctl.loop import run
from llmctl.render.terminal import open_terminal
from llmctl.targets import Target
from service.contracts.enums import LLMProviderType
from simulator.quantities import parse_duration, parse_rate

T = TypeVar("T")
DEFAULT_RATE = 50.0
DEFAULT_SECONDS = 10.0
DEFAULT_SETTLE_SECONDS = 60.0
DEFAULT_QUIET_SECONDS = 2.0
LOAD = "Load"
SYSTEM = "System"
VERDICTS = "Verdicts"
_RUN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


def load(
    context: typer.Context,
    rate: Annotated[
        float | None,
        typer.Option(
            parser=reading(parse_rate),
            metavar="RATE",
            help="Requests a second, such as 200/s (default: 50/s).",
            rich_help_panel=LOAD,
        ),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(
            parser=reading(parse_duration),
            metavar="DURATION",
            help="For so long (default: 10s).",
            rich_help_panel=LOAD,
        ),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            metavar="STAGES",
            help="Instead of --rate and --duration: 'poisson 50/s 2m; ramp 50/s→200/s 1m', also constant, "
            "gamma, burst, onoff, sine, trace, closed.",
            rich_help_panel=LOAD,
        ),
    ] = None,
    warm_up: Annotated[
        float,
        typer.Option(
            parser=reading(parse_duration),
            metavar="DURATION",
            help="First so long at the first rate, without figures.",
            rich_help_panel=LOAD,
        ),
    ] = "0s",  # type: ignore[assignment]  # typer parses defaults too
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="The same arrivals again (default: drawn).", rich_help_panel=LOAD
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, max=64, metavar="N", help="Processes that send.", rich_help_panel=LOAD)
    ] = 1,
    max_outstanding: Annotated[
        int,
        typer.Option(
            min=1, max=20_000, metavar="N", help="Open HTTP requests of each of them.", rich_help_panel=LOAD
        ),
    ] = 2000,
    scenario: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|NAME",
            help="How the fake provider behaves (default: calm).",
            rich_help_panel=SYSTEM,
            autocompletion=complete_scenarios,
        ),
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FAULT",
            help="'broker down 20s at 30s', 'provider outage 10s at 15s', 'service kill at 20s', …",
            rich_help_panel=SYSTEM,
        ),
    ] = None,
    topic: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TOPIC",
            help="Callback topics, in turn (default: one of its own).",
            autocompletion=complete_topics,
            rich_help_panel=SYSTEM,
        ),
    ] = None,
    provider: Annotated[
        LLMProviderType | None,
        typer.Option(help="Which provider is asked (default: the service's).", rich_help_panel=SYSTEM),
    ] = None,
    admin_token: Annotated[
        str | None,
        typer.Option(
            metavar="TOKEN",
            envvar="LLMCTL_ADMIN_TOKEN",
            help="For the service's own figures, where operators need one.",
            rich_help_panel=SYSTEM,
        ),
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="'publish:p99 < 100ms', 'ledger.missing == 0'; exit 4.",
            rich_help_panel=VERDICTS,
        ),
    ] = None,
    late_after: Annotated[
        float | None,
        typer.Option(
            parser=reading(parse_duration),
            metavar="DURATION",
            help="A callback later than that is late.",
            rich_help_panel=VERDICTS,
        ),
    ] = None,
    settle_timeout: Annotated[
        float | None,
        typer.Option(
            parser=reading(parse_duration),
            metavar="DURATION",
            help="How long callbacks may take after the last send (default: 60s).",
            rich_help_panel=VERDICTS,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            file_okay=False,
            help="Write run.json, requests.jsonl.gz, report.html, summary.md, junit.xml.",
            rich_help_panel=VERDICTS,
        ),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            help="Record the run for `llmctl monitor --replay FILE` (or --attach FILE while it goes on).",
            rich_help_panel=VERDICTS,
        ),
    ] = None,
    run_id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Marks the run's records (default: drawn).", rich_help_panel=LOAD),
    ] = None,
    url: Url = None,
    bootstrap_servers: BootstrapServers = None,
    token: Token = None,
    output: OutputForm = None,
) -> None:
    """Offer load and prove that each accepted request is called back once; by itself brings up all it needs.

    With --url and --bootstrap-servers it drives a system that runs already.
    """
    from llmctl.jobs.loading import LoadOrder, load_and_report
    from simulator.load.faults import check_overlaps, parse_fault
    from simulator.load.plan import LoadPlan
    from simulator.load.shape import from_rate, parse_shape
    from simulator.load.thresholds import parse_threshold
    from simulator.load.trace import read_traces

    if shape is not None and (rate is not None or duration is not None):
        raise UsageProblem("--shape says rates and durations itself; leave out --rate and --duration.")
    if run_id is not None and _RUN_ID.fullmatch(run_id) is None:
        raise UsageProblem(f"{run_id!r} is no run id; use up to 64 of A-Z a-z 0-9 . _ -")
    try:
        stages = (
            parse_shape(shape)
            if shape is not None
            else from_rate(rate or DEFAULT_RATE, DEFAULT_SECONDS if duration is None else duration)
        )
        faults = tuple(parse_fault(text) for text in fault or ())
        check_overlaps(faults)
        plan = LoadPlan(
            run_id=run_id or f"load-{uuid4().hex[:12]}",
            shape=read_traces(stages),
            seed=secrets.randbelow(2**32) if seed is None else seed,
            callback_topics=tuple(dict.fromkeys(topic or ())),
            thresholds=tuple(parse_threshold(text) for text in threshold or ()),
            faults=faults,
            workers=workers,
            warm_up_seconds=warm_up,
            settle_limit_seconds=DEFAULT_SETTLE_SECONDS if settle_timeout is None else settle_timeout,
            quiet_seconds=DEFAULT_QUIET_SECONDS,
            late_after_seconds=late_after,
            provider=provider,
            max_outstanding=max_outstanding,
        )
        plan.check()
    except ValueError as problem:
        raise UsageProblem(f"{str(problem)[:1].upper()}{str(problem)[1:].rstrip('.')}.") from None
    order = LoadOrder(
        plan=plan,
        running=find_running(context, url, bootstrap_servers, token),
        scenario=scenario,
        admin_token=admin_token,
        report=None if report is None else report.absolute(),
        record=None if record is None else record.absolute(),
    )
    run(load_and_report(order, open_terminal(output)))


def find_running(
    context: typer.Context, url: str | None, bootstrap_servers: str | None, token: str | None
) -> Target | None:
    """The system that was named in words, None for a stack of our own. A context alone names none: it may be
    production.
    """
    settings = find_spoken(context)
    spoken = {name: setting.value for name, setting in settings.items()}
    url, servers = url or spoken.get("url"), bootstrap_servers or spoken.get("bootstrap_servers")
    if url is None and servers is None:
        return None
    if url is None or servers is None:
        raise UsageProblem(
            "A running system has both a service and a Kafka: name --url and --bootstrap-servers, or neither."
        )
    kafka_settings = {
        name: each.value for name, each in settings.items() if name in KAFKA_KEYS and each.value
    }
    return Target(url, servers, token or spoken.get("token"), kafka_settings=kafka_settings)
