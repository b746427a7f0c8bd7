"""`llmctl monitor`: the screen that an operator leaves open."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from llmctl.commands.options import BootstrapServers, OutputForm, Token, Url, find_target, reading
from llmctl.completion import complete_topics
from llmctl.exits import UsageProblem
from llmctl.loop import run
from llmctl.render.terminal import Output, open_terminal
from simulator.quantities import parse_duration

DEFAULT_SERVE_PORT = 8090


def monitor(
    context: typer.Context,
    topics: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TOPIC",
            help="Whose callbacks (default: the platform's topic).",
            autocompletion=complete_topics,
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print the figures of this moment and end.")] = False,
    alert: Annotated[
        list[str] | None,
        typer.Option(metavar="CONDITION", help="Ring when 'e2e:p99 > 5s for 20s'; may be given often."),
    ] = None,
    control: Annotated[
        bool, typer.Option("--control", help="Let keys drain, resume and ask providers again.")
    ] = False,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all that is seen to this file.")
    ] = None,
    record_payloads: Annotated[
        bool,
        typer.Option("--record-payloads", help="Also justifications, messages and the callers' metadata."),
    ] = False,
    headless: Annotated[bool, typer.Option("--headless", help="Record without a screen.")] = False,
    duration: Annotated[
        float | None,
        typer.Option(parser=reading(parse_duration), metavar="DURATION", help="How long, with --headless."),
    ] = None,
    replay: Annotated[Path | None, typer.Option(metavar="FILE", help="Play a recording.")] = None,
    speed: Annotated[
        float, typer.Option(min=0.1, max=1000, metavar="FACTOR", help="How fast to play it.")
    ] = 1.0,
    attach: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also show the load run that records here.")
    ] = None,
    mock: Annotated[bool, typer.Option("--mock", help="Show a made-up service; needs nothing.")] = False,
    serve: Annotated[bool, typer.Option("--serve", help="Show it in a browser of this machine.")] = False,
    serve_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help=f"Where, with --serve ({DEFAULT_SERVE_PORT}).")
    ] = None,
    url: Url = None,
    bootstrap_servers: BootstrapServers = None,
    token: Token = None,
    output: OutputForm = None,
) -> None:
    """Watch a service live: queue, providers, callbacks as Kafka has them, alerts and advice."""
    from llmctl.jobs.monitoring import (
        MonitorOrder,
        print_once,
        record_headless,
        serve_monitor,
        show_monitor,
    )
    from llmctl.tui.model.alerts import parse_alert
    from service.contracts.topics import PLATFORM_TOPICS

    _refuse_contradictions(
        {"--once": once, "--headless": headless, "--serve": serve},
        {"--replay": replay is not None, "--mock": mock},
        control=control,
        record=record is not None,
    )
    for option, needed, given in (
        ("--headless", "--record", headless and record is None),
        ("--record-payloads", "--record", record_payloads and record is None),
        ("--duration", "--headless", duration is not None and not headless),
        ("--speed", "--replay", speed != 1.0 and replay is None),
        ("--serve-port", "--serve", serve_port is not None and not serve),
        ("--output", "--once", output is not None and not once),
    ):
        if given:
            raise UsageProblem(f"{option} is of use with {needed} only; give both or neither.")
    target = find_target(context).override(url=url, bootstrap_servers=bootstrap_servers, token=token)
    try:
        alerts = tuple(parse_alert(text) for text in alert or ())
    except ValueError as problem:
        raise UsageProblem(f"{problem}.") from None
    order = MonitorOrder(
        target,
        tuple(topics or PLATFORM_TOPICS),
        alerts,
        record=record,
        with_payloads=record_payloads,
        replay=replay,
        speed=speed,
        attach=attach,
        mock=mock,
        control=control,
    )
    if serve:
        serve_monitor(_repeat_arguments(sys.argv[1:]), serve_port or DEFAULT_SERVE_PORT, open_terminal())
    elif once:
        run(print_once(order, open_terminal(output or Output.TABLE if sys.stdout.isatty() else output)))
    elif headless:
        run(record_headless(order, duration, open_terminal()))
    else:
        show_monitor(order)


def _refuse_contradictions(
    ways: dict[str, bool], sources: dict[str, bool], *, control: bool, record: bool
) -> None:
    """UsageProblem where two options want different things."""
    chosen = [name for name, given in ways.items() if given]
    if len(chosen) > 1:
        raise UsageProblem(f"{' and '.join(chosen)} are different ways to watch; choose one.")
    made = [name for name, given in sources.items() if given]
    if len(made) > 1:
        raise UsageProblem("--replay and --mock are two different sources; choose one.")
    if made and (control or record or chosen == ["--once"]):
        raise UsageProblem(f"{made[0]} shows no service: leave out --control, --record and --once.")
    if chosen == ["--serve"] and (control or record):
        raise UsageProblem("What is served to a browser is read-only; leave out --control and --record.")


def _repeat_arguments(arguments: list[str]) -> list[str]:
    """This very command line without what serves it."""
    repeated, skip = [], False
    for argument in arguments:
        if skip:
            skip = False
        elif argument == "--serve-port":
            skip = True
        elif argument != "--serve" and not argument.startswith("--serve-port="):
            repeated.append(argument)
    return repeated
