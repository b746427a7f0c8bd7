"""The shipped essays are what the judge's known truth rests on."""

import re
from collections import defaultdict
from pathlib import Path

import pytest

from simulator.essays import Essay, fixtures_root, load_essays
from simulator.provider.judge import OPENING_CHARACTERS


@pytest.fixture(scope="module")
def essays() -> tuple[Essay, ...]:
    return load_essays()


def test_each_assignment_has_its_essays_ranked_without_gaps(essays: tuple[Essay, ...]) -> None:
    ranks = defaultdict(list)
    for essay in essays:
        ranks[essay.prompt_id, essay.prompt].append(essay.rank)
    assert list(ranks.values()) == [[1, 2, 3, 4, 5, 6, 7]] * 2


def test_every_essay_is_known_by_its_opening_and_shares_no_sentence(essays: tuple[Essay, ...]) -> None:
    assert len({essay.id for essay in essays}) == len(essays)
    assert len(list((fixtures_root() / "essays").glob("*.txt"))) == len(essays)
    everything = "\n".join(essay.text for essay in essays)
    owner: dict[str, str] = {}
    for essay in essays:
        assert 150 <= len(essay.text.split()) <= 400, essay.id
        assert essay.text == essay.text.strip()
        assert everything.count(essay.text[:OPENING_CHARACTERS]) == 1
        for sentence in re.split(r"(?<=[.!?])\s+", essay.text):
            assert owner.setdefault(sentence.lower(), essay.id) == essay.id, sentence


def test_fixtures_are_found_installed_and_in_a_checkout(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Install the package again"):
        fixtures_root(tmp_path / "simulator")
    for place in ("fixtures", "simulator/fixtures"):
        index = tmp_path / place / "essays" / "index.json"
        index.parent.mkdir(parents=True)
        index.write_text("[]")
        assert fixtures_root(tmp_path / "simulator") == tmp_path / place
        assert load_essays(tmp_path / place) == ()
