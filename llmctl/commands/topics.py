"""`llmctl topics`: creates what is missing, says what is there."""

from __future__ import annotations

from typing import Annotated

import typer

from llmctl.commands.options import BootstrapServers, OutputForm, find_target, read_pairs
from llmctl.commands.production import frame_production
from llmctl.completion import complete_topics
from llmctl.exits import UsageProblem
from llmctl.loop import run
from llmctl.render.terminal import open_terminal
from service.contracts.topics import DEAD_LETTER_TOPIC, REQUEST_TOPIC

app = typer.Typer(
    help="Create, list and describe topics; none is deleted, or changed without being told to.",
    no_args_is_help=True,
)
QUEUE = "The Kafka queue"
Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="TOPIC", help="(default: the platform's own)", autocompletion=complete_topics),
]


@app.command("bootstrap")
def bootstrap(
    context: typer.Context,
    topics: Names = None,
    partitions: Annotated[
        int | None, typer.Option(min=1, max=10_000, metavar="N", help="Partitions of each (default: 3).")
    ] = None,
    replication_factor: Annotated[
        int | None,
        typer.Option(
            min=1, max=100, metavar="N", help="Copies of each (default: 3, or as many as there are brokers)."
        ),
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(metavar="K=V", help="A setting of the topic, e.g. retention.ms=604800000."),
    ] = None,
    apply: Annotated[
        bool,
        typer.Option(
            "--apply", help="Also add partitions (keys may move) and set settings of topics that stand."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    queue: Annotated[
        bool,
        typer.Option("--queue", help="Also the topics of the service's Kafka queue.", rich_help_panel=QUEUE),
    ] = False,
    request_topic: Annotated[
        str | None,
        typer.Option(metavar="TOPIC", help=f"(default: {REQUEST_TOPIC})", rich_help_panel=QUEUE),
    ] = None,
    dead_letter_topic: Annotated[
        str | None,
        typer.Option(metavar="TOPIC", help=f"(default: {DEAD_LETTER_TOPIC})", rich_help_panel=QUEUE),
    ] = None,
    queue_partitions: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=4096,
            metavar="N",
            help="At most so many replicas share it (default: 12).",
            rich_help_panel=QUEUE,
        ),
    ] = None,
    bootstrap_servers: BootstrapServers = None,
    output: OutputForm = None,
) -> None:
    """Create the topics that are missing; say what differs, and change that only with --apply."""
    from llmctl.client.topics import TopicWish
    from llmctl.jobs.topics import bootstrap_and_report
    from llmctl.queue_topics import wish_queue_topics
    from service.contracts.topics import PLATFORM_TOPICS

    names = _check_names(topics) or PLATFORM_TOPICS
    settings = read_pairs(config or (), "--config")
    wishes = [TopicWish(name, partitions, replication_factor, settings) for name in names]
    if queue:
        own = _check_names([request_topic or REQUEST_TOPIC, dead_letter_topic or DEAD_LETTER_TOPIC])
        if len(own) < 2:
            raise UsageProblem("--request-topic and --dead-letter-topic must be two different topics.")
        wishes += wish_queue_topics(own[0], own[1], queue_partitions, replication_factor)
    elif request_topic or dead_letter_topic or queue_partitions:
        raise UsageProblem(
            "--request-topic, --dead-letter-topic and --queue-partitions are the Kafka queue's; add --queue."
        )
    target = find_target(context).override(bootstrap_servers=bootstrap_servers)
    terminal = open_terminal(output)
    if not dry_run:
        frame_production(target, terminal, kafka=True)
    run(bootstrap_and_report(wishes, target.kafka, terminal, dry_run=dry_run, apply=apply))


@app.command("list")
def list_(
    context: typer.Context, bootstrap_servers: BootstrapServers = None, output: OutputForm = None
) -> None:
    """List every topic that is not Kafka's own."""
    from llmctl.jobs.topics import list_and_report

    target = find_target(context).override(bootstrap_servers=bootstrap_servers)
    run(list_and_report(target.kafka, open_terminal(output)))


@app.command("describe")
def describe(
    context: typer.Context,
    topics: Names = None,
    bootstrap_servers: BootstrapServers = None,
    output: OutputForm = None,
) -> None:
    """Describe topics: partitions, copies, and what was set for each."""
    from llmctl.jobs.topics import describe_and_report
    from service.contracts.topics import PLATFORM_TOPICS

    names = _check_names(topics) or PLATFORM_TOPICS
    target = find_target(context).override(bootstrap_servers=bootstrap_servers)
    run(describe_and_report(names, target.kafka, open_terminal(output)))


def _check_names(names: list[str] | None) -> tuple[str, ...]:
    from service.contracts.topics import is_legal_topic_name

    for name in names or ():
        if not is_legal_topic_name(name):
            raise UsageProblem(f"{name!r} is no legal topic name; use up to 249 of A-Z a-z 0-9 . _ and -.")
    return tuple(dict.fromkeys(names or ()))
