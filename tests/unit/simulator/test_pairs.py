"""The shipped comparisons are valid requests about the shipped essays."""

import json
from collections import Counter
from typing import Any

import pytest

from service.contracts.requests import LLMComparisonRequest
from simulator.essays import Essay, load_essays, pairs_path


@pytest.fixture(scope="module")
def pairs() -> list[dict[str, Any]]:
    return [json.loads(line) for line in pairs_path().read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def essays() -> dict[str, Essay]:
    return {essay.id: essay for essay in load_essays()}


def test_pairs_are_requests_that_lack_only_a_topic(
    pairs: list[dict[str, Any]], essays: dict[str, Essay]
) -> None:
    assert len(pairs) >= 24
    for pair in pairs:
        assert "callback_topic" not in pair
        LLMComparisonRequest.model_validate({**pair, "callback_topic": "a.topic"})
        first, second = (essays[pair["metadata"][key]] for key in ("essay_a_id", "essay_b_id"))
        assert (pair["essay_a"], pair["essay_b"]) == (first.text, second.text)
        assert first.prompt_id == second.prompt_id == pair["metadata"]["prompt_id"]
        assert first.prompt in pair["user_prompt"]
        assert first.rank != second.rank


def test_pairs_are_balanced(pairs: list[dict[str, Any]], essays: dict[str, Essay]) -> None:
    gaps = [
        essays[pair["metadata"]["essay_b_id"]].rank - essays[pair["metadata"]["essay_a_id"]].rank
        for pair in pairs
    ]
    assert sum(gap > 0 for gap in gaps) == sum(gap < 0 for gap in gaps)
    assert set(Counter(abs(gap) for gap in gaps)) == {1, 2, 3, 4, 5, 6}
    assert len({pair["metadata"]["pair_id"] for pair in pairs}) == len(pairs)
    names = ("essay_a_id", "essay_b_id")
    assert len({frozenset(pair["metadata"][name] for name in names) for pair in pairs}) == len(pairs)
