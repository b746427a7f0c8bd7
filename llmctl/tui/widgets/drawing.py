"""Pictures made of characters: sparklines, braille charts, bars. Pure; NaN is a gap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from llmctl.tui.model.series import thin

_BARS = "▁▂▃▄▅▆▇█"
_BRAILLE = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bit of each dot of a braille cell, by row and column (Unicode, block 2800)."""
_STEPS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
"""Scales end with one of these times a power of ten."""
SOLID, DOTTED = 1, 2
"""How lines are told apart without colour: every dot of a line is drawn, or every other one."""


def spark(values: Sequence[float], width: int, highest: float | None = None) -> str:
    """A line of bars, the newest at the right, on a scale from 0 to `highest` or the highest of them."""
    shown = thin(values, width)
    top = highest or max((value for value in shown if not math.isnan(value)), default=0.0)
    return "".join(_pick_bar(value, top) for value in shown)


def _pick_bar(value: float, top: float) -> str:
    if math.isnan(value):
        return " "
    share = 0.0 if top <= 0 else max(0.0, min(value / top, 1.0))
    return _BARS[min(len(_BARS) - 1, int(share * len(_BARS)))]


@dataclass(frozen=True, slots=True)
class Cell:
    """One character of a chart and whose line is in it, by the number of the series."""

    character: str
    series: int | None


class Canvas:
    """A field of braille dots, two in each cell's width and four in its height."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._bits = [[0] * width for _ in range(height)]
        self._owners: list[list[int | None]] = [[None] * width for _ in range(height)]

    def draw(self, values: Sequence[float], top: float, series: int, step: int) -> None:
        """A line through the values, scaled so that `top` is the upper edge."""
        rows = self.height * 4 - 1
        before: int | None = None
        for x, value in enumerate(thin(values, self.width * 2)):
            if math.isnan(value):
                before = None
                continue
            share = 0.0 if top <= 0 else max(0.0, min(value / top, 1.0))
            y = rows - round(share * rows)
            if x % step == 0:
                reach = range(
                    min(y, y if before is None else before), max(y, y if before is None else before) + 1
                )
                for each in reach if step == SOLID else (y,):
                    self._set(x, each, series)
            before = y

    def lines(self) -> list[list[Cell]]:
        """The cells, line by line from the top."""
        return [
            [Cell(chr(_BRAILLE + bits) if bits else " ", owner) for bits, owner in zip(*pair, strict=True)]
            for pair in zip(self._bits, self._owners, strict=True)
        ]

    def _set(self, x: int, y: int, series: int) -> None:
        row, column = y // 4, x // 2
        self._bits[row][column] |= _DOTS[y % 4][x % 2]
        self._owners[row][column] = series


def find_scale(highest: float) -> float:
    """The least round number that is no lower than the highest value."""
    if highest <= 0 or not math.isfinite(highest):
        return 1.0
    power = 10.0 ** math.floor(math.log10(highest))
    return next(step * power for step in _STEPS if step * power >= highest * (1 - 1e-9))


def bar(share: float, width: int) -> str:
    """A bar that is so full, from 0 to 1."""
    full = round(max(0.0, min(share, 1.0)) * width)
    return "█" * full + "░" * (width - full)
