"""`llmctl submit`: one comparison, or many from a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

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
from llmctl.commands.production import frame_production
from llmctl.completion import complete_providers, complete_topics
from llmctl.exits import UsageProblem
from llmctl.loop import run
from llmctl.render.terminal import Terminal, open_terminal
from llmctl.targets import Target
from simulator.quantities import parse_duration

if TYPE_CHECKING:
    from llmctl.jobs.submission import SubmissionPlan
    from llmctl.jobs.survey import Batch
    from llmctl.jobs.swaps import NameKeys

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
    receipts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Keeps what was accepted: the same command again sends the rest.",
            rich_help_panel=MANY,
        ),
    ] = None,
    swap_check: Annotated[
        bool,
        typer.Option(
            "--swap-check",
            help="Each also with its essays swapped; --wait tells the flip rate.",
            rich_help_panel=MANY,
        ),
    ] = False,
    names: Annotated[
        str | None,
        typer.Option(
            metavar="KEY_A,KEY_B",
            help="Metadata swapped with them (default: essay_a_id,essay_b_id).",
            rich_help_panel=MANY,
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
    patience: Annotated[
        float | None,
        typer.Option(
            parser=reading(parse_duration),
            metavar="DURATION",
            help="How long to bear a service that takes none (default: 10m).",
            rich_help_panel=MANY,
        ),
    ] = None,
    callback_topic: Annotated[
        str | None,
        typer.Option(
            metavar="TOPIC",
            help="Where the callback goes.",
            rich_help_panel=EACH,
            autocompletion=complete_topics,
        ),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(help="Which provider to ask.", rich_help_panel=EACH, autocompletion=complete_providers),
    ] = None,
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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Send nothing: show bodies, tokens, price and time.")
    ] = False,
    url: Url = None,
    bootstrap_servers: BootstrapServers = None,
    token: Token = None,
    output: OutputForm = None,
) -> None:
    """Hand in one comparison or a file of them; --wait follows their callbacks."""
    one = (prompt, essay_a, essay_b)
    of_file = {
        "--receipts": receipts,
        "--swap-check": swap_check or None,
        "--names": names,
        "--concurrency": concurrency,
        "--patience": patience,
    }
    _refuse_contradictions(one, file, of_file)
    _refuse_vain_waits(wait=wait, timeout=timeout, dry_run=dry_run)
    from llmctl.jobs.batches import Defaults
    from llmctl.jobs.submission import DEFAULT_PATIENCE_SECONDS, SubmissionPlan
    from llmctl.jobs.survey import Batch

    target = find_target(context).override(url=url, bootstrap_servers=bootstrap_servers, token=token)
    pairs = read_pairs(metadata or (), "--metadata")
    defaults = Defaults(callback_topic, provider, model, priority, ttl, pairs)
    wait_seconds = (DEFAULT_WAIT_SECONDS if timeout is None else timeout) if wait else None
    plan = SubmissionPlan(1, wait_seconds)
    if file is not None:
        patience_seconds = DEFAULT_PATIENCE_SECONDS if patience is None else patience
        plan = SubmissionPlan(concurrency or DEFAULT_CONCURRENCY, wait_seconds, patience_seconds)
    elif not callback_topic:
        raise UsageProblem("A comparison needs --callback-topic: where its result is to be called back.")
    keys = _read_names(names) if swap_check else None
    with _open_requests(file, one) as lines:
        batch = Batch(lines, defaults, keys)
        if dry_run:
            _reckon(batch, receipts, target, open_terminal(output))
        else:
            _send(batch, receipts, plan, target, open_terminal(output))


def _read_names(text: str | None) -> NameKeys:
    from llmctl.jobs.swaps import NameKeys
    from llmctl.jobs.win_count import parse_name_keys

    try:
        return NameKeys() if text is None else parse_name_keys(text)
    except ValueError as problem:
        raise UsageProblem(f"--names: {problem}.") from None


@contextmanager
def _open_requests(file: str | None, one: tuple[str | None, str | None, str | None]) -> Iterator[BinaryIO]:
    """The bodies as JSON lines, wherever they come from."""
    from llmctl.jobs.batches import open_lines, read_text

    if file is not None:
        with open_lines(file) as lines:
            yield lines
        return
    prompt, essay_a, essay_b = one
    body = {
        "user_prompt": prompt,
        "essay_a": read_text(essay_a or "", "--essay-a"),
        "essay_b": read_text(essay_b or "", "--essay-b"),
    }
    yield BytesIO(json.dumps(body).encode())


def _send(
    batch: Batch, receipts_path: Path | None, plan: SubmissionPlan, target: Target, terminal: Terminal
) -> None:
    from contextlib import ExitStack
    from dataclasses import replace

    from llmctl.jobs.receipts import open_receipts
    from llmctl.jobs.submission import submit_batch
    from llmctl.jobs.survey import survey

    frame_production(target, terminal)
    with ExitStack() as closing:
        if receipts_path is not None:
            batch = replace(batch, receipts=closing.enter_context(open_receipts(receipts_path)))
        run(submit_batch(batch, survey(batch), plan, target, terminal))


def _reckon(batch: Batch, receipts_path: Path | None, target: Target, terminal: Terminal) -> None:
    from llmctl.jobs.estimates import Reckoning, ask_for_offers, reckon
    from llmctl.jobs.receipts import peek_standing

    standing = None if receipts_path is None else peek_standing(receipts_path)
    offers, silence = run(ask_for_offers(target))
    reckon(batch, standing, Reckoning(offers), silence, terminal)


def _refuse_contradictions(
    one: tuple[str | None, str | None, str | None], file: str | None, of_file: Mapping[str, object]
) -> None:
    given = [value is not None for value in one]
    if file is not None and any(given):
        raise UsageProblem("--file goes without --prompt, --essay-a and --essay-b: its lines say all that.")
    if file is None and not all(given):
        raise UsageProblem("Name --prompt, --essay-a and --essay-b for one comparison, or --file for many.")
    if one[1] == one[2] == "-":
        raise UsageProblem("Only one of --essay-a and --essay-b can be standard input.")
    for option, value in of_file.items():
        if value is not None and file is None:
            raise UsageProblem(f"{option} goes with --file.")
    if of_file["--names"] is not None and of_file["--swap-check"] is None:
        raise UsageProblem("--names goes with --swap-check.")


def _refuse_vain_waits(*, wait: bool, timeout: float | None, dry_run: bool) -> None:
    if timeout is not None and not wait:
        raise UsageProblem("--timeout goes with --wait.")
    if dry_run and wait:
        raise UsageProblem("--dry-run sends nothing, so there is nothing to --wait for.")
