"""`llmctl up`: broker, fake provider and service in the foreground."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from llmctl.commands.options import BootstrapServers, OutputForm, find_spoken
from llmctl.exits import UsageProblem
from llmctl.loop import run
from llmctl.render.terminal import open_terminal
from llmctl.targets import Target

MAX_PORT = 65_535


def up(
    context: typer.Context,
    port: Annotated[
        int, typer.Option(min=0, max=MAX_PORT, metavar="PORT", help="The service's; 0 is any free one.")
    ] = 8080,
    kafka_port: Annotated[
        int | None,
        typer.Option(min=0, max=MAX_PORT, metavar="PORT", help="The embedded broker's (default: 9092)."),
    ] = None,
    provider_port: Annotated[
        int, typer.Option(min=0, max=MAX_PORT, metavar="PORT", help="The fake provider's.")
    ] = 8089,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Kept, and its queue is taken up again (default: a temporary one).", file_okay=False
        ),
    ] = None,
    scenario: Annotated[str, typer.Option(metavar="NAME", help="How the fake provider behaves.")] = "calm",
    bootstrap_servers: BootstrapServers = None,
    output: OutputForm = None,
) -> None:
    """Run broker, fake provider and service until Ctrl-C; --bootstrap-servers takes your Kafka instead."""
    from llmctl.jobs.standing import stand_up
    from simulator.stack import StackPlan

    # A context says what runs elsewhere: its Kafka is not to get a service that asks a fake provider.
    spoken = find_spoken(context).get("bootstrap_servers")
    servers = bootstrap_servers or (spoken and spoken.value)
    own_kafka = Target(chosen_bootstrap_servers=servers).bootstrap_servers if servers else None
    if own_kafka is not None and kafka_port is not None:
        raise UsageProblem("--kafka-port is the embedded broker's; with your own Kafka there is none.")
    with tempfile.TemporaryDirectory(prefix="llmctl-up-") as temporary:
        plan = StackPlan(
            data_dir=(data_dir or Path(temporary)).absolute(),
            service_port=port,
            broker_port=9092 if kafka_port is None else kafka_port,
            provider_port=provider_port,
            scenario=scenario,
            bootstrap_servers=own_kafka,
        )
        run(stand_up(plan, open_terminal(output)))
