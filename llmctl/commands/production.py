"""Care where others depend on it: a red frame before something changes, a question before something stops."""

from __future__ import annotations

import sys

import typer

from llmctl.exits import Failed, UsageProblem
from llmctl.masking import mask_url
from llmctl.render.tables import BAD, cell
from llmctl.render.terminal import Terminal
from llmctl.targets import Target


def frame_production(target: Target, terminal: Terminal, *, kafka: bool = False) -> None:
    """Says in red what is about to be changed, where that is production and somebody looks on.

    Of the two places of a target it is the service's, or Kafka's.
    """
    if not (target.is_production and terminal.err.is_terminal):
        return
    from rich.panel import Panel

    place = target.kafka.servers if kafka else mask_url(target.url)
    said = cell(f"PRODUCTION · context {target.context} · {place}", f"bold {BAD}", wrap=True)
    terminal.err.print(Panel(said, border_style=BAD, expand=False))


def confirm_in_production(target: Target, question: str, *, order: str, declined: str) -> None:
    """Asks before an order is given to production: Failed where the answer is no.

    UsageProblem where nobody can be asked: `order` says there what --yes would do.
    """
    if not target.is_production:
        return
    url = mask_url(target.url)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageProblem(f"{url} is production: nobody can be asked here, so say --yes to {order}.")
    if not typer.confirm(f"{url} is production. {question}", err=True):
        raise Failed(declined)
