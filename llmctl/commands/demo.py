"""`llmctl demo`: the main job once, with nothing installed."""

from __future__ import annotations

from typing import Annotated

import typer

from llmctl.commands.options import OutputForm, reading
from llmctl.loop import run
from llmctl.render.terminal import open_terminal
from simulator.quantities import parse_duration

DEFAULT_TIMEOUT_SECONDS = 60.0


def demo(
    timeout: Annotated[
        float | None,
        typer.Option(
            parser=reading(parse_duration), metavar="DURATION", help="The time limit (default: 60s)."
        ),
    ] = None,
    output: OutputForm = None,
) -> None:
    """Start broker, fake provider and service; submit, ask, call back, prove it; stop everything."""
    from llmctl.jobs.demonstration import demonstrate

    run(demonstrate(DEFAULT_TIMEOUT_SECONDS if timeout is None else timeout, open_terminal(output)))
