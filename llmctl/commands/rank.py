"""`llmctl rank`: the order of the texts that were compared."""

from __future__ import annotations

from typing import Annotated

import typer

from llmctl.commands.options import BootstrapServers, OutputForm, find_target, reading
from llmctl.completion import complete_topics
from llmctl.exits import UsageProblem
from llmctl.filters import Filter, parse_filter
from llmctl.loop import run
from llmctl.render.terminal import open_terminal

DEFAULT_NEXT, MAX_NEXT = 5, 200


def rank(
    context: typer.Context,
    topic: Annotated[
        str | None,
        typer.Argument(
            metavar="TOPIC",
            help="Whose callbacks, all that stand there now.",
            autocompletion=complete_topics,
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Instead: JSON lines of tail-callbacks, or of submit --wait; - is stdin.",
        ),
    ] = None,
    names: Annotated[
        str | None,
        typer.Option(
            metavar="KEY_A,KEY_B",
            help="The metadata's keys that name the two texts (default: essay_a_id,essay_b_id).",
        ),
    ] = None,
    where: Annotated[
        Filter | None,
        typer.Option(
            parser=reading(parse_filter),
            metavar="FILTER",
            help="Only these: 'model:gpt-4o meta.prompt_id:phones'; as in tail-callbacks.",
        ),
    ] = None,
    run_id: Annotated[
        str | None, typer.Option("--run", metavar="ID", help="The callbacks of this simulated run.")
    ] = None,
    all_runs: Annotated[
        bool, typer.Option("--all-runs", help="Also those of simulated runs, left out otherwise.")
    ] = False,
    next_count: Annotated[
        int,
        typer.Option("--next", min=0, max=MAX_NEXT, metavar="N", help="Propose so many pairs to ask next."),
    ] = DEFAULT_NEXT,
    across: Annotated[
        bool, typer.Option("--across", help="Propose also pairs of texts that nothing connects yet.")
    ] = False,
    bootstrap_servers: BootstrapServers = None,
    output: OutputForm = None,
) -> None:
    """Rank the texts by who won (Bradley-Terry), with standard errors and the pairs worth asking next."""
    from llmctl.jobs.batches import open_lines
    from llmctl.jobs.ranking import RankPlan, rank_file, rank_topic
    from llmctl.jobs.swaps import NameKeys
    from llmctl.jobs.win_count import Selection, parse_name_keys

    if (topic is None) == (file is None):
        raise UsageProblem("Name either a topic, or a file of callbacks with --file.")
    if run_id is not None and all_runs:
        raise UsageProblem("--run counts one run and --all-runs every one; choose one.")
    if across and not next_count:
        raise UsageProblem("--across is about the pairs that --next 0 leaves out; give one of them.")
    try:
        keys = NameKeys() if names is None else parse_name_keys(names)
    except ValueError as problem:
        raise UsageProblem(f"--names: {problem}.") from None
    plan = RankPlan(Selection(keys, where or Filter(), run_id, all_runs), next_count, across=across)
    terminal = open_terminal(output)
    if file is None:
        assert topic is not None
        target = find_target(context).override(bootstrap_servers=bootstrap_servers)
        run(rank_topic(plan, topic, target.kafka, terminal))
        return
    if bootstrap_servers is not None:
        raise UsageProblem("--bootstrap-servers goes with a topic; a file needs no Kafka.")
    with open_lines(file) as lines:
        rank_file(plan, lines, terminal)
