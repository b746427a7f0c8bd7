"""`llmctl doctor`: what to look at before a deployment."""

from __future__ import annotations

from typing import Annotated

import typer

from llmctl.commands.options import WHERE, BootstrapServers, OutputForm, Token, Url, find_spoken, reading
from llmctl.completion import complete_topics
from llmctl.exits import UsageProblem
from llmctl.loop import run
from llmctl.render.terminal import open_terminal
from llmctl.settings import OPTION, Setting
from simulator.quantities import parse_duration


def doctor(
    context: typer.Context,
    topics: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TOPIC",
            help="The callback topics (default: the platform's own).",
            autocompletion=complete_topics,
        ),
    ] = None,
    round_trip: Annotated[
        bool,
        typer.Option(
            "--round-trip",
            help="Also send one real request to the first topic and wait for its callback; "
            "a real provider charges for it.",
        ),
    ] = False,
    timeout: Annotated[
        float,
        typer.Option(
            parser=reading(parse_duration), metavar="DURATION", help="Wait so long for that callback."
        ),
    ] = "30s",  # type: ignore[assignment]  # read by the parser
    max_lag: Annotated[
        int, typer.Option(min=0, metavar="N", help="A consumer group further behind gets a warning.")
    ] = 1000,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as failures.")] = False,
    url: Url = None,
    bootstrap_servers: BootstrapServers = None,
    token: Token = None,
    admin_token: Annotated[
        str | None,
        typer.Option(
            "--admin-token",
            metavar="TOKEN",
            envvar="LLMCTL_ADMIN_TOKEN",
            help="The operator's bearer token (default: the caller's).",
            rich_help_panel=WHERE,
        ),
    ] = None,
    output: OutputForm = None,
) -> None:
    """Examine before a deployment: configuration, service, queue, providers' keys, Kafka, topics, consumers.

    Each check passes, warns or fails, and says what to do. Nothing is changed. Exit code 1 where one failed,
    3 where neither the service nor a broker answers.
    """
    from llmctl.doctor.examination import DoctorPlan
    from llmctl.jobs.doctor import examine_and_report
    from service.contracts.topics import PLATFORM_TOPICS, is_legal_topic_name

    for topic in topics or ():
        if not is_legal_topic_name(topic):
            raise UsageProblem(f"{topic!r} is no legal topic name; use up to 249 of A-Z a-z 0-9 . _ and -.")
    if timeout <= 0:
        raise UsageProblem("--timeout 0s waits for nothing; leave --round-trip out instead.")
    if admin_token is not None and not (admin_token.isascii() and admin_token.isprintable()):
        raise UsageProblem(
            "The operator's token holds characters that no header can carry; check --admin-token."
        )
    own = {"url": url, "bootstrap_servers": bootstrap_servers, "token": token}
    spoken = dict(find_spoken(context)) | {
        name: Setting(name, value, OPTION) for name, value in own.items() if value
    }
    plan = DoctorPlan(
        tuple(dict.fromkeys(topics or PLATFORM_TOPICS)), round_trip, timeout, max_lag, strict, admin_token
    )
    run(examine_and_report(plan, spoken, open_terminal(output)))
