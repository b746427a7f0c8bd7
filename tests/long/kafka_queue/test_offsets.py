"""Out-of-order completion: what is committed, and what travels beside it."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.queues.kafka.offsets import MAX_METADATA_CHARACTERS, MetadataUnreadable, Progress


@given(base=st.integers(0, 10**12), order=st.permutations(range(40)), done=st.integers(0, 40))
def test_commits_the_first_unfinished_offset_whatever_the_order(
    base: int, order: list[int], done: int
) -> None:
    """Everything before the base is finished, the base is not, and nothing above it is forgotten."""
    progress = Progress(base)
    finished = order[:done]
    for offset in finished:
        progress.finish(base + offset)

    reached = next(n for n in range(41) if n not in finished)
    assert progress.base == base + reached
    assert [progress.is_finished(base + n) for n in range(40)] == [n in finished for n in range(40)]
    assert progress.count_above() == sum(n > reached for n in finished)


@given(base=st.integers(0, 10**9), above=st.sets(st.integers(0, 3000), max_size=500))
def test_what_is_packed_is_read_by_the_next_owner(base: int, above: set[int]) -> None:
    """A commit's metadata gives the same progress back."""
    progress = Progress(base)
    for offset in above:
        progress.finish(base + offset)

    again = Progress.unpack(progress.base, progress.pack())

    assert again.base == progress.base
    assert all(again.is_finished(base + n) == progress.is_finished(base + n) for n in range(3001))


def test_metadata_keeps_its_limit_and_never_says_too_much() -> None:
    """A hundred thousand offsets finished at random do not fit: the nearest are told, none is invented."""
    rng = random.Random(7)
    finished = {n for n in range(1, 100_000) if rng.random() < 0.5}
    progress = Progress()
    for offset in finished:
        progress.finish(offset)

    packed = progress.pack()
    told = Progress.unpack(0, packed)

    assert MAX_METADATA_CHARACTERS * 0.7 < len(packed) <= MAX_METADATA_CHARACTERS
    known = {n for n in range(100_000) if told.is_finished(n)}
    assert known <= finished
    assert {n for n in finished if n <= max(known)} == known
    assert max(known) > 15_000


def test_twenty_thousand_offsets_with_a_thousand_open_fit() -> None:
    """The usual picture, a thousand calls in flight in a long row, is told whole."""
    rng = random.Random(8)
    unfinished = {0, *rng.sample(range(20_000), 1000)}
    progress = Progress()
    for offset in set(range(20_000)) - unfinished:
        progress.finish(offset)

    told = Progress.unpack(0, progress.pack())

    assert {n for n in range(20_000) if not told.is_finished(n)} == unfinished


def test_gaps_count_as_finished() -> None:
    """What holds no request keeps nothing back."""
    progress = Progress(5)
    progress.skip(5, 9)
    progress.skip(3, 4)
    progress.finish(9)
    progress.finish(9)

    assert progress.base == 10


@pytest.mark.parametrize("metadata", ["2:AAAA", "hello", "1:!!", "1:AAAA"])
def test_foreign_metadata_is_refused(metadata: str) -> None:
    """What somebody else has committed is not taken for ours."""
    with pytest.raises(MetadataUnreadable):
        Progress.unpack(3, metadata)
