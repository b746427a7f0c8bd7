"""Which pairs are worth asking next: those whose answers are expected to tell most.

An answer on texts i and j adds p (1 - p) to the information in the direction i - j, so that the information's
determinant grows by the factor 1 + p (1 - p) v, where v is the variance of the difference of their strengths
(the matrix determinant lemma). Half the logarithm of that is how far the answer is expected to reduce the
entropy of all strengths together (Lindley, "On a measure of the information provided by an experiment", 1956;
as a design: D-optimality). It is largest where the two are about even (p (1 - p), which Pollitt's adaptive
comparative judgement goes by, 2012) *and* little is known of their difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from llmctl.ranking.bradley_terry import Fit
from llmctl.ranking.wins import Floats


@dataclass(frozen=True)
class NextPair:
    """Two texts, by their places, and what asking about them is expected to bring."""

    first: int
    second: int
    gain: float
    """In nats, after the pairs named before it have been asked."""


def choose_next_pairs(fit: Fit, count: int, *, across: bool = False) -> tuple[NextPair, ...]:
    """The `count` most telling pairs, each once; of one group only, unless also `across` groups.

    They are chosen one after the other, and each is taken as asked before the next one is sought: otherwise
    all would be about the same few texts. That needs no answer: p is taken from the strengths as they are.
    """
    size = len(fit.strengths)
    weights = _weigh(fit, across=across)
    covariance = fit.covariance
    chosen = []
    for _ in range(min(count, int(np.count_nonzero(weights)))):
        gains = weights * _find_variances(covariance)
        first, second = divmod(int(gains.argmax()), size)
        chosen.append(NextPair(first, second, float(np.log1p(gains[first, second]) / 2)))
        covariance = _ask(covariance, first, second, float(weights[first, second]))
        weights[first, second] = 0.0
    return tuple(chosen)


def _weigh(fit: Fit, *, across: bool) -> Floats:
    """What an answer on each two texts adds to the information, p (1 - p); 0 for what is no pair to ask."""
    differences = fit.strengths[:, None] - fit.strengths[None, :]
    weights = np.triu(expit(differences) * expit(-differences), k=1)
    return weights if across else np.where(fit.groups[:, None] == fit.groups[None, :], weights, 0.0)


def _find_variances(covariance: Floats) -> Floats:
    """The variance of the difference of each two strengths."""
    own = np.diagonal(covariance)
    return np.asarray(np.maximum(own[:, None] + own[None, :] - 2 * covariance, 0.0))


def _ask(covariance: Floats, first: int, second: int, weight: float) -> Floats:
    """The covariance after one more answer on the two (Sherman and Morrison's formula)."""
    move = covariance[:, first] - covariance[:, second]
    variance = move[first] - move[second]
    return np.asarray(covariance - np.outer(move, move) * (weight / (1 + weight * variance)))
