"""The judge knows the essays, errs by chance and repeats itself exactly."""

import pytest

from simulator.essays import Essay, load_essays
from simulator.provider.draws import Draws
from simulator.provider.judge import Judge, probability_of_first

SEEDS = range(600)


@pytest.fixture(scope="module")
def phones() -> list[Essay]:
    return [essay for essay in load_essays() if essay.prompt_id == "phones"]


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge(load_essays())


def put(first: Essay, second: Essay) -> str:
    return f"Which is better?\n<essay_a>\n{first.text}\n</essay_a>\n<essay_b>\n{second.text}\n</essay_b>"


def share_of_a(judge: Judge, prompt: str) -> float:
    wins = [judge.judge(prompt, Draws(seed, prompt.encode(), 0)).winner == "essay_a" for seed in SEEDS]
    return sum(wins) / len(wins)


def test_probabilities_are_those_that_are_documented(phones: list[Essay]) -> None:
    """Neighbors 64 %, extremes 97 %, and the two sides add up to one."""
    assert probability_of_first(phones[0], phones[1]) == pytest.approx(0.641, abs=0.001)
    assert probability_of_first(phones[0], phones[6]) == pytest.approx(0.970, abs=0.001)
    assert probability_of_first(phones[6], phones[0]) == pytest.approx(0.030, abs=0.001)
    other = next(essay for essay in load_essays() if essay.prompt_id != "phones" and essay.rank == 7)
    assert probability_of_first(phones[0], other) == 0.5


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 0), (0, 6), (6, 0), (2, 5)])
def test_wins_are_as_frequent_as_their_probability(
    judge: Judge, phones: list[Essay], first: int, second: int
) -> None:
    """Over 600 seeds the share is within four standard errors, whichever essay stands first."""
    expected = probability_of_first(phones[first], phones[second])
    tolerance = 4 * (expected * (1 - expected) / len(SEEDS)) ** 0.5
    assert share_of_a(judge, put(phones[first], phones[second])) == pytest.approx(expected, abs=tolerance)


def test_unknown_essays_are_judged_by_a_hash(judge: Judge) -> None:
    prompt = "Which is better? A: roses are red. B: violets are blue."
    assert share_of_a(judge, prompt) == pytest.approx(0.5, abs=0.09)
    assert judge.judge(prompt, Draws(1, b"", 0)).confidence == 0.5


def test_essays_are_found_in_the_order_in_which_they_stand(judge: Judge, phones: list[Essay]) -> None:
    text = f"# {phones[5].text} ## {phones[2].text} ### {phones[5].text}"
    assert [essay.id for essay in judge.find_essays(text)] == [phones[5].id, phones[2].id, phones[5].id]


def test_confidence_is_the_winners_probability_within_bounds(judge: Judge, phones: list[Essay]) -> None:
    prompt = put(phones[0], phones[6])
    said = [judge.judge(prompt, Draws(seed, b"", 0)) for seed in SEEDS]
    assert {(one.winner, one.confidence) for one in said} == {("essay_a", 0.97), ("essay_b", 0.5)}


def test_justification_is_short_varied_and_quotes_no_essay(judge: Judge, phones: list[Essay]) -> None:
    prompt = put(phones[3], phones[4])
    said = [judge.judge(prompt, Draws(seed, b"", 0)) for seed in range(60)]
    assert len({one.justification for one in said}) > 15
    for one in said:
        assert len(one.justification) < 500
        assert one.justification.startswith("Essay A" if one.winner == "essay_a" else "Essay B")
        words = one.justification.split()
        assert not any(" ".join(words[n : n + 6]) in prompt for n in range(len(words) - 5))


def test_streams_depend_on_seed_request_attempt_and_name() -> None:
    def draw(seed: int = 1, request: bytes = b"request", attempt: int = 0, name: str = "winner") -> float:
        return Draws(seed, request, attempt).stream(name).random()

    assert draw() == draw()
    assert len({draw(), draw(seed=2), draw(request=b"another"), draw(attempt=1), draw(name="latency")}) == 5
