"""The monitor's first two lines and its last: what is watched, how old it is, what is wrong, which keys."""

from __future__ import annotations

from llmctl.tui.screens.pane import View
from llmctl.tui.session import Session
from llmctl.tui.widgets.panels import Words
from llmctl.tui.widgets.words import BAD, DIM, LEVELS, say_clock, say_phase, say_seconds, say_window

PANES = (
    ("overview", "Over"),
    ("callbacks", "Callb"),
    ("providers", "Prov"),
    ("queue", "Queue"),
    ("topics", "Topics"),
    ("events", "Events"),
    ("run", "Run"),
)
"""The panes' ids and short names, in the order of their keys."""


def say_head(view: View, session: Session) -> Words:
    """The phase, what is watched, and how old its figures are."""
    store = view.store
    reading = store.reading
    phase, colour = say_phase(reading.phase) if reading else ("◌ waiting", DIM)
    old = view.stale and reading is not None
    said = [(f" {phase} ", f"bold {DIM if old else colour}"), (f" {session.title}", "bold")]
    if session.production:
        said.append((" ■ PRODUCTION", f"bold {BAD}"))
    if reading is not None and reading.version:
        said.append((f" · {reading.version}", DIM))
    age = store.age(view.now)
    if age is None or reading is None:
        said.append((" · no figures yet", DIM))
    elif old:
        said.append((f" · ▲ figures are {say_seconds(age)} old", "yellow"))
    else:
        said.append((f" · {reading.source} {age:.1f}s ago", DIM))
    return said


def say_right(view: View, session: Session, newer: int | None) -> Words:
    """Paused with so many newer callbacks, recording, replay, window and time of day."""
    said = []
    if newer is not None:
        said.append((f" ▌▌ PAUSED, {max(0, newer):,} callbacks since ", "bold yellow"))
    if session.recorder is not None:
        said.append((" ● REC ", "bold red"))
    if session.replay is not None:
        said.append((f" ▶ {session.replay.clock.speed:g}x ", "bold cyan"))
    return [*said, (f" {say_window(view.window_seconds)} ", DIM), (f"{say_clock(view.now)} UTC ", "")]


def say_advice(view: View) -> Words:
    """What an operator should know first: an alert, a source that is away, what the advisor found."""
    store = view.store
    firing = store.firing
    if firing:
        more = f" and {len(firing) - 1} more" if len(firing) > 1 else ""
        lasts = say_seconds(max(0.0, view.now - firing[0].since))
        return [(f" ✖ ALERT {firing[0].condition} for {lasts}{more}", f"bold {BAD}")]
    if "service" in store.problems:
        return [(f" ✖ {store.problems['service']}", BAD)]
    if store.advice:
        first = store.advice[0]
        glyph, colour = LEVELS[first.level]
        more = f"  (+{len(store.advice) - 1} more)" if len(store.advice) > 1 else ""
        return [(f" {glyph} {first}{more}", colour)]
    for source in ("kafka", "topics", "run"):
        if source in store.problems:
            return [(f" ▲ {store.problems[source]}", "yellow")]
    return [("", "")]


def say_keys(current: str, session: Session) -> Words:
    """The panes, the one that is seen among them, and the keys that are needed most."""
    said: list[tuple[str, str]] = []
    for number, (pane, name) in enumerate(PANES, 1):
        if pane != "run" or session.store.run is not None:
            said.append((f" {number} {name} ", "reverse" if pane == current else ""))
    keys = "q quit  ? help  / filter  space pause  ⏎ detail  [ ] zoom  e export"
    if session.controls is not None:
        keys += "  d drain"
    return [*said, (f"│ {keys}", "")]
