"""`llmctl simulate capacity`: what a setup can carry, on paper."""

from __future__ import annotations

from typing import Annotated

import typer

from llmctl.commands.options import OutputForm, reading
from llmctl.completion import complete_scenarios
from llmctl.render.terminal import open_terminal
from simulator.quantities import parse_duration

DEFAULT_CPU_SECONDS = 0.0015
LOAD, PROVIDER, SERVICE, RUN = "Load", "Provider", "Service", "Simulation"
MAX_REPLICAS = 1_000
MAX_PARTITIONS = 10_000
MAX_CONCURRENCY = 10_000
MAX_CALLS = 1_000_000
MAX_RPM = 1e9
MAX_TPM = 1e12
MAX_TOKENS = 10_000_000
MAX_USD = 1_000.0


def _parse_rate(text: str) -> float:
    from simulator.quantities import parse_rate

    return parse_rate(text)


def _parse_share(text: str) -> float:
    from llmctl.jobs.capacity import parse_share

    return parse_share(text)


def capacity(
    rate: Annotated[
        float | None,
        typer.Option(
            parser=reading(_parse_rate),
            metavar="RATE",
            help="Independent arrivals, such as 200/s or 3000000/h.",
            rich_help_panel=LOAD,
        ),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            metavar="SHAPE", help="Or a load as `simulate load` takes it, once through.", rich_help_panel=LOAD
        ),
    ] = None,
    latency: Annotated[
        str | None,
        typer.Option(
            metavar="DISTRIBUTION", help="Of a call, such as 'p50=800ms p99=6s'.", rich_help_panel=PROVIDER
        ),
    ] = None,
    scenario: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Or all of this as the fake provider has it (default: realistic).",
            autocompletion=complete_scenarios,
            rich_help_panel=PROVIDER,
        ),
    ] = None,
    provider_concurrency: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MAX_CALLS,
            metavar="N",
            help="Calls at once, of all replicas.",
            rich_help_panel=PROVIDER,
        ),
    ] = None,
    rpm: Annotated[
        float | None,
        typer.Option(min=1, max=MAX_RPM, metavar="N", help="Requests a minute.", rich_help_panel=PROVIDER),
    ] = None,
    tpm: Annotated[
        float | None,
        typer.Option(
            min=1,
            max=MAX_TPM,
            metavar="N",
            help="Tokens a minute, prompt and answer.",
            rich_help_panel=PROVIDER,
        ),
    ] = None,
    failure_rate: Annotated[
        float | None,
        typer.Option(
            parser=reading(_parse_share),
            metavar="SHARE",
            help="Calls that take their time, are billed and fail, such as 2%; each is made again.",
            rich_help_panel=PROVIDER,
        ),
    ] = None,
    prompt_tokens: Annotated[
        int | None,
        typer.Option(min=0, max=MAX_TOKENS, metavar="N", help="Of a call.", rich_help_panel=PROVIDER),
    ] = None,
    answer_tokens: Annotated[
        int | None,
        typer.Option(min=0, max=MAX_TOKENS, metavar="N", help="Of a call.", rich_help_panel=PROVIDER),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="For the price, from the fake provider's list (default: gpt-4o-mini).",
            rich_help_panel=PROVIDER,
        ),
    ] = None,
    usd_per_call: Annotated[
        float | None,
        typer.Option(min=0, max=MAX_USD, metavar="USD", help="Or the price.", rich_help_panel=PROVIDER),
    ] = None,
    replicas: Annotated[
        int,
        typer.Option(
            min=1, max=MAX_REPLICAS, metavar="N", help="Processes of one core.", rich_help_panel=SERVICE
        ),
    ] = 1,
    partitions: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MAX_PARTITIONS,
            metavar="N",
            help="Of the topic they share; without, each has a queue behind a load balancer.",
            rich_help_panel=SERVICE,
        ),
    ] = None,
    concurrency: Annotated[
        int,
        typer.Option(
            min=1, max=MAX_CONCURRENCY, metavar="N", help="Calls at once in each.", rich_help_panel=SERVICE
        ),
    ] = 1000,
    cpu_per_request: Annotated[
        float | None,
        typer.Option(
            parser=reading(parse_duration),
            metavar="DURATION",
            help="CPU time, half of it before the call (default: 1.5ms).",
            rich_help_panel=SERVICE,
        ),
    ] = None,
    attempts: Annotated[
        int,
        typer.Option(min=1, max=100, metavar="N", help="At one request, at most.", rich_help_panel=SERVICE),
    ] = 5,
    requests: Annotated[
        int,
        typer.Option(
            min=2_000,
            max=5_000_000,
            metavar="N",
            help="How many to simulate, after a warm-up that is not counted.",
            rich_help_panel=RUN,
        ),
    ] = 200_000,
    seed: Annotated[
        int, typer.Option(metavar="N", help="The same seed gives the same figures.", rich_help_panel=RUN)
    ] = 0,
    output: OutputForm = None,
) -> None:
    """Predict waits, the bottleneck, the largest rate and the cost of a day, without starting anything.

    Disk, network and broker are left out: they add some milliseconds to each request.
    """
    from llmctl.jobs.capacity import Question, predict_and_show
    from simulator.capacity.model import Service

    question = Question(
        rate=rate,
        shape=shape,
        latency=latency,
        scenario=scenario,
        provider_concurrency=provider_concurrency,
        rpm=rpm,
        tpm=tpm,
        failure_rate=failure_rate,
        prompt_tokens=prompt_tokens,
        answer_tokens=answer_tokens,
        model=model,
        usd_per_call=usd_per_call,
        service=Service(
            replicas=replicas,
            partitions=partitions,
            concurrency=concurrency,
            cpu_seconds=DEFAULT_CPU_SECONDS if cpu_per_request is None else cpu_per_request,
            max_attempts=attempts,
        ),
        requests=requests,
        seed=seed,
    )
    predict_and_show(question, open_terminal(output))
