"""What changes the service: a drain, a resume, a provider asked again. Each is asked for twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Checkbox, Input, Static

from llmctl.exits import CliError
from llmctl.render.safe import safe_line
from llmctl.tui.model.reading import Reading
from llmctl.tui.screens.pane import View
from llmctl.tui.widgets.drawing import bar
from llmctl.tui.widgets.words import say_count, say_phase, say_seconds

WORD = "drain"
BAR_WIDTH = 40
Order = Callable[[], Awaitable[object]]


class Confirm(ModalScreen[None]):
    """Asks before an order, carries it out, and says what came of it."""

    DEFAULT_CSS = """
    Confirm { align: center middle; }
    Confirm > Vertical {
        width: 72; max-width: 96%; height: auto; border: round $warning; background: $surface; padding: 0 1;
    }
    Confirm Horizontal { height: auto; align-horizontal: right; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "back")]

    def __init__(self, question: str, meaning: str, order: Order) -> None:
        super().__init__()
        self._question = question
        self._meaning = meaning
        self._order = order

    def compose(self) -> ComposeResult:
        """Question, meaning, two buttons."""
        with Vertical() as box:
            box.border_title = Text(safe_line(self._question))
            yield Static(Text(safe_line(self._meaning)), id="meaning")
            yield Static(Text(), id="problem")
            with Horizontal():
                yield Button("Do it", variant="warning", id="do")
                yield Button("Cancel", id="cancel")

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Carries the order out, or leaves it."""
        if event.button.id == "cancel":
            self.dismiss()
        else:
            self._carry_out()

    @work(exclusive=True)
    async def _carry_out(self) -> None:
        try:
            await self._order()
        except CliError as problem:
            self.query_one("#problem", Static).update(Text(safe_line(str(problem)), style="red"))
        else:
            self.dismiss()


class Drain(ModalScreen[None]):
    """Drains in two steps: what it will mean and a typed word, then its progress, with a way back."""

    DEFAULT_CSS = """
    Drain { align: center middle; }
    Drain > Vertical {
        width: 76; max-width: 96%; height: auto; border: round $warning; background: $surface; padding: 0 1;
    }
    Drain Horizontal { height: auto; align-horizontal: right; }
    Drain Checkbox { border: none; height: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "close")]

    def __init__(self, view: View, start: Callable[[bool], Awaitable[object]], resume: Order) -> None:
        super().__init__()
        self._view = view
        self._start = start
        self._resume = resume
        self._begun_with: int | None = None

    def compose(self) -> ComposeResult:
        """Both steps; which one is seen depends on the service's phase."""
        with Vertical() as box:
            box.border_title = "drain"
            yield Static(Text(), id="meaning")
            yield Checkbox("also work off the queue before it counts as drained", id="until-empty")
            yield Input(placeholder=f"type {WORD} to confirm", id="word")
            yield Static(Text(), id="problem")
            with Horizontal():
                yield Button("Drain", variant="warning", id="drain", disabled=True)
                yield Button("Resume accepting", variant="success", id="resume")
                yield Button("Close", id="close")

    def on_mount(self) -> None:
        """Puts the cursor where the word is typed."""
        self.present(self._view)
        self.query_one("#word", Input).focus()

    def present(self, view: View) -> None:
        """Shows the step that the service is at."""
        reading = view.store.reading
        draining = reading is not None and reading.phase == "draining"
        for each in ("#until-empty", "#word", "#drain"):
            self.query_one(each).display = not draining
        self.query_one("#resume").display = draining
        if reading is None:
            said = Text("Nothing is known of the service yet.")
        else:
            said = self._say_progress(reading) if draining else self._say_meaning(view, reading)
        self.query_one("#meaning", Static).update(said)

    def _say_meaning(self, view: View, reading: Reading) -> Text:
        self._begun_with = None
        rate = view.store.rate("published")
        left = reading.in_flight + reading.outbox_depth
        lasts = f", about {say_seconds(left / rate)} at {rate:.0f}/s" if rate else ""
        return Text(
            "New requests will be refused with 503 and Retry-After.\n"
            f"{say_count(reading.in_flight)} calls in flight will finish, and "
            f"{say_count(reading.outbox_depth)} callbacks be delivered{lasts}.\n"
            f"{say_count(reading.queue_depth)} queued requests stay for the next start, or are worked off "
            "too, where you say so.\nThe process stays up; a resume takes the drain back."
        )

    def _say_progress(self, reading: Reading) -> Text:
        left = reading.in_flight + reading.outbox_depth
        if self._begun_with is None or left > self._begun_with:
            self._begun_with = left
        share = 1.0 if not self._begun_with else 1 - left / self._begun_with
        state = reading.drain.state.replace("_", " ")
        return Text(
            f"{say_phase(reading.phase)[0]} · drain {state}\n{bar(share, BAR_WIDTH)} {share:.0%}\n"
            f"{say_count(reading.in_flight)} in flight · {say_count(reading.outbox_depth)} callbacks in "
            f"the outbox · {say_count(reading.queue_depth)} queued"
        )

    def on_input_changed(self, event: Input.Changed) -> None:
        """The button works only when the word is there."""
        self.query_one("#drain", Button).disabled = event.value.strip().lower() != WORD

    def on_input_submitted(self) -> None:
        """Enter is the button."""
        if not self.query_one("#drain", Button).disabled:
            self._order_drain()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Drains, takes it back, or closes the view; the drain itself goes on."""
        match event.button.id:
            case "drain":
                self._order_drain()
            case "resume":
                self._take_back()
            case _:
                self.dismiss()

    def _order_drain(self) -> None:
        until_empty = self.query_one("#until-empty", Checkbox).value
        self._carry_out(lambda: self._start(until_empty))

    def _take_back(self) -> None:
        self._carry_out(self._resume)

    @work(exclusive=True)
    async def _carry_out(self, order: Order) -> None:
        problem = self.query_one("#problem", Static)
        problem.update(Text())
        try:
            await order()
        except CliError as refusal:
            problem.update(Text(safe_line(str(refusal)), style="red"))
