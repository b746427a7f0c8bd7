"""`simulate capacity`: makes a system of what was asked about, has it simulated, shows what it would do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TypeVar

from rich.table import Table
from rich.text import Text

from llmctl.exits import UsageProblem
from llmctl.render.progress import progress_line
from llmctl.render.tables import BAD, DIM, GOOD, cell, format_cost, make_table
from llmctl.render.terminal import Terminal
from simulator.capacity.figures import BATCHES, Figures
from simulator.capacity.model import Call, Provider, Resource, Service, System
from simulator.capacity.prediction import Day, Prediction, Queue, Run, predict_rate, predict_shape
from simulator.capacity.scenarios import find_left_out, read_provider
from simulator.load.shape import Shape, parse_shape
from simulator.load.trace import read_traces
from simulator.provider.catalogue import (
    ANTHROPIC_MODELS,
    GOOGLE_MODELS,
    OPENAI_MODELS,
    OPENROUTER_MODELS,
    find_model,
)
from simulator.provider.distributions import read_distribution
from simulator.provider.scenario import Scenario, find_scenario
from simulator.quantities import format_duration

RECORDED_SCENARIO = "realistic"
"""Where nothing else is said: what real comparisons took, in time and in tokens."""
DEFAULT_MODEL = "gpt-4o-mini"
TITLES = {
    Resource.PROVIDER_CALLS: "provider's calls at once",
    Resource.PROVIDER_REQUESTS: "provider's requests a minute",
    Resource.PROVIDER_TOKENS: "provider's tokens a minute",
    Resource.SERVICE_CALLS: "service's calls at once",
    Resource.SERVICE_CPU: "service's CPU",
}
BUSY = 0.85
"""A resource in use beyond this share is shown as one to look at: waits grow steeply from there on."""

_MODELS = OPENAI_MODELS + ANTHROPIC_MODELS + GOOGLE_MODELS + OPENROUTER_MODELS
T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """What was asked on the command line; None is left to the scenario, or to no limit."""

    rate: float | None
    shape: str | None
    latency: str | None
    scenario: str | None
    provider_concurrency: int | None
    rpm: float | None
    tpm: float | None
    failure_rate: float | None
    prompt_tokens: int | None
    answer_tokens: int | None
    model: str | None
    usd_per_call: float | None
    service: Service
    requests: int
    seed: int


def predict_and_show(question: Question, terminal: Terminal) -> None:
    """Simulates and shows; UsageProblem where the question makes no sense."""
    shape = _read_shape(question)
    scenario = _find_scenario(question)
    system = _build_system(question, scenario)
    with progress_line(terminal, counted=False) as progress:
        progress.begin("simulating")
        try:
            if shape is None:
                assert question.rate is not None
                prediction = predict_rate(system, question.rate, question.requests, question.seed)
            else:
                prediction = predict_shape(system, shape, question.requests, question.seed)
        except ValueError as problem:
            raise UsageProblem(str(problem)) from None
    left_out = () if question.latency is not None else tuple(find_left_out(scenario))
    prediction = prediction.model_copy(update={"notes": (*left_out, *prediction.notes)})
    if terminal.as_json:
        terminal.write(
            {"question": _describe(question, scenario, system), **prediction.model_dump(mode="json")}
        )
        return
    _show(prediction, terminal)


def parse_share(text: str) -> float:
    """The share that `2%` or `0.02` says, below 1; ValueError with what is allowed."""
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise ValueError(f"{text!r} is no share of less than all; write for example 2% or 0.02")
    return share


def _read_shape(question: Question) -> Shape | None:
    if (question.rate is None) == (question.shape is None):
        raise UsageProblem("Say how much arrives: either --rate 200/s or --shape 'ramp 50/s→200/s 1m'.")
    if question.shape is None:
        return None
    text = question.shape
    return _read("--shape", lambda: read_traces(parse_shape(text)))


def _find_scenario(question: Question) -> Scenario:
    if question.latency is not None and question.scenario is not None:
        raise UsageProblem("A scenario has a latency of its own: give --latency or --scenario, not both.")
    try:
        return find_scenario(question.scenario or RECORDED_SCENARIO)
    except ValueError as problem:
        raise UsageProblem(str(problem)) from None


def _build_system(question: Question, scenario: Scenario) -> System:
    call = _build_call(question, scenario)
    if question.latency is None:
        provider = read_provider(scenario, call)
    else:
        text = question.latency
        provider = Provider(_read("--latency", lambda: read_distribution(text, None)))
    if question.provider_concurrency is not None:
        provider = replace(provider, concurrency=question.provider_concurrency)
    if question.rpm is not None:
        provider = replace(provider, requests_per_minute=question.rpm, burst_requests=None)
    if question.tpm is not None:
        provider = replace(provider, tokens_per_minute=question.tpm, burst_tokens=None)
    if question.failure_rate is not None:
        provider = replace(provider, refused=0.0, spoilt=question.failure_rate)
    return System(provider, question.service, call)


def _build_call(question: Question, scenario: Scenario) -> Call:
    recorded = find_scenario(RECORDED_SCENARIO).behaviour.tokens
    tokens = scenario.behaviour.tokens
    prompt = _first(question.prompt_tokens, tokens.prompt, recorded.prompt)
    answer = _first(question.answer_tokens, tokens.completion, recorded.completion)
    if question.usd_per_call is None:
        return Call(prompt, answer, _find_price(question.model or DEFAULT_MODEL, prompt, answer))
    if question.model is not None:
        raise UsageProblem("A model has a price of its own: give --model or --usd-per-call, not both.")
    return Call(prompt, answer, question.usd_per_call)


def _find_price(name: str, prompt_tokens: int, answer_tokens: int) -> float:
    model = find_model(_MODELS, name)
    if model is None:
        near = get_close_matches(name, [model.name for model in _MODELS], 3) or [DEFAULT_MODEL]
        raise UsageProblem(
            f"No price is known for the model {name!r}; take for example {', '.join(near)}, "
            "or say what a call costs with --usd-per-call."
        )
    return model.price(prompt_tokens, 0, answer_tokens)


def _first(*numbers: int | None) -> int:
    return next(number for number in numbers if number is not None)


def _read(option: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except ValueError as problem:
        raise UsageProblem(f"{option}: {str(problem).rstrip('.')}.") from None


def _describe(question: Question, scenario: Scenario, system: System) -> dict[str, object]:
    """What the figures are for: all of it, defaults included."""
    provider, service, call = system.provider, system.service, system.call
    return {
        "rate": question.rate,
        "shape": question.shape,
        "latency": question.latency,
        "scenario": scenario.name if question.latency is None else None,
        "provider_concurrency": provider.concurrency,
        "rpm": provider.requests_per_minute,
        "tpm": provider.tokens_per_minute,
        "failure_rate": provider.failing,
        "prompt_tokens": call.prompt_tokens,
        "answer_tokens": call.answer_tokens,
        "usd_per_call": call.usd,
        "replicas": service.replicas,
        "partitions": service.partitions,
        "concurrency": service.concurrency,
        "cpu_seconds_per_request": service.cpu_seconds,
        "attempts": service.max_attempts,
    }


def _show(prediction: Prediction, terminal: Terminal) -> None:
    terminal.show(_say_verdict(prediction))
    terminal.show("")
    terminal.show(_tabulate_latency(prediction))
    terminal.show("")
    terminal.show(_tabulate_resources(prediction))
    terminal.show("")
    terminal.show(_tabulate_rest(prediction))
    for note in prediction.notes:
        terminal.say(note, "yellow")


def _say_verdict(prediction: Prediction) -> Text:
    most = f"The bottleneck, {TITLES[prediction.bottleneck]}, carries {_write_rate(prediction.largest_rate)}."
    if prediction.rate is None:
        return cell(f"One burst. {most}", wrap=True)
    hourly = f" ({prediction.rate * 3600:,.0f} an hour)" if prediction.rate >= 1 else ""
    rate = f"{_write_rate(prediction.rate)}{hourly}{'' if prediction.run.steady else ' on average'}"
    if prediction.stable:
        return cell(f"Stable at {rate}. {most}", GOOD, wrap=True)
    growth = f"the queue grows by {_write_rate(prediction.growth_per_second)}"
    return cell(f"NOT stable at {rate}: {growth}. {most}", BAD, wrap=True)


def _tabulate_latency(prediction: Prediction) -> Table:
    columns = ("mean", "p50", "p90", "p99", "p99.9", "max")
    table = make_table(("time", *columns), right=columns)
    latency = prediction.latency
    for name, figures in (
        ("accept", latency.accept),
        ("queue wait", latency.queue_wait),
        ("provider", latency.provider),
        ("end to end", latency.end_to_end),
    ):
        times = (figures.mean, figures.p50, figures.p90, figures.p99, figures.p999, figures.max)
        table.add_row(cell(name), *(cell(format_duration(seconds)) for seconds in times))
    return table


def _tabulate_resources(prediction: Prediction) -> Table:
    table = make_table(("resource", "limit", "in use", "carries"), right=("limit", "in use", "carries"))
    for each in prediction.resources:
        table.add_row(
            cell(TITLES[each.name]),
            cell(f"{each.limit:,.0f}"),
            cell(None if each.utilisation is None else f"{each.utilisation:.0%}", _color(each.utilisation)),
            cell(None if each.largest_rate is None else _write_rate(each.largest_rate)),
        )
    return table


def _color(utilisation: float | None) -> str:
    return BAD if utilisation is not None and utilisation > BUSY else ""


def _tabulate_rest(prediction: Prediction) -> Table:
    """What has no columns: a label and a sentence each."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row(cell("queue", DIM), cell(_say_queue(prediction.queue), wrap=True))
    if prediction.day is not None:
        table.add_row(cell("a day", DIM), cell(_say_day(prediction.day), wrap=True))
    said = _say_run(prediction.run)
    if prediction.stable:
        said += _say_margins(prediction.latency.end_to_end)
    elif prediction.run.steady:
        said += "; the times are those of this stretch and grow with it"
    table.add_row(cell("simulated", DIM), cell(said, wrap=True))
    return table


def _say_queue(queue: Queue) -> str:
    mean = ""
    if queue.mean_depth is not None:
        mean = f"{queue.mean_depth:,.{0 if queue.mean_depth >= 100 else 1}f} deep on average, "
    return (
        f"{mean}{queue.peak_depth:,} at most; "
        f"all is done {format_duration(queue.drain_seconds)} after the last arrival"
    )


def _say_day(day: Day) -> str:
    return (
        f"{day.requests:,.0f} requests, {day.calls:,.0f} calls, {day.tokens:,.0f} tokens, "
        f"{format_cost(day.usd)}; {day.failed_requests:,.0f} requests fail for good"
    )


def _say_run(run: Run) -> str:
    warm_up = f" after {run.warm_up_requests:,} to warm up" if run.warm_up_requests else ""
    return f"{run.requests:,} requests in {format_duration(run.seconds)}{warm_up}, seed {run.seed}"


def _say_margins(figures: Figures) -> str:
    """How far another seed might come out elsewhere."""
    if figures.mean_margin is None or figures.p99_margin is None:
        return ""
    mean, p99 = (
        f"{margin / value:.1%}" if value else "0%"
        for margin, value in ((figures.mean_margin, figures.mean), (figures.p99_margin, figures.p99))
    )
    return f"; end to end the mean is good to ±{mean} and the p99 to ±{p99} (95%, {BATCHES} batches)"


def _write_rate(per_second: float) -> str:
    if per_second < 1:
        return f"{per_second * 3600:,.4g}/h"
    return f"{per_second:,.0f}/s" if per_second >= 100 else f"{per_second:.1f}/s"
