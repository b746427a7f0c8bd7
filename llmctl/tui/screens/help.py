"""Help: the keys, the filter's language, what the figures mean."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

KEYS = """\
1-7        overview, callbacks, providers, queue, topics, events, load run
tab        the next list          ↑ ↓ j k pgup pgdn home end    move in it
enter      the timeline of one request, on a callback
/          filter the callbacks; empty shows all
space      stop the picture, and go on; what comes meanwhile is kept
f          follow what is new again
[ ]        a shorter or longer window: 1 m, 5 m, 15 m, 60 m
s  S       sort a list by its next column; turn the order
m  esc     one part of the overview over the whole screen, and back
e  E       save what is shown: the list as JSONL, the screen as SVG
y          copy the id under the cursor
b          bookmark this moment among the events
ctrl+p     every command by name, themes among them
q          quit
"""
CONTROL = """
With --control:
d          drain: says what it means, asks for the word, shows progress, can be taken back
r          resume: accept requests again
x          ask the provider under the cursor again: breaker closed, no longer held
"""
REPLAY = """
In a replay:
← →        10 seconds back or on      shift+← → a minute
, .        slower, faster
g          go to a time of day (UTC) or to so much from the beginning: 14:03:27, 90s
"""
FILTER = """
The filter (the same as tail-callbacks --where):
  status:error provider:openai       both are required
  error:~timeout                     a regular expression, found anywhere in the field
  e2e>5s confidence<0.6 tokens>=900  comparisons
  -model:gpt-4o                      everything else
  meta.pair_id:p-07                  what the request's metadata said
  "trace 9f3"                        a text, anywhere
"""
FIGURES = """
Figures are the service's own. Percentiles over 1 m are exact to 1 %; over longer windows they come
from the histograms' buckets. Figures older than 3 s are greyed, and the top line says how old.
Callbacks are read from Kafka itself, without a group, and nothing is committed.
"""


class Help(ModalScreen[None]):
    """The keys and what things mean."""

    DEFAULT_CSS = """
    Help { align: center middle; }
    Help VerticalScroll {
        width: 96%; max-width: 112; height: auto; max-height: 94%;
        border: round $accent; background: $surface; padding: 0 1;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark", "dismiss", "back")]

    def __init__(self, *, control: bool, replay: bool) -> None:
        super().__init__()
        self._parts = [KEYS, CONTROL if control else "", REPLAY if replay else "", FILTER, FIGURES]

    def compose(self) -> ComposeResult:
        """One text."""
        with VerticalScroll() as box:
            box.border_title = "help"
            box.border_subtitle = "esc back"
            yield Static(Text("".join(self._parts)))
