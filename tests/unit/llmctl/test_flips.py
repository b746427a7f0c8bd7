"""How often a model judges by the position of a text."""

import json
from collections.abc import Iterable
from io import StringIO

import pytest
from rich.console import Console

from llmctl.jobs.flips import FlipTally, ModelFlips
from llmctl.render.terminal import Output, Terminal
from service.contracts.enums import EssayComparisonWinner
from service.contracts.events import LLMComparisonResultV1
from tests.unit.llmctl.conftest import make_record

A, B = EssayComparisonWinner.ESSAY_A, EssayComparisonWinner.ESSAY_B


def verdict(winner: EssayComparisonWinner | None, model: str = "m") -> LLMComparisonResultV1:
    record = make_record(fails=winner is None, model=model)
    assert record.envelope is not None
    return record.envelope.data.model_copy(update={"winner": winner})


def tally(verdicts: Iterable[tuple[int, LLMComparisonResultV1 | None]]) -> FlipTally:
    flips = FlipTally()
    for line, result in verdicts:
        flips.take(line, result)
    return flips


def test_the_same_place_twice_is_a_flip() -> None:
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


def test_models_are_kept_apart() -> None:
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


def test_half_a_pair_is_none() -> None:
    found = tally([(1, verdict(A)), (1, verdict(None)), (2, None), (2, None), (3, verdict(A))])
    assert (found.models(), found.left_out) == ((), 3)


def test_a_model_without_a_pair_has_no_rate() -> None:
    document = ModelFlips("p", "m").describe()
    assert document["flip_rate"] is None
    assert document["first_position_share_high"] is None


@pytest.mark.parametrize("output", list(Output))
def test_the_report_names_rate_and_interval(output: Output) -> None:
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
