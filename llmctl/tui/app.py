"""The monitor's screen: it reads the store four times a second and gives keys their meaning."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

from textual import work
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.theme import Theme
from textual.widgets import ContentSwitcher, Input

from llmctl.exits import CliError
from llmctl.filters import FilterProblem, parse_filter
from llmctl.loop import first_problem
from llmctl.render.safe import safe_line
from llmctl.tui.exports import describe_row, name_row
from llmctl.tui.feeds.replay import read_moment
from llmctl.tui.heading import PANES, say_advice, say_head, say_keys, say_right
from llmctl.tui.model.frames import Bookmark
from llmctl.tui.model.reading import ProviderReading
from llmctl.tui.model.rows import CallbackRow
from llmctl.tui.screens.detail import CallbackDetail
from llmctl.tui.screens.help import Help
from llmctl.tui.screens.lists import (
    CallbacksPane,
    EventsPane,
    ProvidersPane,
    QueuePane,
    RunPane,
    TopicsPane,
)
from llmctl.tui.screens.orders import Confirm, Drain
from llmctl.tui.screens.overview import Overview
from llmctl.tui.screens.pane import Pane, View
from llmctl.tui.session import Session
from llmctl.tui.widgets.panels import Line, Words
from llmctl.tui.widgets.rows import RowList
from llmctl.tui.widgets.words import BAD, DIM, say_clock

TICK_SECONDS = 0.25
GARBAGE_THRESHOLDS = (10_000, 20, 50)
"""Of the collector's three generations: the oldest, with every row that is kept, is searched seldom."""
WINDOWS = (60, 300, 900, 3600)
SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0)
NARROW_COLUMNS, WIDE_COLUMNS = 110, 180
LOW_LINES = 30
CALM = Theme(
    name="colour-blind",
    primary="#0072B2",
    secondary="#56B4E9",
    accent="#56B4E9",
    success="#009E73",
    warning="#E69F00",
    error="#D55E00",
    dark=True,
)
"""The colours of Okabe and Ito (2008), which people with any kind of colour blindness can tell apart."""


class Monitor(App[None]):
    """Shows one session."""

    TITLE = "llmctl monitor"
    ENABLE_COMMAND_PALETTE = True
    AUTO_FOCUS = "#callbacks"
    CSS = """
    #panes { height: 1fr; }
    #filter { display: none; height: 1; border: none; padding: 0; }
    #filter.open { display: block; }
    #keys { color: $text-muted; }
    .production { border: heavy $error; border-title-color: $error; border-title-style: bold; }
    """
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - as Textual declares it
        (0, "-narrow"),
        (NARROW_COLUMNS, "-normal"),
        (WIDE_COLUMNS, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-low"),
        (LOW_LINES, "-tall"),
    ]
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(n), f"open('{pane}')", f"show {pane}") for n, (pane, _) in enumerate(PANES, 1)),
        Binding("slash", "filter", "filter the callbacks"),
        Binding("space", "pause", "stop the picture, or go on"),
        Binding("left_square_bracket", "zoom(-1)", "a shorter window"),
        Binding("right_square_bracket", "zoom(1)", "a longer window"),
        Binding("m", "enlarge", "one part over the whole screen"),
        Binding("escape", "back", "back"),
        Binding("e", "export", "save the list as JSONL"),
        Binding("E", "picture", "save the screen as SVG"),
        Binding("y", "copy", "copy the id under the cursor"),
        Binding("b", "bookmark", "bookmark this moment"),
        Binding("d", "drain", "drain the service"),
        Binding("r", "resume", "accept requests again"),
        Binding("x", "release", "ask the provider again"),
        Binding("left", "skip(-10)", "10 seconds back"),
        Binding("right", "skip(10)", "10 seconds on"),
        Binding("shift+left", "skip(-60)", "a minute back"),
        Binding("shift+right", "skip(60)", "a minute on"),
        Binding("comma", "speed(-1)", "slower"),
        Binding("full_stop", "speed(1)", "faster"),
        Binding("g", "go", "go to a time"),
        Binding("question_mark", "help", "help"),
        Binding("q", "quit", "quit"),
        Binding("ctrl+c", "quit", "quit", show=False, priority=True),
    ]
    _CONTROL: ClassVar = frozenset({"drain", "resume", "release"})
    _REPLAY: ClassVar = frozenset({"skip", "speed", "go"})

    def __init__(self, session: Session, *, export_folder: Path | None = None) -> None:
        super().__init__()
        self.session = session
        self.failure: BaseException | None = None
        """What ended the sources, where something did."""
        self.export_folder = export_folder
        self._window_seconds = session.window_seconds
        self._paused_at: float | None = None
        self._seen_at_pause = 0
        self._asking: Callable[[str], None] | None = None
        self._rung = 0
        self._seeking = False

    def compose(self) -> ComposeResult:
        """The head, the advice, the panes, the question line and the keys."""
        yield Line(id="head")
        yield Line(id="advice")
        with ContentSwitcher(initial="overview", id="panes"):
            yield Overview(id="overview")
            yield CallbacksPane(id="callbacks")
            yield ProvidersPane(id="providers")
            yield QueuePane(id="queue")
            yield TopicsPane(id="topics")
            yield EventsPane(id="events")
            yield RunPane(id="run")
        yield Input(id="filter")
        yield Line(id="keys")

    def on_mount(self) -> None:
        """Begins to observe and to draw."""
        # A search for garbage in everything takes 70 ms, and what was imported never becomes garbage.
        gc.freeze()
        gc.set_threshold(*GARBAGE_THRESHOLDS)
        self.register_theme(CALM)
        if self.session.production:
            self.screen.add_class("production")
            self.screen.border_title = "PRODUCTION"
        self._observe()
        self.set_interval(TICK_SECONDS, self.tick)

    @work(exclusive=True, group="sources")
    async def _observe(self) -> None:
        try:
            await self.session.observe()
        except* Exception as problems:  # noqa: BLE001 - told when the screen is gone
            self.failure = first_problem(problems)
            self.exit()

    def tick(self) -> None:
        """Brings the picture up to date, unless it is stopped."""
        if not self.screen_stack or not self.screen_stack[0].query("#keys"):
            return  # the screen is being taken down
        replay = self.session.replay
        if replay is not None and not self._seeking:
            try:
                replay.advance(self.session.sink)
            except CliError as problem:
                self.failure = problem
                self.exit()
                return
        self._ring()
        view = self._view()
        with self.batch_update():
            self._present_lines(view)
            if self._paused_at is None or replay is not None:
                screen = self.screen
                if isinstance(screen, Drain) and screen.is_mounted:
                    screen.present(view)
                elif screen is self.screen_stack[0]:
                    self.pane.present(view)

    @property
    def pane(self) -> Pane:
        """The pane that is seen."""
        switcher = self.screen_stack[0].query_one("#panes", ContentSwitcher)
        found = switcher.visible_content
        assert isinstance(found, Pane)
        return found

    def _view(self) -> View:
        return View(self.session.store, self.session.clock.now(), self._window_seconds)

    def _present_lines(self, view: View) -> None:
        base = self.screen_stack[0]
        base.query_one("#head", Line).present(say_head(view, self.session), self._say_right(view))
        base.query_one("#advice", Line).present(say_advice(view))
        if self._asking is None:
            current = self.pane.id or ""
            base.query_one("#keys", Line).present(say_keys(current, self.session))

    def _say_right(self, view: View) -> Words:
        newer = None if self._paused_at is None else view.store.feed.total - self._seen_at_pause
        return say_right(view, self.session, newer)

    def _ring(self) -> None:
        fired = sum(alert.fired for alert in self.session.store.alerts)
        if fired > self._rung:
            self.bell()
        self._rung = fired

    def _focus_rows(self) -> None:
        rows = self.pane.find_rows()
        if rows is not None:
            rows.focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Orders need `--control`, and a replay's keys a replay."""
        if action in self._CONTROL:
            return self.session.controls is not None
        if action in self._REPLAY:
            return self.session.replay is not None
        return super().check_action(action, parameters)

    def action_open(self, pane: str) -> None:
        """Shows another pane."""
        if len(self.screen_stack) > 1:
            return
        self.screen.query_one("#panes", ContentSwitcher).current = pane
        self.pane.present(self._view())
        self._focus_rows()
        self.tick()

    def action_zoom(self, step: int) -> None:
        """A shorter or longer window."""
        place = min(max(WINDOWS.index(self._window_seconds) + step, 0), len(WINDOWS) - 1)
        self._window_seconds = WINDOWS[place]
        self.tick()

    def action_pause(self) -> None:
        """Stops the picture while everything is still kept, or goes on; a replay stands still."""
        if self._paused_at is None:
            self._paused_at = self.session.clock.now()
            self._seen_at_pause = self.session.store.feed.total
        else:
            self._paused_at = None
        if self.session.replay is not None:
            self.session.replay.clock.hold(self._paused_at is not None)
        self.tick()

    def action_enlarge(self) -> None:
        """The part with the focus over the whole screen."""
        focused = self.focused
        if focused is not None and self.screen.maximized is None:
            self.screen.maximize(focused, container=False)

    async def action_back(self) -> None:
        """Out of an enlarged part, else back to the overview."""
        if self.screen.maximized is not None:
            self.screen.minimize()
        elif self._asking is not None:
            self._close_question()
        else:
            self.action_open("overview")

    def action_filter(self) -> None:
        """Asks which callbacks are to be seen."""
        self._ask("filter ", self.session.store.feed.filter_text, self._set_filter)

    def _set_filter(self, text: str) -> None:
        self.session.store.feed.set_filter(text.strip(), parse_filter(text))

    def action_go(self) -> None:
        """Asks for a moment of the recording."""
        self._ask("go to ", "", self._go_to)

    def _go_to(self, text: str) -> None:
        replay = self.session.replay
        assert replay is not None
        self._seek(read_moment(text, replay.clock.begin))

    def _ask(self, title: str, value: str, then: Callable[[str], None]) -> None:
        if len(self.screen_stack) > 1:
            return
        self._asking = then
        line = self.screen.query_one("#filter", Input)
        line.placeholder = "status:error provider:openai e2e>5s -model:gpt-4o meta.KEY:value"
        if title != "filter ":
            line.placeholder = "14:03:27 or 90s"
        line.value = value
        line.add_class("open")
        line.focus()
        self._say_question(title)

    def _say_question(self, title: str, problem: str = "") -> None:
        keys = self.screen_stack[0].query_one("#keys", Line)
        keys.present(
            [(f" {title}", "bold"), (problem, BAD) if problem else ("enter takes it, esc leaves it", DIM)]
        )

    def _close_question(self) -> None:
        self._asking = None
        self.screen_stack[0].query_one("#filter", Input).remove_class("open")
        self._focus_rows()
        self.tick()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Takes an answer, or says what is wrong with it."""
        if event.input.id != "filter" or self._asking is None:
            return
        try:
            self._asking(event.value)
        except (FilterProblem, ValueError) as problem:
            self._say_question("", str(problem))
        else:
            self._close_question()

    def on_row_list_chosen(self, event: RowList.Chosen) -> None:
        """Opens what was chosen."""
        if isinstance(event.row, CallbackRow):
            self.push_screen(CallbackDetail(event.row))

    def action_export(self) -> None:
        """Saves the rows of the list that has the focus, as JSONL."""
        rows = self.pane.find_rows()
        if rows is None:
            return
        lines = "".join(f"{json.dumps(describe_row(row), default=str)}\n" for row in rows.rows)
        self._deliver(lines, f"{self.pane.id}-{self._stamp()}.jsonl", f"{len(rows.rows)} rows")

    def action_picture(self) -> None:
        """Saves the screen as SVG."""
        self._deliver(self.export_screenshot(), f"{self.pane.id}-{self._stamp()}.svg", "the screen")

    def _deliver(self, text: str, name: str, what: str) -> None:
        file = f"llmctl-monitor-{name}"
        self.deliver_text(StringIO(text), save_directory=self.export_folder, save_filename=file)
        self.notify(f"{what} saved as {file}", markup=False)

    def _stamp(self) -> str:
        return datetime.fromtimestamp(self.session.clock.now(), UTC).strftime("%Y%m%dT%H%M%S")

    def action_copy(self) -> None:
        """Copies the id of what is under the cursor, or open, for the terminal's clipboard."""
        screen = self.screen
        rows = None if isinstance(screen, CallbackDetail) else self.pane.find_rows()
        row = screen.row if isinstance(screen, CallbackDetail) else None if rows is None else rows.selected
        text = name_row(row)
        if text:
            self.copy_to_clipboard(text)
            self.notify(f"copied {safe_line(text)}", markup=False)

    def action_bookmark(self) -> None:
        """Marks this moment among the events, and in the recording where there is one."""
        now = self.session.clock.now()
        self.session.sink.take(Bookmark(now, say_clock(now)))
        self.notify(f"bookmarked {say_clock(now)} UTC", markup=False)

    def action_drain(self) -> None:
        """Asks whether to drain, or shows how a drain stands."""
        controls = self.session.controls
        if controls is not None:
            self.push_screen(Drain(self._view(), controls.drain, controls.resume))

    def action_resume(self) -> None:
        """Asks whether to take a drain back."""
        controls = self.session.controls
        if controls is not None:
            meaning = "The service accepts requests again, and a drain that runs is taken back."
            self.push_screen(Confirm("resume?", meaning, controls.resume))

    def action_release(self) -> None:
        """Asks whether to have the provider under the cursor asked again."""
        controls, rows = self.session.controls, self.pane.find_rows()
        row = None if rows is None else rows.selected
        if controls is None:
            return
        if not isinstance(row, ProviderReading):
            self.notify("Put the cursor on a provider first (3, or tab).", severity="warning", markup=False)
            return
        meaning = f"{row.name} is asked again at once: its breaker is closed and no pause or hold is left."
        self.push_screen(Confirm(f"ask {row.name} again?", meaning, lambda: controls.release(row.name)))

    def action_skip(self, seconds: int) -> None:
        """Goes so far on in a replay, or back."""
        if self.session.replay is not None:
            self._seek(self.session.replay.clock.now() + seconds)

    @work(exclusive=True, group="seek")
    async def _seek(self, moment: float) -> None:
        replay = self.session.replay
        assert replay is not None
        feed = self.session.store.feed
        fresh = self.session.make_store()
        fresh.feed.set_filter(feed.filter_text, parse_filter(feed.filter_text))
        self._seeking = True
        try:
            await replay.seek(moment, fresh)
            self.session.store = fresh
        finally:
            self._seeking = False
        self._rung = sum(alert.fired for alert in fresh.alerts)
        self.tick()

    def action_speed(self, step: int) -> None:
        """Plays faster or slower."""
        replay = self.session.replay
        if replay is None:
            return
        nearest = min(range(len(SPEEDS)), key=lambda place: abs(SPEEDS[place] - replay.clock.speed))
        replay.clock.set_speed(SPEEDS[min(max(nearest + step, 0), len(SPEEDS) - 1)])
        self.tick()

    def action_help(self) -> None:
        """Shows the keys."""
        session = self.session
        self.push_screen(Help(control=session.controls is not None, replay=session.replay is not None))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Every key's command by its name, beside Textual's own."""
        yield from super().get_system_commands(screen)
        for binding in self._bindings.shown_keys:
            action = binding.action
            if self.check_action(action.partition("(")[0], ()) and binding.key != "escape":
                yield SystemCommand(
                    binding.description, f"key {binding.key}", lambda action=action: self.run_action(action)
                )
