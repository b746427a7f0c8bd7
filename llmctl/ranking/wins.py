"""Who won against whom, and how often: all that the Bradley-Terry model asks of the comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Wins:
    """Each ordered pair of texts of which the first has won, and how often.

    `winners`, `losers` and `counts` are as long as there are such pairs; texts are their places in `texts`.
    """

    texts: tuple[str, ...]
    winners: Integers
    losers: Integers
    counts: Floats

    @property
    def comparisons(self) -> int:
        """How many comparisons there are."""
        return int(self.counts.sum())

    def count_won(self) -> Integers:
        """How many comparisons each text has won."""
        return self._sum_by(self.winners)

    def count_lost(self) -> Integers:
        """How many comparisons each text has lost."""
        return self._sum_by(self.losers)

    def count_between(self, first: int, second: int) -> int:
        """How many comparisons there are of two texts, whoever won."""
        there = (self.winners == first) & (self.losers == second)
        back = (self.winners == second) & (self.losers == first)
        return int(self.counts[there | back].sum())

    def find_groups(self) -> Integers:
        """The group of each text, from 0: texts that a chain of comparisons connects."""
        return self._connect(directed=False)

    def find_circles(self) -> Integers:
        """The circle of each text: those that lead to each other by chains of wins, there and back.

        The likelihood of a group has a finite maximum only where the whole of it is one circle (Ford 1957).
        """
        return self._connect(directed=True)

    def _sum_by(self, texts: Integers) -> Integers:
        return np.bincount(texts, self.counts, len(self.texts)).astype(np.int64)

    def _connect(self, *, directed: bool) -> Integers:
        size = len(self.texts)
        graph = coo_array((self.counts, (self.winners, self.losers)), shape=(size, size)).tocsr()
        _, labels = connected_components(graph, directed=directed, connection="strong")
        return np.asarray(labels, dtype=np.int64)


def count_wins(wins: Mapping[tuple[str, str], int]) -> Wins:
    """The same as arrays, from how often each winner beat each loser; the texts are ordered by name."""
    texts = tuple(sorted({text for pair in wins for text in pair}))
    places = {text: place for place, text in enumerate(texts)}
    pairs = sorted((places[winner], places[loser], count) for (winner, loser), count in wins.items())
    columns = np.array(pairs, dtype=np.int64).reshape(-1, 3)
    return Wins(texts, columns[:, 0], columns[:, 1], columns[:, 2].astype(np.float64))
