"""What all panes have in common: they show a view of the store, and have a list that has the focus."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

from textual.containers import Container

from llmctl.tui.model.store import Store
from llmctl.tui.widgets.rows import RowList


@dataclass(frozen=True)
class View:
    """What is shown: the store as it stands now, over this window of the past."""

    store: Store
    now: float
    """Seconds since 1970."""
    window_seconds: int

    @property
    def stale(self) -> bool:
        """Whether the service's figures are too old to stand for the present."""
        return self.store.is_stale(self.now)

    def series(self, name: str) -> list[float]:
        """A figure over the window, by whole seconds that are over: so a picture changes once a second."""
        return self.store.series(name, self.now - 1, self.window_seconds)


class Pane(Container):
    """One of the monitor's screens."""

    DEFAULT_CSS = "Pane { layout: vertical; height: 1fr; }"

    @abstractmethod
    def present(self, view: View) -> None:
        """Shows this view."""

    def find_rows(self) -> RowList[Any] | None:
        """The list that has the focus, or else the first one that is seen; None where there is none."""
        lists = [each for each in self.query(RowList) if each.display]
        focused = [each for each in lists if each.has_focus]
        return focused[0] if focused else lists[0] if lists else None
