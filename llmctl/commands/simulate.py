"""`llmctl simulate`: the fake provider and the embedded broker, each alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from llmctl.commands.options import BootstrapServers, OutputForm, find_target, reading
from llmctl.durations import parse_duration
from llmctl.exits import Failed, Unreachable, UsageProblem
from llmctl.loop import run
from llmctl.render.terminal import Terminal, open_terminal
from llmctl.targets import Target

if TYPE_CHECKING:
    from simulator.broker.control import BrokerControl, BrokerStatus

MAX_PORT = 65_535

app = typer.Typer(help="Stand-ins for what costs money or needs installing.", no_args_is_help=True)
broker = typer.Typer(
    help="Run an embedded broker, or act on a running one.",
    invoke_without_command=True,
    no_args_is_help=False,
)
app.add_typer(broker, name="broker")


@app.command()
def provider(
    port: Annotated[int, typer.Option(min=0, max=MAX_PORT, metavar="PORT", help="0 is any free one.")] = 8089,
    scenario: Annotated[str, typer.Option(metavar="NAME", help="How it behaves.")] = "calm",
) -> None:
    """Run a fake provider that judges the essays of the fixtures, with OpenAI's API under /v1."""
    _become("simulator.provider", "--port", str(port), "--scenario", scenario)


@broker.callback()
def run_broker(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=MAX_PORT, metavar="PORT", help="0 is any free one.")] = 9092,
    topic: Annotated[
        list[str] | None, typer.Option(metavar="NAME:PARTITIONS", help="Create this topic.")
    ] = None,
) -> None:
    """Run an embedded broker; down, up, slow and error act on a running one."""
    if context.invoked_subcommand is None:
        topics = [word for name in topic or () for word in ("--topic", name)]
        _become("simulator.broker", "--port", str(port), *topics)


@broker.command()
def down(
    context: typer.Context, bootstrap_servers: BootstrapServers = None, output: OutputForm = None
) -> None:
    """Cut every connection and take no new one."""
    _act(context, bootstrap_servers, output, lambda control: control.down())


@broker.command()
def up(context: typer.Context, bootstrap_servers: BootstrapServers = None, output: OutputForm = None) -> None:
    """Take connections again."""
    _act(context, bootstrap_servers, output, lambda control: control.up())


@broker.command()
def slow(
    context: typer.Context,
    delay: Annotated[
        float, typer.Argument(parser=reading(parse_duration), metavar="DURATION", help="0s ends it.")
    ],
    bootstrap_servers: BootstrapServers = None,
    output: OutputForm = None,
) -> None:
    """Delay every answer from now on."""
    _act(context, bootstrap_servers, output, lambda control: control.slow(round(delay * 1000)))


@broker.command()
def error(
    context: typer.Context,
    code: Annotated[str, typer.Argument(help="A Kafka error, by name or number.")],
    count: Annotated[int, typer.Option(min=1, metavar="N", help="How many produce requests to refuse.")] = 1,
    bootstrap_servers: BootstrapServers = None,
    output: OutputForm = None,
) -> None:
    """Refuse the next produce requests with an error."""
    from simulator.broker.produce_errors import parse_error_code

    try:
        parse_error_code(code)
    except ValueError as problem:
        raise UsageProblem(f"{problem}.") from None
    _act(context, bootstrap_servers, output, lambda control: control.error(code, count))


def _become(module: str, *arguments: str) -> NoReturn:
    """Replaces this process: whoever started it holds the real thing, with its signals and its exit code."""
    # -P: a folder named `simulator` where the user stands is not ours.
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *arguments])  # noqa: S606


def _act(
    context: typer.Context,
    bootstrap_servers: str | None,
    output: OutputForm,
    action: Callable[[BrokerControl], Awaitable[BrokerStatus]],
) -> None:
    target = find_target(context).override(bootstrap_servers=bootstrap_servers)
    run(_tell_broker(target, action, open_terminal(output)))


async def _tell_broker(
    target: Target, action: Callable[[BrokerControl], Awaitable[BrokerStatus]], terminal: Terminal
) -> None:
    from simulator.broker.control import ControlError, find_control

    try:
        control = await find_control(target.bootstrap_servers)
        if control is None:
            raise Unreachable(
                f"No embedded broker runs at {target.bootstrap_servers}; "
                "start one with `llmctl simulate broker`."
            )
        status = await action(control)
    except ControlError as problem:
        raise Failed(str(problem)) from problem
    if terminal.as_json:
        terminal.write(status.model_dump(mode="json"))
        return
    said = f"Broker at {status.bootstrap_servers} is {status.state}"
    delay = f", every answer delayed by {status.delay_milliseconds}ms" if status.delay_milliseconds else ""
    terminal.show(f"{said}{delay}, {status.connections} connections.")
