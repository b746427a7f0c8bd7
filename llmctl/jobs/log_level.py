"""`log-level`: shows and changes how much the service logs."""

from __future__ import annotations

from llmctl.client.operators import open_operator
from llmctl.masking import mask_url
from llmctl.render.tables import cell
from llmctl.render.terminal import Terminal
from llmctl.targets import Target
from simulator.quantities import format_duration


async def change_and_report(
    level: str | None, seconds: float | None, target: Target, terminal: Terminal
) -> None:
    """Changes the level, unless it is None, and says what it is."""
    async with open_operator(target.url, target.bearer_token) as operator:
        if level is None:
            now = await operator.read_log_level()
        else:
            now = await operator.change_log_level(level, seconds)
    if terminal.as_json:
        terminal.write({"level": now.level, "seconds_left": now.seconds_left})
        return
    left = "" if now.seconds_left is None else f" for {format_duration(now.seconds_left)}"
    terminal.show(cell(f"{mask_url(target.url)} logs from {now.level} on{left}", wrap=True))
