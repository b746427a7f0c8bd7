"""The Bradley-Terry model: a strength for each text, from who won against whom.

A text of strength s beats one of strength t with probability 1 / (1 + exp(-(s - t))); strengths are logits
(Bradley & Terry, "Rank analysis of incomplete block designs", Biometrika 39, 1952; Hunter, "MM algorithms
for generalized Bradley-Terry models", Annals of Statistics 32, 2004). Only differences mean anything, and
only between texts that comparisons connect, so the strengths of each group of texts sum to zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import coo_array
from scipy.special import expit

from llmctl.ranking.wins import Floats, Integers, Wins

PRIOR_SD = 3.0
"""Standard deviation of the normal prior on a strength, in logits. Two texts drawn from it differ by 4.2
logits as a rule, so that the better one wins 98 times in 100: it says next to nothing where comparisons
speak. It weighs less than half a comparison of even texts (1/9 against 1/4)."""
MAX_TEXTS = 3_000
"""What is computed from pairs of so many texts takes some 600 MB in all."""

_SETTLED = 1e-6
"""The fit ends where the next step is shorter than so many standard errors."""
_MAX_STEPS = 200


@dataclass(frozen=True)
class Fit:
    """The strengths, and how sure they are."""

    strengths: Floats
    """In logits; each group sums to zero."""
    groups: Integers
    """The group of each text, from 0."""
    covariance: Floats
    """Of all strengths, with what the prior says of the level of each group."""

    @property
    def standard_errors(self) -> Floats:
        """Of each strength against the mean of its group.

        The data says nothing of a group's level: there the information is the prior's alone, 1 / PRIOR_SD² in
        the direction (1, …, 1), and what it adds to each variance is PRIOR_SD² / size. Without it the
        covariance is the pseudo-inverse of the information under the condition that a group sums to zero.
        """
        sizes = np.bincount(self.groups)
        variances = np.diagonal(self.covariance) - PRIOR_SD**2 / sizes[self.groups]
        return np.asarray(np.sqrt(np.maximum(variances, 0.0)))

    def chance(self, first: int, second: int) -> float:
        """The probability with which the first text would win against the second."""
        return float(expit(self.strengths[first] - self.strengths[second]))


def fit(wins: Wins) -> Fit:
    """The strengths of highest posterior density, and their covariance there; ValueError for too many texts.

    That is maximum likelihood with a normal prior (mean 0, PRIOR_SD), which keeps finite the texts that have
    won or lost everything: for them the likelihood alone has no maximum (Ford 1957). The covariance is the
    inverse of the penalized Fisher information, Laplace's approximation. Each group sums to zero by itself:
    the likelihood's gradient does, so the prior's has to.

    The steps are Newton's. One that moves a compared pair by r logits is cut to ln(1 + r) / r of itself:
    the curvature changes by e^r at most, so each step climbs and none has to be tried (Sun & Tran-Dinh,
    "Generalized self-concordant functions", 2019). A minimizer that compares values stops short of the
    maximum, where the differences drown in rounding.
    """
    size = len(wins.texts)
    if size > MAX_TEXTS:
        raise ValueError(f"{size} texts are more than the {MAX_TEXTS} that can be ranked together")
    strengths = np.log((wins.count_won() + 0.5) / (wins.count_lost() + 0.5))  # a guess that saves steps
    for _ in range(_MAX_STEPS):
        slope = _find_slope(wins, strengths)
        factor = cho_factor(_find_information(wins, strengths), overwrite_a=True)
        step = cho_solve(factor, slope)
        if np.sqrt(slope @ step) < _SETTLED:
            covariance: Floats = cho_solve(factor, np.eye(size), overwrite_b=True)
            return Fit(strengths, wins.find_groups(), covariance)
        reach = np.abs(_subtract(wins, step)).max()
        strengths = strengths + (step * np.log1p(reach) / reach if reach else step)
    raise ValueError(f"the strengths of {size} texts did not settle in {_MAX_STEPS} steps")


def _find_slope(wins: Wins, strengths: Floats) -> Floats:
    """The gradient of the posterior density's logarithm: wins beyond those expected, and the prior's pull."""
    surplus = wins.counts * expit(-_subtract(wins, strengths))
    gained = np.bincount(wins.winners, surplus, len(strengths))
    lost = np.bincount(wins.losers, surplus, len(strengths))
    return np.asarray(gained - lost - strengths / PRIOR_SD**2)


def _find_information(wins: Wins, strengths: Floats) -> Floats:
    """Fisher's information and the prior's: each comparison tells p (1 - p) of the difference of its two."""
    differences = _subtract(wins, strengths)
    weights = wins.counts * expit(differences) * expit(-differences)
    rows, columns = np.r_[wins.winners, wins.losers], np.r_[wins.losers, wins.winners]
    size = len(strengths)
    between = coo_array((np.r_[weights, weights], (rows, columns)), shape=(size, size)).toarray()
    information: Floats = -between
    information[np.diag_indices(size)] = between.sum(axis=0) + 1 / PRIOR_SD**2
    return information


def _subtract(wins: Wins, values: Floats) -> Floats:
    """By how much each winner's value is above its loser's."""
    return np.asarray(values[wins.winners] - values[wins.losers])
