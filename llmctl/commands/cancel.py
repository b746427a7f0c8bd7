"""`llmctl cancel`: takes requests back."""

from __future__ import annotations

from typing import Annotated

import typer

from llmctl.commands.options import OutputForm, Token, Url, find_target
from llmctl.commands.production import frame_production
from llmctl.exits import UsageProblem
from llmctl.loop import run
from llmctl.render.terminal import open_terminal


def cancel(
    context: typer.Context,
    queue_ids: Annotated[
        list[str] | None, typer.Argument(metavar="QUEUE_ID", help="Those of these requests; - is stdin.")
    ] = None,
    receipts: Annotated[
        str | None,
        typer.Option(
            "--receipts", metavar="FILE", help="Every request of a receipts file of `submit`; - is stdin."
        ),
    ] = None,
    url: Url = None,
    token: Token = None,
    output: OutputForm = None,
) -> None:
    """Cancel what is queued or under way; the callback says so, and whether a call may be billed.

    What has its callback already keeps it: exit code 1 names those.
    """
    from llmctl.jobs.cancelling import cancel_and_report, read_ids, read_receipt_ids

    if bool(queue_ids) == (receipts is not None):
        raise UsageProblem("Say what to cancel: either queue ids, or --receipts FILE.")
    wanted = read_ids(queue_ids or []) if receipts is None else read_receipt_ids(receipts)
    target = find_target(context).override(url=url, token=token)
    terminal = open_terminal(output)
    frame_production(target, terminal)
    run(cancel_and_report(wanted, target, terminal))
