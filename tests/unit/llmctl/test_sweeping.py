"""A sweep finds the highest rate that holds in few steps."""

import pytest

from llmctl.jobs.sweeping import Search


def search_for(limit: float, *, lowest: float = 50.0, highest: float = 2000.0) -> tuple[Search, list[float]]:
    """Searches where every rate up to `limit` holds; returns the search and the rates it tried."""
    search, tried = Search(lowest, highest, 0.1), []
    for rate in search.steps():
        tried.append(rate)
        search.note(good=rate <= limit)
    return search, tried


@pytest.mark.parametrize("limit", [50.0, 51.0, 99.0, 100.0, 437.0, 1600.0, 1999.0])
def test_the_highest_rate_is_found_to_within_a_tenth(limit: float) -> None:
    search, tried = search_for(limit)
    assert search.best is not None
    assert search.worst is not None
    assert search.best <= limit < search.worst <= 1.1 * search.best
    assert len(tried) <= 11
    assert len(set(tried)) == len(tried)


def test_a_limit_beyond_the_highest_rate_is_not_looked_for() -> None:
    search, tried = search_for(5000.0)
    assert (search.best, search.worst, tried[-1]) == (2000.0, None, 2000.0)


def test_a_lowest_rate_that_fails_ends_it() -> None:
    search, tried = search_for(10.0)
    assert (search.best, tried) == (None, [50.0])
