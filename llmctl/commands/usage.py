"""`llmctl usage`: what calls have used, and how much of the budget is spent."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from llmctl.commands.options import BootstrapServers, OutputForm, Token, Url, find_target, reading
from llmctl.completion import complete_topics
from llmctl.exits import UsageProblem
from llmctl.loop import run
from llmctl.render.terminal import open_terminal
from simulator.quantities import parse_duration

MAX_DAYS = 40


class Key(StrEnum):
    """What to add up by."""

    CALLER = "caller"
    PROVIDER = "provider"
    MODEL = "model"
    DAY = "day"
    TOPIC = "topic"


def usage(
    context: typer.Context,
    topics: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TOPIC",
            help="By the callbacks or usage events on these instead of the service's account.",
            autocompletion=complete_topics,
        ),
    ] = None,
    days: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_DAYS, metavar="N", help="Today (UTC) and days before it (default: 1)."),
    ] = None,
    since: Annotated[
        float | None,
        typer.Option(
            parser=reading(parse_duration), metavar="DURATION", help="With topics: only what came since then."
        ),
    ] = None,
    by: Annotated[
        list[Key] | None, typer.Option(help="Add up by this; may be repeated (default: provider, model).")
    ] = None,
    url: Url = None,
    bootstrap_servers: BootstrapServers = None,
    token: Token = None,
    output: OutputForm = None,
) -> None:
    """Show calls, tokens and cost by caller, provider, model or day, and the day's budget.

    The service accounts for every call, also for those whose request failed or was tried again. With topics,
    the callbacks or usage events that stand there are added up, on any Kafka.
    """
    from llmctl.jobs.accounting import account_events, account_service

    keys = tuple(dict.fromkeys(by or (Key.PROVIDER, Key.MODEL)))
    target = find_target(context).override(url=url, bootstrap_servers=bootstrap_servers, token=token)
    terminal = open_terminal(output)
    if topics:
        if days is not None:
            raise UsageProblem("--days is of the service's account; with topics say --since DURATION.")
        run(account_events(topics, since, keys, target.kafka, terminal))
        return
    if since is not None:
        raise UsageProblem("--since goes with topics; for the service's account say --days N.")
    if Key.TOPIC in keys:
        raise UsageProblem(
            "The service accounts by caller, provider, model and day; name topics to read them."
        )
    run(account_service(days or 1, keys, target, terminal))
