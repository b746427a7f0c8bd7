"""How often a judge goes by the position."""

import json
from collections.abc import Callable, Iterable
from io import StringIO

import pytest
from rich.console import Console

from llmctl.client.callbacks import CallbackRecord
from llmctl.jobs.flips import FlipTally, ModelFlips
from llmctl.render.terminal import Output, Terminal
from service.contracts.enums import EssayComparisonWinner
from service.contracts.events import LLMComparisonResultV1

Verdict = Callable[..., LLMComparisonResultV1]
A, B = EssayComparisonWinner.ESSAY_A, EssayComparisonWinner.ESSAY_B


@pytest.fixture
def verdict(record_of: Callable[..., CallbackRecord]) -> Verdict:
    """Makes a result."""

    def make(winner: EssayComparisonWinner | None, model: str = "m") -> LLMComparisonResultV1:
        record = record_of(fails=winner is None, model=model)
        assert record.envelope is not None
        return record.envelope.data.model_copy(update={"winner": winner})

    return make


def tally(verdicts: Iterable[tuple[int, LLMComparisonResultV1 | None]]) -> FlipTally:
    """A tally that has taken them."""
    flips = FlipTally()
    for line, result in verdicts:
        flips.take(line, result)
    return flips


def test_the_same_place_twice_is_a_flip(verdict: Verdict) -> None:
    """The texts have changed places in between; whichever half comes first."""
    found = tally(
        [
            (1, verdict(A)),  # line 1: the same text both times
            (2, verdict(A)),
            (2, verdict(A)),  # line 2: twice the first place
            (3, verdict(B)),
            (1, verdict(B)),
            (3, verdict(B)),  # line 3: twice the second place
            (4, verdict(A)),
            (4, verdict(A)),
        ]
    )
    (model,) = found.models()
    assert (model.provider, model.model, model.pairs, model.flips) == ("openai", "m", 4, 3)
    assert model.first_wins == 1 + 2 + 0 + 2
    assert model.flip_rate is not None
    assert model.first_share is not None
    assert (model.flip_rate.share, model.first_share.share) == (0.75, 5 / 8)
    assert model.first_share.low < 0.5 < model.first_share.high
    assert found.left_out == 0


def test_models_are_kept_apart(verdict: Verdict) -> None:
    """Each has its own rate, and a pair that two have judged says nothing of either."""
    found = tally(
        [
            (1, verdict(A, "x")),
            (1, verdict(A, "x")),
            (2, verdict(A, "y")),
            (2, verdict(B, "y")),
            (3, verdict(A, "x")),
            (3, verdict(B, "y")),
        ]
    )
    assert [(each.model, each.pairs, each.flips) for each in found.models()] == [("x", 1, 1), ("y", 1, 0)]
    assert found.left_out == 1


def test_half_a_pair_is_none(verdict: Verdict) -> None:
    """An error, a refusal and a missing callback leave it out."""
    found = tally([(1, verdict(A)), (1, verdict(None)), (2, None), (2, None), (3, verdict(A))])
    assert (found.models(), found.left_out) == ((), 3)


def test_a_model_without_a_pair_has_no_rate() -> None:
    """Nothing, not zero."""
    document = ModelFlips("p", "m").describe()
    assert document["flip_rate"] is None
    assert document["first_position_share_high"] is None


@pytest.mark.parametrize("output", list(Output))
def test_the_report_names_rate_and_interval(verdict: Verdict, output: Output) -> None:
    """As the last line of JSON, or as a table of 80 columns."""
    said = StringIO()
    terminal = Terminal(Console(file=said, width=80), Console(file=said), output)
    tally([(1, verdict(A)), (1, verdict(A)), (2, verdict(A)), (2, verdict(B)), (3, None)]).show(terminal)
    if output is Output.JSON:
        document = json.loads(said.getvalue())
        assert document["pairs_left_out"] == 1
        (model,) = document["swap_check"]
        assert (model["pairs"], model["flips"], model["flip_rate"]) == (2, 1, 0.5)
        assert 0 < model["flip_rate_low"] < 0.5 < model["flip_rate_high"] < 1
        assert model["first_position_share"] == 0.75
    else:
        assert "50.0% (9 to 91)" in said.getvalue()
        assert "75.0% (20 to 97)" in said.getvalue()
        assert "Pairs left out, since no one model judged them both ways: 1." in said.getvalue()
