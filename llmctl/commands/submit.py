"""`llmctl submit`: one comparison, or many from a file."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Annotated

import typer

from llmctl.commands.options import (
    BootstrapServers,
    OutputForm,
    Token,
    Url,
    find_target,
    read_pairs,
    reading,
)
from llmctl.exits import UsageProblem
from llmctl.loop import run
from llmctl.render.terminal import open_terminal
from simulator.quantities import parse_duration

DEFAULT_WAIT_SECONDS = 300.0
DEFAULT_CONCURRENCY = 8
MAX_CONCURRENCY = 20
ONE, MANY, EACH = "One comparison", "Many comparisons", "Said for every request that does not say it itself"


def submit(
    context: typer.Context,
    prompt: Annotated[str | None, typer.Option(help="What to judge by.", rich_help_panel=ONE)] = None,
    essay_a: Annotated[
        str | None, typer.Option(metavar="FILE", help="The first essay; - is stdin.", rich_help_panel=ONE)
    ] = None,
    essay_b: Annotated[
        str | None, typer.Option(metavar="FILE", help="The second essay; - is stdin.", rich_help_panel=ONE)
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="JSON lines, a request body each; - is stdin.", rich_help_panel=MANY
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MAX_CONCURRENCY,
            metavar="N",
            help=f"Requests at the same time (default: {DEFAULT_CONCURRENCY}).",
            rich_help_panel=MANY,
        ),
    ] = None,
    callback_topic: Annotated[
        str | None, typer.Option(metavar="TOPIC", help="Where the callback goes.", rich_help_panel=EACH)
    ] = None,
    provider: Annotated[str | None, typer.Option(help="Which provider to ask.", rich_help_panel=EACH)] = None,
    model: Annotated[str | None, typer.Option(help="Which of its models.", rich_help_panel=EACH)] = None,
    priority: Annotated[
        int | None, typer.Option(min=0, max=9, metavar="0-9", help="Higher goes first.", rich_help_panel=EACH)
    ] = None,
    ttl: Annotated[
        float | None,
        typer.Option(
            parser=reading(parse_duration),
            metavar="DURATION",
            help="Not started by then: an error callback.",
            rich_help_panel=EACH,
        ),
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="Echoed in the callback.", rich_help_panel=EACH)
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the callbacks until all have come.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            parser=reading(parse_duration), metavar="DURATION", help="With --wait: how long (default: 5m)."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the requests and send nothing.")] = False,
    url: Url = None,
    bootstrap_servers: BootstrapServers = None,
    token: Token = None,
    output: OutputForm = None,
) -> None:
    """Hand in one comparison or a file of them; --wait follows their callbacks."""
    from llmctl.jobs.batches import Defaults, open_lines, read_text
    from llmctl.jobs.submission import SubmissionPlan, submit_lines

    _refuse_contradictions(
        one=(prompt, essay_a, essay_b),
        file=file,
        concurrency=concurrency,
        wait=wait,
        timeout=timeout,
        dry_run=dry_run,
    )
    target = find_target(context).override(url=url, bootstrap_servers=bootstrap_servers, token=token)
    defaults = Defaults(
        callback_topic, provider, model, priority, ttl, read_pairs(metadata or (), "--metadata")
    )
    wait_seconds = (DEFAULT_WAIT_SECONDS if timeout is None else timeout) if wait else None
    terminal = open_terminal(output)
    if file is not None:
        plan = SubmissionPlan(concurrency or DEFAULT_CONCURRENCY, wait_seconds, dry_run=dry_run)
        with open_lines(file) as lines:
            run(submit_lines(lines, defaults, plan, target, terminal))
        return
    if not callback_topic:
        raise UsageProblem("A comparison needs --callback-topic: where its result is to be called back.")
    body = {
        "user_prompt": prompt,
        "essay_a": read_text(essay_a or "", "--essay-a"),
        "essay_b": read_text(essay_b or "", "--essay-b"),
    }
    plan = SubmissionPlan(1, wait_seconds, retry_limit_seconds=0.0, dry_run=dry_run)
    run(submit_lines(BytesIO(json.dumps(body).encode()), defaults, plan, target, terminal))


def _refuse_contradictions(
    *,
    one: tuple[str | None, str | None, str | None],
    file: str | None,
    concurrency: int | None,
    wait: bool,
    timeout: float | None,
    dry_run: bool,
) -> None:
    given = [value is not None for value in one]
    if file is not None and any(given):
        raise UsageProblem("--file goes without --prompt, --essay-a and --essay-b: its lines say all that.")
    if file is None and not all(given):
        raise UsageProblem("Name --prompt, --essay-a and --essay-b for one comparison, or --file for many.")
    if one[1] == one[2] == "-":
        raise UsageProblem("Only one of --essay-a and --essay-b can be standard input.")
    if concurrency is not None and file is None:
        raise UsageProblem("--concurrency goes with --file.")
    if timeout is not None and not wait:
        raise UsageProblem("--timeout goes with --wait.")
    if dry_run and wait:
        raise UsageProblem("--dry-run sends nothing, so there is nothing to --wait for.")
