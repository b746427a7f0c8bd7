"""`llmctl simulate`: the fake provider and the embedded broker, each alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from llmctl.commands.capacity import capacity
from llmctl.commands.compare import compare
from llmctl.commands.load import load
from llmctl.commands.options import BootstrapServers, OutputForm, find_target, reading
from llmctl.commands.sweep import sweep
from llmctl.completion import complete_scenarios, complete_topics
from llmctl.exits import Failed, Unreachable, UsageProblem
from llmctl.loop import run
from llmctl.misspellings import CommandGroup
from llmctl.render.tables import cell
from llmctl.render.terminal import Terminal, open_terminal
from llmctl.targets import Target
from simulator.quantities import format_duration, parse_duration

if TYPE_CHECKING:
    from simulator.broker.control import BrokerControl, BrokerStatus

MAX_PORT = 65_535

app = typer.Typer(help="Stand-ins for what costs money or needs installing.", no_args_is_help=True)
broker = typer.Typer(
    help="Run an embedded broker, or act on a running one.",
    invoke_without_command=True,
    no_args_is_help=False,
)
app.command()(load)
app.command()(sweep)
app.command()(compare)
app.command()(capacity)
app.add_typer(broker, name="broker", cls=CommandGroup)


@app.command()
def provider(
    port: Annotated[int, typer.Option(min=0, max=MAX_PORT, metavar="PORT", help="0 is any free one.")] = 8089,
    scenario: Annotated[
        str,
        typer.Option(
            metavar="FILE|NAME",
            help="How it behaves: a preset, or a TOML file of yours.",
            autocompletion=complete_scenarios,
        ),
    ] = "calm",
) -> None:
    """Run a fake provider that judges real essays: OpenAI, Anthropic, Google and OpenRouter in one."""
    _become("simulator.provider", "--port", str(port), "--scenario", scenario)


@broker.callback()
def run_broker(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=MAX_PORT, metavar="PORT", help="0 is any free one.")] = 9092,
    topic: Annotated[
        list[str] | None, typer.Option(metavar="NAME:PARTITIONS", help="Create this topic.")
    ] = None,
) -> None:
    """Run an embedded broker; the commands below act on a running one."""
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
def cut(
    context: typer.Context, bootstrap_servers: BootstrapServers = None, output: OutputForm = None
) -> None:
    """Cut every connection once; clients may come back at once."""
    _act(context, bootstrap_servers, output, lambda control: control.cut())


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


@broker.command("lose-acks")
def lose_acks(
    context: typer.Context,
    duration: Annotated[
        float, typer.Argument(parser=reading(parse_duration), metavar="DURATION", help="0s ends it.")
    ],
    bootstrap_servers: BootstrapServers = None,
    output: OutputForm = None,
) -> None:
    """Carry requests out but swallow the answers, then cut the connections that lack one."""
    _act(context, bootstrap_servers, output, lambda control: control.lose_answers(duration))


@broker.command("topic-error")
def topic_error(
    context: typer.Context,
    topic: Annotated[
        str, typer.Argument(metavar="TOPIC", help="A topic of this broker.", autocompletion=complete_topics)
    ],
    code: Annotated[
        str, typer.Argument(metavar="CODE|none", help="A Kafka error, by name or number; none ends it.")
    ],
    bootstrap_servers: BootstrapServers = None,
    output: OutputForm = None,
) -> None:
    """Show a topic with an error, as one that was deleted or is forbidden."""
    wanted = None if code.lower() == "none" else _read_error_code(code)
    _act(context, bootstrap_servers, output, lambda control: control.topic_error(topic, wanted))


@broker.command()
def error(
    context: typer.Context,
    code: Annotated[str, typer.Argument(help="A Kafka error, by name or number.")],
    count: Annotated[int, typer.Option(min=1, metavar="N", help="How many produce requests to refuse.")] = 1,
    bootstrap_servers: BootstrapServers = None,
    output: OutputForm = None,
) -> None:
    """Refuse the next produce requests with an error."""
    number = _read_error_code(code)
    _act(context, bootstrap_servers, output, lambda control: control.error(number, count))


def _read_error_code(text: str) -> int:
    from simulator.broker.produce_errors import parse_error_code

    try:
        return parse_error_code(text)
    except ValueError as problem:
        raise UsageProblem(f"{problem}.") from None


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
        control = await find_control(target.kafka.servers)
        if control is None:
            raise Unreachable(
                f"No embedded broker runs at {target.kafka}; start one with `llmctl simulate broker`."
            )
        status = await action(control)
    except ControlError as problem:
        raise Failed(str(problem)) from problem
    if terminal.as_json:
        terminal.write(status.model_dump(mode="json"))
        return
    terminal.show(cell(_describe(status), wrap=True))


def _describe(status: BrokerStatus) -> str:
    parts = [f"Broker at {status.bootstrap_servers} is {status.state}"]
    if status.delay_milliseconds:
        parts.append(f"every answer delayed by {status.delay_milliseconds}ms")
    if status.loses_answers_seconds:
        parts.append(f"every answer lost for {format_duration(status.loses_answers_seconds)}")
    parts += [f"topic {name} shown with {code}" for name, code in status.topic_errors.items()]
    return f"{', '.join(parts)}, {status.connections} connection{'' if status.connections == 1 else 's'}."
