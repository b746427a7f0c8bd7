"""`llmctl up`: broker, fake provider and service in the foreground."""

from __future__ import annotations

import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from llmctl.commands.options import BootstrapServers, OutputForm, find_spoken
from llmctl.completion import complete_scenarios
from llmctl.contexts import KAFKA_KEYS
from llmctl.exits import UsageProblem
from llmctl.loop import run
from llmctl.render.terminal import open_terminal
from llmctl.targets import Target

MAX_PORT = 65_535


class QueueBackend(StrEnum):
    """Where requests wait."""

    SQLITE = "sqlite"
    KAFKA = "kafka"


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
    scenario: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="How the fake provider behaves.", autocompletion=complete_scenarios
        ),
    ] = "calm",
    replicas: Annotated[
        int, typer.Option(min=1, max=32, metavar="N", help="Services behind one address.")
    ] = 1,
    queue_backend: Annotated[
        QueueBackend,
        typer.Option(help="sqlite: a file for each service; kafka: one queue that they share."),
    ] = QueueBackend.SQLITE,
    usage_topic: Annotated[
        str | None,
        typer.Option(
            metavar="TOPIC", help="Made if missing; the service tells there what each request has used."
        ),
    ] = None,
    bootstrap_servers: BootstrapServers = None,
    output: OutputForm = None,
) -> None:
    """Run broker, fake provider and service until Ctrl-C; --bootstrap-servers takes your Kafka instead."""
    from llmctl.jobs.standing import prepare_queue, stand_up
    from service.contracts.topics import is_legal_topic_name
    from simulator.stack import StackPlan

    # A context says what runs elsewhere: its Kafka is not to get a service that asks a fake provider.
    spoken = {name: each.value for name, each in find_spoken(context).items() if each.value}
    servers = bootstrap_servers or spoken.get("bootstrap_servers")
    settings = {name: value for name, value in spoken.items() if name in KAFKA_KEYS}
    own_kafka = Target(chosen_bootstrap_servers=servers, kafka_settings=settings).kafka if servers else None
    if usage_topic is not None and not is_legal_topic_name(usage_topic):
        raise UsageProblem(f"--usage-topic {usage_topic!r} is no legal topic name.")
    if own_kafka is not None and kafka_port is not None:
        raise UsageProblem("--kafka-port is the embedded broker's; with your own Kafka there is none.")
    with tempfile.TemporaryDirectory(prefix="llmctl-up-") as temporary:
        plan = StackPlan(
            data_dir=(data_dir or Path(temporary)).absolute(),
            service_port=port,
            broker_port=9092 if kafka_port is None else kafka_port,
            provider_port=provider_port,
            scenario=scenario,
            kafka=own_kafka,
            replicas=replicas,
            queue_backend=queue_backend.value,
            usage_topic=usage_topic,
            prepare_kafka=prepare_queue if queue_backend is QueueBackend.KAFKA else None,
        )
        run(stand_up(plan, open_terminal(output)))
