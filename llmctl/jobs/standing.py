"""`up`: a stack that stands until it is told to go."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack

from rich.text import Text

from llmctl.client.topics import TopicWish, bootstrap_topics
from llmctl.exits import Failed
from llmctl.jobs.scenarios import check_scenario
from llmctl.loop import own_tasks
from llmctl.queue_topics import wish_queue_topics
from llmctl.render.progress import progress_line
from llmctl.render.tables import DIM, cell, make_table
from llmctl.render.terminal import Terminal
from llmctl.targets import DEFAULT_BOOTSTRAP_SERVERS, DEFAULT_URL
from service.contracts.topics import DEAD_LETTER_TOPIC, PLATFORM_TOPICS, REQUEST_TOPIC
from simulator.essays import pairs_path
from simulator.kafka_address import KafkaAddress
from simulator.stack import Stack, StackAddresses, StackError, StackPlan


async def stand_up(plan: StackPlan, terminal: Terminal) -> None:
    """Starts everything, says where it is, stops it at Ctrl-C or SIGTERM; Failed if a part ends by itself."""
    check_scenario(plan.scenario)
    told_to_go = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told_to_go.set)
    stack = Stack(plan)
    try:
        # Told to go, the task that holds the stack is cancelled, and leaving it stops the children in order.
        async with own_tasks() as tasks:
            work = tasks.create_task(_hold(stack, plan, terminal), name="stack")
            going = tasks.create_task(told_to_go.wait(), name="told to go")
            await asyncio.wait({work, going}, return_when=asyncio.FIRST_COMPLETED)
            work.cancel()
            going.cancel()
    except StackError as problem:
        raise Failed(str(problem)) from problem
    finally:
        for note in stack.notes:
            terminal.say(note, "yellow")
    terminal.say("Everything has been stopped.", DIM)


async def prepare_queue(kafka: KafkaAddress) -> None:
    """Makes the topics of the Kafka queue where they are missing. Failed where that cannot be done."""
    wishes = wish_queue_topics(REQUEST_TOPIC, DEAD_LETTER_TOPIC, None, None)
    for outcome in await bootstrap_topics(kafka, wishes):
        if outcome.state == "failed":
            raise Failed(f"The topic {outcome.name} could not be created: {outcome.notes[0]}")


async def _hold(stack: Stack, plan: StackPlan, terminal: Terminal) -> None:
    async with AsyncExitStack() as closing:
        with progress_line(terminal, counted=False) as progress:
            what = "service" if plan.replicas == 1 else f"{plan.replicas} services"
            progress.begin(f"starting broker, provider and {what}")
            await closing.enter_async_context(stack)
            kafka = stack.addresses.kafka
            await bootstrap_topics(kafka, [TopicWish(name) for name in _list_topics(plan)])
        _show(stack.addresses, plan, terminal)
        await stack.wait()


def _list_topics(plan: StackPlan) -> list[str]:
    return [*PLATFORM_TOPICS, *([] if plan.usage_topic is None else [plan.usage_topic])]


def _show(addresses: StackAddresses, plan: StackPlan, terminal: Terminal) -> None:
    if terminal.as_json:
        terminal.write(
            {
                "url": addresses.service_url,
                "replica_urls": list(addresses.replica_urls),
                "bootstrap_servers": addresses.kafka.servers,
                "provider_urls": dict(addresses.provider_urls),
                "data_dir": str(plan.data_dir),
                "topics": _list_topics(plan),
                "pids": dict(addresses.pids),
            }
        )
        return
    table = make_table(("", "address", ""))
    for provider, url in addresses.provider_urls.items():
        table.add_row(
            cell("provider"), cell(url, "bold"), cell(f"{provider}'s API, faked ({plan.scenario})", DIM)
        )
    kind = "embedded, in memory" if plan.kafka is None else "yours"
    table.add_row(cell("kafka"), cell(addresses.kafka.servers, "bold"), cell(kind, DIM))
    table.add_row(
        cell("service"), cell(addresses.service_url, "bold"), cell(f"{addresses.service_url}/docs", DIM)
    )
    if len(addresses.replica_urls) > 1:
        shared = "one queue, on Kafka" if plan.queue_backend == "kafka" else "a queue file of its own"
        for number, url in enumerate(addresses.replica_urls, start=1):
            table.add_row(cell(f"replica {number}"), cell(url, "bold"), cell(shared, DIM))
    table.add_row(cell("data"), cell(plan.data_dir), cell("queue and logs", DIM))
    terminal.show(table)
    terminal.show(_advise(addresses, plan.usage_topic), whole=True)


def _advise(addresses: StackAddresses, usage_topic: str | None) -> Text:
    """Commands to try next, to be pasted into another terminal as they are."""
    said = Text("\nTry in another terminal:\n", style=DIM)
    kafka, service = addresses.kafka.servers, addresses.service_url
    asked = "" if kafka == DEFAULT_BOOTSTRAP_SERVERS else f" --bootstrap-servers {kafka}"
    handed = asked if service == DEFAULT_URL else f" --url {service}{asked}"
    said.append(f"  llmctl{asked} tail-callbacks\n", style="default")
    said.append(f"  llmctl{handed} submit --wait --file {pairs_path()}", style="default")
    said.append(f" --callback-topic {PLATFORM_TOPICS[0]}\n", style="default")
    if usage_topic is not None:
        said.append(f"  llmctl{asked} usage {usage_topic} --by caller\n", style="default")
    return said.append("Ctrl-C stops everything.", style=DIM)
