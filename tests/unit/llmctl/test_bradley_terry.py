"""Strengths match the formulas, standard errors are honest, and the next pairs gain most."""

import math
from collections import Counter
from collections.abc import Iterable

import choix
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from llmctl.ranking.bradley_terry import MAX_TEXTS, PRIOR_SD, Fit, fit
from llmctl.ranking.next_pairs import choose_next_pairs
from llmctl.ranking.order import Ranking, measure_reliability, rank
from llmctl.ranking.wins import Wins, count_wins

PRECISION = 1 / PRIOR_SD**2
TRUE_STRENGTHS = np.linspace(-1.5, 1.5, 7)


def draw(strengths: np.ndarray, rounds: int, seed: int) -> Wins:
    """Draws so many rounds of every pair, each won with the probability that the strengths imply."""
    rng = np.random.default_rng(seed)
    wins: Counter[tuple[str, str]] = Counter()
    for first in range(len(strengths)):
        for second in range(first):
            chance = 1 / (1 + math.exp(strengths[second] - strengths[first]))
            won = int(rng.binomial(rounds, chance))
            wins[f"t{first:02}", f"t{second:02}"] += won
            wins[f"t{second:02}", f"t{first:02}"] += rounds - won
    return count_wins({pair: count for pair, count in wins.items() if count})


def strengths_of(ranking: Ranking) -> dict[str, float]:
    return {each.text: each.strength for each in ranking.texts}


def inform(wins: Wins, found: Fit) -> np.ndarray:
    """The information matrix, summed comparison by comparison."""
    matrix = np.eye(len(wins.texts)) * PRECISION
    for winner, loser, count in zip(wins.winners, wins.losers, wins.counts, strict=True):
        direction = np.zeros(len(wins.texts))
        direction[winner], direction[loser] = 1, -1
        chance = found.chance(int(winner), int(loser))
        matrix += count * chance * (1 - chance) * np.outer(direction, direction)
    return matrix


@pytest.mark.parametrize(("won", "lost"), [(1, 0), (3, 1), (700, 300)])
def test_two_texts_are_as_the_closed_form_says(won: int, lost: int) -> None:
    """The one difference d solves won - n p(d) = d / 2 sd²; its variance is 1 / (n p (1 - p) + 1 / 2 sd²)."""
    ranking = rank(count_wins({pair: n for pair, n in {("a", "b"): won, ("b", "a"): lost}.items() if n}))
    games = won + lost

    def chance(difference: float) -> float:
        return 1 / (1 + math.exp(-difference))

    difference = float(brentq(lambda d: won - games * chance(d) - PRECISION * d / 2, -20, 20, xtol=1e-13))
    variance = 1 / (games * chance(difference) * chance(-difference) + PRECISION / 2)
    assert [each.text for each in ranking.texts] == ["a", "b"]
    assert strengths_of(ranking) == pytest.approx({"a": difference / 2, "b": -difference / 2}, abs=1e-6)
    for each in ranking.texts:
        assert each.standard_error == pytest.approx(math.sqrt(variance) / 2)
        assert each.interval == pytest.approx(
            (each.strength - 1.96 * each.standard_error, each.strength + 1.96 * each.standard_error), abs=1e-3
        )


def test_many_comparisons_leave_the_prior_nothing_to_say() -> None:
    first, second = rank(count_wins({("a", "b"): 7000, ("b", "a"): 3000})).texts
    assert first.strength - second.strength == pytest.approx(math.log(7 / 3), rel=1e-3)
    assert 2 * first.standard_error == pytest.approx(math.sqrt(1 / 7000 + 1 / 3000), rel=1e-3)


def test_known_strengths_are_found_again() -> None:
    ranking = rank(draw(TRUE_STRENGTHS, 400, seed=1))
    assert [each.text for each in ranking.texts] == [f"t{place:02}" for place in range(6, -1, -1)]
    for each in ranking.texts:
        assert abs(each.strength - TRUE_STRENGTHS[int(each.text[1:])]) < 3.5 * each.standard_error < 0.3
    assert ranking.groups[0].reliability > 0.98


def test_another_implementation_finds_the_same() -> None:
    """choix minimizes the same sum over single comparisons with SciPy, without our code."""
    wins = draw(TRUE_STRENGTHS, 3, seed=2)
    single = [
        (int(winner), int(loser))
        for winner, loser, count in zip(wins.winners, wins.losers, wins.counts, strict=True)
        for _ in range(int(count))
    ]
    theirs = choix.opt_pairwise(len(wins.texts), single, alpha=PRECISION / 2, tol=1e-9)
    assert fit(wins).strengths == pytest.approx(np.asarray(theirs), abs=1e-4)


def test_standard_errors_are_what_repeating_it_shows() -> None:
    truth = np.array([-1.0, -0.2, 0.3, 0.9])
    fits = [fit(draw(truth, 40, seed)) for seed in range(400)]
    scatter = np.std([each.strengths for each in fits], axis=0)
    said = np.mean([each.standard_errors for each in fits], axis=0)
    assert said == pytest.approx(scatter, rel=0.12)
    held = [np.abs(each.strengths - truth) < 1.96 * each.standard_errors for each in fits]
    assert 0.92 < np.mean(held) < 0.98


def test_standard_errors_are_of_the_pseudo_inverse() -> None:
    """They hold under the condition that the strengths sum to zero."""
    wins = draw(TRUE_STRENGTHS, 2, seed=3)
    found = fit(wins)
    size = len(wins.texts)
    without_level = np.eye(size) - 1 / size
    constrained = np.linalg.pinv(without_level @ inform(wins, found) @ without_level)
    assert found.standard_errors == pytest.approx(np.sqrt(np.diagonal(constrained)), rel=1e-6)


def test_the_undefeated_and_the_winless_stay_finite() -> None:
    ranking = rank(count_wins({("a", "b"): 5, ("b", "c"): 5}))
    assert [each.text for each in ranking.texts] == ["a", "b", "c"]
    assert all(abs(each.strength) < 3 * PRIOR_SD for each in ranking.texts)
    assert [each.is_one_circle for each in ranking.groups] == [False]
    assert rank(count_wins({("a", "b"): 1, ("b", "c"): 1, ("c", "a"): 1})).groups[0].is_one_circle


def test_groups_that_never_met_do_not_touch_each_other() -> None:
    larger = {("a", "b"): 2, ("b", "c"): 1, ("c", "a"): 1}
    both = rank(count_wins(larger | {("A", "B"): 3}))
    assert [(each.group, each.rank, each.text) for each in both.texts if each.group == 2] == [
        (2, 1, "A"),
        (2, 2, "B"),
    ]
    assert [(each.number, each.texts, each.comparisons) for each in both.groups] == [(1, 3, 4), (2, 2, 3)]
    alone = rank(count_wins(larger)).texts
    for ours, other in zip(both.texts, alone, strict=False):
        assert (ours.text, ours.rank, ours.won, ours.lost) == (other.text, other.rank, other.won, other.lost)
        assert ours.strength == pytest.approx(other.strength, abs=1e-6)
        assert ours.standard_error == pytest.approx(other.standard_error, abs=1e-6)
    assert sum(each.strength for each in both.texts if each.group == 2) == pytest.approx(0, abs=1e-6)


def test_the_gain_of_a_pair_is_that_of_the_determinant() -> None:
    wins = draw(TRUE_STRENGTHS[:5], 2, seed=4)
    found = fit(wins)
    before = inform(wins, found)
    chosen = choose_next_pairs(found, 3)
    for pair in chosen:
        gains = {
            (first, second): measure_gain(found, before, first, second)
            for second in range(5)
            for first in range(second)
        }
        assert pair.gain == pytest.approx(max(gains.values()))
        assert gains[pair.first, pair.second] == pytest.approx(pair.gain)
        before = add_answer(found, before, pair.first, pair.second)
    assert [each.gain for each in chosen] == sorted((each.gain for each in chosen), reverse=True)


def add_answer(found: Fit, information: np.ndarray, first: int, second: int) -> np.ndarray:
    direction = np.zeros(len(information))
    direction[first], direction[second] = 1, -1
    chance = found.chance(first, second)
    grown: np.ndarray = information + chance * (1 - chance) * np.outer(direction, direction)
    return grown


def measure_gain(found: Fit, information: np.ndarray, first: int, second: int) -> float:
    """Half the growth of the logarithm of the determinant."""
    grown = add_answer(found, information, first, second)
    return float((np.linalg.slogdet(grown)[1] - np.linalg.slogdet(information)[1]) / 2)


def test_next_pairs_stay_within_groups_unless_told_otherwise() -> None:
    wins = count_wins({("a", "b"): 3, ("x", "y"): 1, ("y", "z"): 2})
    within = rank(wins, 50).next_pairs
    assert {(each.first, each.second) for each in within} == {("a", "b"), ("x", "y"), ("x", "z"), ("y", "z")}
    assert {(each.first, each.second): each.asked for each in within} == {
        ("a", "b"): 3,
        ("x", "y"): 1,
        ("x", "z"): 0,
        ("y", "z"): 2,
    }
    across = rank(wins, 50, across=True).next_pairs
    assert len({(each.first, each.second) for each in across}) == len(across) == 10
    assert (across[0].first in "ab") != (across[0].second in "ab")
    assert rank(wins).next_pairs == ()


def test_reliability_is_the_share_that_is_no_error() -> None:
    """(s² - mean SE²) / s², and 0 if the errors exceed the spread."""
    strengths = np.array([-1.0, 0.0, 1.0])  # s² = 1
    assert measure_reliability(strengths, np.array([0.5, 0.5, 0.5])) == pytest.approx(0.75)
    assert measure_reliability(strengths, np.array([2.0, 2.0, 2.0])) == 0
    assert measure_reliability(np.zeros(2), np.ones(2)) == 0


def test_too_many_texts_are_refused_before_anything_is_computed() -> None:
    wins = count_wins({(f"t{n}", f"t{n + 1}"): 1 for n in range(MAX_TEXTS)})
    with pytest.raises(ValueError, match=f"{MAX_TEXTS + 1} texts are more than the {MAX_TEXTS}"):
        fit(wins)


names = st.sampled_from("abcdef")
answers = st.lists(st.tuples(names, names, st.integers(1, 10**6)), min_size=1, max_size=25).filter(
    lambda drawn: all(winner != loser for winner, loser, _ in drawn)
)


def sum_up(drawn: Iterable[tuple[str, str, int]]) -> Counter[tuple[str, str]]:
    wins: Counter[tuple[str, str]] = Counter()
    for winner, loser, count in drawn:
        wins[winner, loser] += count
    return wins


@settings(deadline=None, max_examples=50)
@given(drawn=answers)
def test_turning_every_answer_turns_the_order(drawn: list[tuple[str, str, int]]) -> None:
    there = rank(count_wins(sum_up(drawn)))
    back = rank(count_wins(sum_up((loser, winner, count) for winner, loser, count in drawn)))
    errors = {each.text: each.standard_error for each in there.texts}
    for each in back.texts:
        assert each.strength == pytest.approx(-strengths_of(there)[each.text], abs=1e-4)
        assert each.standard_error == pytest.approx(errors[each.text], rel=1e-3, abs=1e-4)
        assert math.isfinite(each.standard_error)
    for group in there.groups:
        members = [each.strength for each in there.texts if each.group == group.number]
        assert sum(members) == pytest.approx(0, abs=1e-3)
        assert members == sorted(members, reverse=True)
