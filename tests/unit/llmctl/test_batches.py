"""Requests are read from a file line by line, and options fill in what a line omits."""

import json
from io import BytesIO
from uuid import UUID

from llmctl.jobs.batches import Defaults, Line, read_lines
from service.contracts.requests import LLMComparisonRequest

BODY = {"user_prompt": "p", "essay_a": "a", "essay_b": "b"}


def test_options_complete_a_line() -> None:
    defaults = Defaults("t", "openai", "gpt-4o", 3, 60.0, {"k": "v"})
    assert defaults.complete(BODY) == BODY | {
        "callback_topic": "t",
        "priority": 3,
        "ttl_seconds": 60.0,
        "llm_config_overrides": {"provider_override": "openai", "model_override": "gpt-4o"},
        "metadata": {"k": "v"},
    }


def test_a_line_decides_for_itself() -> None:
    own = {
        "callback_topic": "mine",
        "priority": 0,
        "metadata": {"k": "own"},
        "llm_config_overrides": {"model_override": "m"},
    }
    whole = Defaults("t", "openai", "gpt-4o", 3, None, {"k": "v", "l": "w"}).complete(BODY | own)
    assert whole["callback_topic"] == "mine"
    assert whole["priority"] == 0
    assert whole["metadata"] == {"k": "own", "l": "w"}
    assert whole["llm_config_overrides"] == {"provider_override": "openai", "model_override": "m"}


def test_without_options_a_line_goes_as_it_is() -> None:
    strange = {"metadata": 7, "unknown": [None]}
    assert Defaults().complete(strange) == strange


def test_lines_keep_their_numbers() -> None:
    raw = b'\n{"callback_topic": "x"}\n  \nnot json\n[1]\n' + b"[" * 200_000 + b"\n\xff\n"
    lines = list(read_lines(BytesIO(raw), Defaults()))
    assert [line.number for line in lines] == [2, 4, 5, 6, 7]
    assert lines[0].callback_topic == "x"
    assert [line.problem is None for line in lines] == [True, False, False, False, False]


def test_dry_run_objections_name_the_field() -> None:
    good = BODY | {"callback_topic": "t"}
    (line,) = read_lines(BytesIO(json.dumps(good).encode()), Defaults())
    request = line.read_request()
    assert isinstance(request, LLMComparisonRequest)
    assert request.essay_b == "b"
    (line,) = read_lines(BytesIO(json.dumps(good | {"essay_b": " "}).encode()), Defaults())
    assert str(line.read_request()).startswith("essay_b: ")
    assert Line(1, None, "the line is not JSON").read_request() == "the line is not JSON"


BATCH, OTHER_BATCH = UUID(int=1), UUID(int=2)


def test_a_line_has_one_key_in_all_runs_of_its_batch() -> None:
    """A changed text under an old key is a conflict, not a second request."""
    line = Line(7, BODY)
    assert line.key_in(BATCH) == Line(7, BODY | {"essay_a": "other"}).key_in(BATCH)
    keys = {
        line.key_in(BATCH),
        line.key_in(OTHER_BATCH),
        Line(8, BODY).key_in(BATCH),
        Line(7, BODY, swapped=True).key_in(BATCH),
    }
    assert len(keys) == 4


def test_a_digest_tells_what_is_said_and_not_how() -> None:
    line = Line(1, {"a": 1, "b": "ä"})
    assert line.digest() == Line(2, {"b": "ä", "a": 1}).digest()
    assert line.digest() != Line(1, {"a": 1, "b": "a"}).digest()
    assert Line(1, {"a": "\ud800"}).digest() != Line(1, {"a": "?"}).digest()
