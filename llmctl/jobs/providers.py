"""`providers`: shows how providers stand, holds one, releases it."""

from __future__ import annotations

from rich.text import Text

from llmctl.client.operators import ProviderState, open_operator
from llmctl.render.tables import BAD, DIM, GOOD, cell, make_table
from llmctl.render.terminal import Terminal
from llmctl.targets import Target
from simulator.quantities import format_duration

NARROW = 100
"""Below so many columns limits are left to the JSON: state and hold matter more."""
_STYLE_OF_CIRCUIT = {"closed": GOOD, "half_open": "yellow", "open": BAD}
_REASONS = {
    "operator": "by an operator",
    "rate_limit": "as it asked, its rate limit is reached",
    "quota": "its quota or credit is used up",
}


async def list_and_report(target: Target, terminal: Terminal) -> None:
    """Shows every configured provider; in a pipe each as one line of JSON."""
    async with open_operator(target.url, target.bearer_token) as operator:
        providers = await operator.list_providers()
    if terminal.as_json:
        for provider in providers:
            terminal.write(provider.document)
        return
    if not providers:
        terminal.say(
            "No provider is configured; set an API key, such as LLM_PROVIDER_SERVICE_OPENAI_API_KEY."
        )
        return
    roomy = terminal.out.width >= NARROW
    columns = ["provider", "circuit", "in flight", "calls", "errors"]
    columns += ["a minute", "tokens a minute"] if roomy else []
    table = make_table([*columns, "held"], right=columns[2:], flexible=("held",))
    for provider in providers:
        table.add_row(*_render(provider, roomy=roomy))
    terminal.show(table)


async def hold_and_report(name: str, seconds: float | None, target: Target, terminal: Terminal) -> None:
    """Has a provider asked nothing, for so long or until released."""
    async with open_operator(target.url, target.bearer_token) as operator:
        provider = await operator.hold_provider(name, seconds)
    if terminal.as_json:
        terminal.write(provider.document)
        return
    how_long = "until it is released or the service restarts" if seconds is None else format_duration(seconds)
    said = f"{provider.name} is held {'for ' if seconds else ''}{how_long}; its requests wait in the queue."
    terminal.show(cell(said, "yellow", wrap=True))


async def release_and_report(name: str, target: Target, terminal: Terminal) -> None:
    """Has a provider asked again."""
    async with open_operator(target.url, target.bearer_token) as operator:
        provider = await operator.release_provider(name)
    if terminal.as_json:
        terminal.write(provider.document)
    else:
        terminal.show(cell(f"{provider.name} is asked again.", GOOD, wrap=True))


def _render(provider: ProviderState, *, roomy: bool) -> tuple[Text, ...]:
    circuit = provider.circuit
    limits = (
        [cell(_say_limit(provider.requests_per_minute)), cell(_say_limit(provider.tokens_per_minute))]
        if roomy
        else []
    )
    return (
        cell(provider.name, "bold"),
        cell(circuit.replace("_", " "), _STYLE_OF_CIRCUIT.get(circuit, "")),
        cell(f"{provider.in_flight}/{provider.concurrency_limit}"),
        cell(provider.calls),
        cell(provider.errors, BAD if provider.errors else ""),
        *limits,
        _render_hold(provider),
    )


def _render_hold(provider: ProviderState) -> Text:
    if not provider.held:
        return cell("no", DIM)
    reason = _REASONS.get(provider.hold_reason or "", provider.hold_reason or "")
    if provider.held_until is None:
        return cell(f"until released, {reason}", "yellow", wrap=True)
    until = provider.held_until.astimezone().strftime("%H:%M:%S")
    return cell(f"until {until}, {reason}", "yellow", wrap=True)


def _say_limit(limit: float | None) -> str | None:
    return None if limit is None else f"{limit:,.0f}"
