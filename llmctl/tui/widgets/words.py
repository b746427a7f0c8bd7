"""How figures and states are said: short, of steady width, and never by colour alone."""

from __future__ import annotations

import time

from llmctl.render.tables import NOTHING
from llmctl.tui.model.alerts import AlertState
from llmctl.tui.model.events import Level
from llmctl.tui.model.reading import ProviderReading

GOOD, WARNING, BAD, DIM, PLAIN, ACCENT = "green", "yellow", "red", "bright_black", "", "cyan"
LEVELS = {
    Level.GOOD: ("✔", GOOD),
    Level.INFO: ("·", PLAIN),
    Level.WARNING: ("▲", WARNING),
    Level.BAD: ("✖", BAD),
}
"""Glyph and colour of each level."""
ALERTS = {
    AlertState.OK: ("✔ ok", GOOD),
    AlertState.PENDING: ("▲ pending", WARNING),
    AlertState.FIRING: ("✖ FIRING", BAD),
}
PHASES = {
    "ready": ("● READY", GOOD),
    "starting": ("◌ STARTING", WARNING),
    "draining": ("◐ DRAINING", WARNING),
    "stopped": ("✖ STOPPED", BAD),
}
STATUSES = {"success": ("✔ ok", GOOD), "error": ("✖ error", BAD), "invalid": ("✖ invalid", BAD)}


def say_phase(phase: str) -> tuple[str, str]:
    """A phase with its glyph, and its colour."""
    return PHASES.get(phase, ("? UNKNOWN", WARNING))


def say_circuit(provider: ProviderReading) -> tuple[str, str]:
    """How a provider can be asked, and its colour."""
    if provider.held:
        return "■ held", WARNING
    match provider.circuit:
        case "closed":
            return "● closed", GOOD
        case "half_open":
            return "◐ half open", WARNING
        case "open":
            return "✖ OPEN", BAD
        case other:
            return f"? {other}", WARNING


def say_seconds(seconds: float | None) -> str:
    """A time in at most six characters: `4.1ms`, `980ms`, `2.34s`, `75.0s`, `12m`, `3.5h`."""
    if seconds is None:
        return NOTHING
    if seconds < 0:
        return f"-{say_seconds(-seconds)}"
    if seconds < 0.01:
        return f"{seconds * 1000:.1f}ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 100:
        return f"{seconds:.2f}s" if seconds < 10 else f"{seconds:.1f}s"
    if seconds < 5400:
        return f"{seconds / 60:.0f}m"
    return f"{seconds / 3600:.1f}h"


def say_rate(per_second: float | None) -> str:
    """So many a second, in at most seven characters without the unit."""
    if per_second is None:
        return NOTHING
    return f"{per_second:.1f}" if abs(per_second) < 999.95 else f"{per_second:,.0f}"


def say_count(count: float | None) -> str:
    """A whole number with commas."""
    return NOTHING if count is None else f"{count:,.0f}"


def say_share(share: float | None) -> str:
    """A share as a percentage."""
    return NOTHING if share is None else f"{share:.1%}"


def say_clock(moment: float | None) -> str:
    """The time of day, UTC."""
    return NOTHING if moment is None else time.strftime("%H:%M:%S", time.gmtime(moment))


def say_stamp(moment: float) -> str:
    """The time of day, UTC, with milliseconds."""
    seconds, milliseconds = divmod(round(moment * 1000), 1000)
    return f"{time.strftime('%H:%M:%S', time.gmtime(seconds))}.{milliseconds:03}"


def say_window(seconds: int) -> str:
    """A window of time: `1m`, `15m`, `1h`."""
    return f"{seconds // 3600}h" if seconds % 3600 == 0 else f"{seconds // 60}m"
