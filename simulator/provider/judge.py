"""Who wins: a judge that knows the shipped essays, errs like a human one and never twice differently."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Literal

from simulator.essays import Essay
from simulator.provider.draws import Draws

LOGITS_PER_RANK = 0.58
"""Strength between neighboring ranks. The better of two neighbors wins 64 % of the time, the best of seven
against the weakest 97 %."""

OPENING_CHARACTERS = 80
"""So much of an essay's beginning tells it from every other one."""

MIN_CONFIDENCE, MAX_CONFIDENCE = 0.5, 0.99

Winner = Literal["essay_a", "essay_b"]

_MERITS = (
    "takes a clear position and supports it with concrete examples",
    "develops its reasons further and answers the other side",
    "is the better organized one, and each paragraph has a purpose",
    "argues more convincingly and stays with the question",
    "shows more control of language and a more mature tone",
    "connects its examples to its claim, so the conclusion is earned",
)
_FAULTS = (
    "lists opinions without developing them",
    "leans on general statements and repeats itself",
    "leaves the opposing view mostly unanswered",
    "loses the thread in places",
    "has errors and loose phrasing that get in the reader's way",
    "ends without adding to what it said before",
)
_MARGINS = (
    (0.85, "The difference is plain."),
    (0.65, "The difference is noticeable."),
    (0.0, "It is a close decision."),
)


@dataclass(frozen=True)
class Judgement:
    """What the judge says about two essays."""

    winner: Winner
    confidence: float
    justification: str


def probability_of_first(first: Essay, second: Essay) -> float:
    """How likely `first` is to win: Bradley and Terry's model, 1 / (1 + exp(-(s1 - s2))).

    Strengths fall by `LOGITS_PER_RANK` from rank to rank. Ranks compare within an assignment only; essays on
    different assignments are even.
    """
    if first.prompt_id != second.prompt_id:
        return 0.5
    return 1 / (1 + math.exp(-LOGITS_PER_RANK * (second.rank - first.rank)))


class Judge:
    """Compares the essays it finds in a prompt."""

    def __init__(self, essays: Iterable[Essay]) -> None:
        self._openings = tuple((essay.text[:OPENING_CHARACTERS], essay) for essay in essays)

    def find_essays(self, text: str) -> tuple[Essay, ...]:
        """The known essays that stand in the text, in their order; a repeated one counts again."""
        found: list[tuple[int, Essay]] = []
        for opening, essay in self._openings:
            position = text.find(opening)
            while position >= 0:
                found.append((position, essay))
                position = text.find(opening, position + len(opening))
        found.sort(key=lambda place: place[0])
        return tuple(essay for _, essay in found)

    def judge(self, text: str, draws: Draws) -> Judgement:
        """Lets the first known essay (essay_a) and the second (essay_b) compete.

        Where fewer than two are known, a hash of the request decides, even odds.

        The confidence is the probability with which the declared winner wins, so that it says how sure a
        calibrated judge could be; where the weaker essay won by chance it is the lowest there is.
        """
        essays = self.find_essays(text)
        chance_of_a = probability_of_first(essays[0], essays[1]) if len(essays) >= 2 else 0.5
        a_wins = draws.stream("winner").random() < chance_of_a
        confidence = chance_of_a if a_wins else 1 - chance_of_a
        confidence = round(min(max(confidence, MIN_CONFIDENCE), MAX_CONFIDENCE), 2)
        return Judgement(
            winner="essay_a" if a_wins else "essay_b",
            confidence=confidence,
            justification=_justify(a_wins, confidence, draws.stream("wording")),
        )


def _justify(a_wins: bool, confidence: float, rng: Random) -> str:
    better, weaker = ("A", "B") if a_wins else ("B", "A")
    margin = next(sentence for least, sentence in _MARGINS if confidence >= least)
    return f"Essay {better} {rng.choice(_MERITS)}, while essay {weaker} {rng.choice(_FAULTS)}. {margin}"
