"""The order of the texts: what the fit says, group by group, in words of the callers."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from llmctl.ranking.bradley_terry import Fit, fit
from llmctl.ranking.next_pairs import choose_next_pairs
from llmctl.ranking.wins import Floats, Integers, Wins

INTERVAL_PERCENT = 95
_INTERVAL_SDS = NormalDist().inv_cdf(0.5 + INTERVAL_PERCENT / 200)


@dataclass(frozen=True)
class RankedText:
    """A text and its place among those of its group."""

    text: str
    group: int
    """From 1; the group with the most texts is the first."""
    rank: int
    """From 1, the strongest."""
    strength: float
    """In logits; 0 is the mean of the group."""
    standard_error: float
    won: int
    lost: int

    @property
    def interval(self) -> tuple[float, float]:
        """Where the strength is with INTERVAL_PERCENT probability (normal approximation)."""
        reach = _INTERVAL_SDS * self.standard_error
        return self.strength - reach, self.strength + reach


@dataclass(frozen=True)
class Group:
    """Texts that comparisons connect; those of different groups cannot be held against each other."""

    number: int
    texts: int
    comparisons: int
    reliability: float
    is_one_circle: bool
    """Whether the strengths would be finite without the prior."""


@dataclass(frozen=True)
class ProposedPair:
    """A comparison worth asking for."""

    first: str
    second: str
    chance: float
    """With which the first wins, as far as is known."""
    gain: float
    """What the answer is expected to tell, in nats."""
    asked: int
    """How many comparisons there are of the two already."""


@dataclass(frozen=True)
class Ranking:
    """Everything that is known of the order."""

    texts: tuple[RankedText, ...]
    """By group, and then from the strongest to the weakest."""
    groups: tuple[Group, ...]
    next_pairs: tuple[ProposedPair, ...]

    @property
    def comparisons(self) -> int:
        """How many comparisons it rests on."""
        return sum(each.comparisons for each in self.groups)


def rank(wins: Wins, next_count: int = 0, *, across: bool = False) -> Ranking:
    """The order of the texts, and `next_count` pairs to ask next; ValueError for too many texts."""
    found = fit(wins)
    numbers = _number_groups(found.groups)
    return Ranking(
        _rank_texts(wins, found, numbers),
        _sum_groups(wins, found, numbers),
        tuple(
            ProposedPair(
                wins.texts[pair.first],
                wins.texts[pair.second],
                found.chance(pair.first, pair.second),
                pair.gain,
                wins.count_between(pair.first, pair.second),
            )
            for pair in choose_next_pairs(found, next_count, across=across)
        ),
    )


def measure_reliability(strengths: Floats, standard_errors: Floats) -> float:
    """The share of the strengths' variance that is not error: scale separation reliability, 0 to 1.

    SSR = (s² - mean SE²) / s² (Andrich 1982; in comparative judgement: Pollitt 2012). Where pairs were chosen
    adaptively it comes out too high (Bramley 2015).
    """
    observed = float(np.var(strengths, ddof=1))
    error = float(np.mean(standard_errors**2))
    return max(0.0, 1 - error / observed) if observed > 0 else 0.0


def _number_groups(groups: Integers) -> Integers:
    """The number of each text's group: from 1, the largest first, then by the first name."""
    _, firsts, sizes = np.unique(groups, return_index=True, return_counts=True)
    numbers = np.empty(len(sizes), dtype=np.int64)
    numbers[np.lexsort((firsts, -sizes))] = np.arange(1, len(sizes) + 1)
    return np.asarray(numbers[groups])


def _rank_texts(wins: Wins, found: Fit, numbers: Integers) -> tuple[RankedText, ...]:
    won, lost, errors = wins.count_won(), wins.count_lost(), found.standard_errors
    ranked: list[RankedText] = []
    for place in np.lexsort((-found.strengths, numbers)):
        group = int(numbers[place])
        rank = ranked[-1].rank + 1 if ranked and ranked[-1].group == group else 1
        strength, error = float(found.strengths[place]), float(errors[place])
        ranked.append(
            RankedText(wins.texts[place], group, rank, strength, error, int(won[place]), int(lost[place]))
        )
    return tuple(ranked)


def _sum_groups(wins: Wins, found: Fit, numbers: Integers) -> tuple[Group, ...]:
    circles, errors = wins.find_circles(), found.standard_errors
    comparisons = np.bincount(numbers[wins.winners], wins.counts)
    groups = []
    for number in range(1, int(numbers.max()) + 1):
        members = numbers == number
        groups.append(
            Group(
                number,
                int(members.sum()),
                int(comparisons[number]),
                measure_reliability(found.strengths[members], errors[members]),
                len(np.unique(circles[members])) == 1,
            )
        )
    return tuple(groups)
