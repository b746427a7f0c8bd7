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
    """Two assignments, seven essays each, ranked 1 to 7 and loaded in that order."""
    ranks = defaultdict(list)
    for essay in essays:
        ranks[essay.prompt_id, essay.prompt].append(essay.rank)
    assert list(ranks.values()) == [[1, 2, 3, 4, 5, 6, 7]] * 2


def test_essays_have_the_length_of_school_essays(essays: tuple[Essay, ...]) -> None:
    """Each has 150 to 400 words and no white space at its rims."""
    for essay in essays:
        assert 150 <= len(essay.text.split()) <= 400, essay.id
        assert essay.text == essay.text.strip()


def test_no_two_essays_share_an_id_or_a_sentence(essays: tuple[Essay, ...]) -> None:
    """Every sentence belongs to one essay."""
    assert len({essay.id for essay in essays}) == len(essays)
    owner: dict[str, str] = {}
    for essay in essays:
        for sentence in re.split(r"(?<=[.!?])\s+", essay.text):
            assert owner.setdefault(sentence.lower(), essay.id) == essay.id, sentence


def test_every_essay_is_known_by_its_opening(essays: tuple[Essay, ...]) -> None:
    """The characters that the judge looks for occur in one essay only, once."""
    everything = "\n".join(essay.text for essay in essays)
    for essay in essays:
        assert everything.count(essay.text[:OPENING_CHARACTERS]) == 1


def test_every_text_file_stands_in_the_index(essays: tuple[Essay, ...]) -> None:
    """No essay lies about unlisted."""
    assert len(list((fixtures_root() / "essays").glob("*.txt"))) == len(essays)


@pytest.mark.parametrize("place", ["simulator/fixtures", "fixtures"])
def test_fixtures_are_found_installed_and_in_a_checkout(tmp_path: Path, place: str) -> None:
    """They stand inside the package once installed, beside it in a checkout."""
    index = tmp_path / place / "essays" / "index.json"
    index.parent.mkdir(parents=True)
    index.write_text("[]")
    assert fixtures_root(tmp_path / "simulator") == tmp_path / place
    assert load_essays(tmp_path / place) == ()


def test_missing_fixtures_are_said_to_be_missing(tmp_path: Path) -> None:
    """An incomplete installation is named instead of judged without essays."""
    with pytest.raises(FileNotFoundError, match="Install the package again"):
        fixtures_root(tmp_path / "simulator")
