"""`topics`: what stands on a Kafka, as tables and documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from rich.text import Text

from llmctl.client.kafka import name_near
from llmctl.client.topics import (
    TopicFacts,
    TopicOutcome,
    TopicWish,
    bootstrap_topics,
    describe_topics,
    read_topics,
)
from llmctl.exits import Failed
from llmctl.render.safe import safe_line
from llmctl.render.tables import BAD, DIM, GOOD, cell, make_table
from llmctl.render.terminal import Terminal
from simulator.kafka_address import KafkaAddress

_STYLES = {
    "created": GOOD,
    "exists": "",
    "changed": GOOD,
    "would create": GOOD,
    "would change": GOOD,
    "differs": "yellow",
    "failed": BAD,
}


async def bootstrap_and_report(
    wishes: Sequence[TopicWish], kafka: KafkaAddress, terminal: Terminal, *, dry_run: bool, apply: bool
) -> None:
    """Creates what is missing and says what became of each; Failed where one could not be made so."""
    outcomes = await bootstrap_topics(kafka, wishes, dry_run=dry_run, apply=apply)
    if terminal.as_json:
        terminal.write({"topics": [asdict(outcome) for outcome in outcomes]})
    else:
        columns = ("topic", "state", "partitions", "copies", "")
        table = make_table(columns, right=("partitions", "copies"), flexible=("",))
        for each in outcomes:
            state = cell(each.state, _STYLES[each.state])
            notes = cell("; ".join(each.notes), DIM, wrap=True)
            table.add_row(cell(each.name), state, cell(each.partitions), cell(each.replication_factor), notes)
        terminal.show(table)
    _judge(outcomes, terminal, apply=apply)


async def list_and_report(kafka: KafkaAddress, terminal: Terminal) -> None:
    """Shows every topic."""
    topics = (await read_topics(kafka)).values()
    if terminal.as_json:
        terminal.write({"topics": [asdict(topic) for topic in topics]})
        return
    table = make_table(("topic", "partitions", "copies"), right=("partitions", "copies"))
    for each in topics:
        table.add_row(cell(each.name), cell(each.partitions), cell(each.replication_factor))
    terminal.show(table)


async def describe_and_report(names: Sequence[str], kafka: KafkaAddress, terminal: Terminal) -> None:
    """Shows these topics with what was set for each; Failed where one does not exist."""
    found = await describe_topics(kafka, names)
    if terminal.as_json:
        terminal.write({"topics": [asdict(topic) for topic in found.values()]})
    else:
        for each in found.values():
            terminal.show(_describe(each))
    missing = [name for name in names if name not in found]
    if missing:
        existing = await read_topics(kafka)
        near = name_near(missing[0], list(existing))
        raise Failed(f"There is no topic {missing[0]!r} at {kafka}; {near}")


def _describe(topic: TopicFacts) -> Text:
    said = Text.assemble(
        (topic.name, "bold"), f"  {topic.partitions} partitions, {topic.replication_factor} copies"
    )
    if topic.config is None:
        return said.append("\n  settings: the embedded broker keeps none", style=DIM)
    if not topic.config:
        return said.append("\n  settings: the broker's own", style=DIM)
    for key, value in topic.config.items():
        said.append(f"\n  {safe_line(key)} = {safe_line(value)}")
    return said


def _judge(outcomes: Sequence[TopicOutcome], terminal: Terminal, *, apply: bool) -> None:
    differing = sum(outcome.state == "differs" for outcome in outcomes)
    if differing:
        rest = "that cannot be changed" if apply else "nothing was changed (--apply changes what can be)"
        terminal.say(
            f"{differing} of {len(outcomes)} topics differ from what was asked; {rest}.",
            "yellow",
        )
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    if failed:
        why = f"{failed[0].name}: {failed[0].notes[0]}"
        what = "created or changed" if apply else "created"
        raise Failed(f"{len(failed)} of {len(outcomes)} topics could not be {what}; {why}")
