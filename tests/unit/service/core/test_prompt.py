"""What the judge is told, and how whatever it answers is read."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from service.contracts.enums import EssayComparisonWinner
from service.contracts.error_codes import LLMErrorCode
from service.contracts.requests import LLMComparisonRequest, QueuedRequest
from service.core.errors import ProviderFailure
from service.core.outcome import Judgement
from service.core.prompt import ANSWER_SCHEMA, SYSTEM_PROMPT, compose_user_prompt, read_judgement

Answer = dict[str, Any]

VALID: Answer = {"winner": "essay_b", "justification": "It is clearer.", "confidence": 0.8}
NOT_JSON = LLMErrorCode.PARSING_ERROR
MISFIT = LLMErrorCode.INVALID_RESPONSE


def fail(answer: str | bytes) -> ProviderFailure:
    """The failure of an answer that cannot be used."""
    with pytest.raises(ProviderFailure) as failed:
        read_judgement(answer)
    return failed.value


def try_to_read(answer: str | bytes) -> Judgement | ProviderFailure:
    """The judgement or the failure; everything else that goes wrong is a defect."""
    try:
        return read_judgement(answer)
    except ProviderFailure as failure:
        return failure


def test_the_prompt_holds_the_instruction_and_both_essays_apart(queued: QueuedRequest) -> None:
    """The judge can tell which essay is which, and which words are instructions."""
    assert compose_user_prompt(queued.request_data) == (
        "Which essay is better?\n\n"
        "<essay_a>\nThe first essay.\n</essay_a>\n\n"
        "<essay_b>\nThe second essay.\n</essay_b>"
    )


@settings(deadline=None, max_examples=50)
@given(texts=st.tuples(*[st.text(min_size=1).filter(lambda text: not text.isspace())] * 3))
def test_the_prompt_leaves_every_text_as_it_is(texts: tuple[str, str, str]) -> None:
    """Nothing is trimmed, escaped or cut."""
    request = LLMComparisonRequest(
        user_prompt=texts[0], essay_a=texts[1], essay_b=texts[2], callback_topic="results.one"
    )
    prompt = compose_user_prompt(request)
    assert prompt.startswith(texts[0] + "\n\n<essay_a>\n" + texts[1] + "\n")
    assert prompt.endswith("\n" + texts[2] + "\n</essay_b>")


def test_the_judge_is_told_what_is_read_from_it() -> None:
    """The instruction names the two winners and the limit of the justification."""
    for said in ("essay_a", "essay_b", "500 characters", "from 0 to 1"):
        assert said in SYSTEM_PROMPT


def test_an_answer_by_the_schema_can_be_read() -> None:
    """What we ask for and what we read is the same shape."""
    Draft202012Validator.check_schema(ANSWER_SCHEMA)
    judge = Draft202012Validator(ANSWER_SCHEMA)
    assert judge.is_valid(VALID)
    assert not judge.is_valid({**VALID, "winner": "tie"})
    assert set(ANSWER_SCHEMA["required"]) == set(VALID) == set(ANSWER_SCHEMA["properties"])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, Judgement(EssayComparisonWinner.ESSAY_B, "It is clearer.", 0.8)),
        ({"winner": "essay_a"}, Judgement(EssayComparisonWinner.ESSAY_A, "It is clearer.", 0.8)),
        ({"confidence": 0}, Judgement(EssayComparisonWinner.ESSAY_B, "It is clearer.", 0.0)),
        ({"confidence": 1}, Judgement(EssayComparisonWinner.ESSAY_B, "It is clearer.", 1.0)),
        ({"justification": ""}, Judgement(EssayComparisonWinner.ESSAY_B, "", 0.8)),
        ({"more": [1]}, Judgement(EssayComparisonWinner.ESSAY_B, "It is clearer.", 0.8)),
    ],
    ids=str,
)
def test_a_judgement_is_read(change: Answer, expected: Judgement) -> None:
    """From text and from bytes alike; what was not asked for is ignored."""
    answer = json.dumps({**VALID, **change})
    assert read_judgement(answer) == expected
    assert read_judgement(answer.encode()) == expected
    assert isinstance(read_judgement(answer).confidence, float)


@pytest.mark.parametrize(("length", "kept"), [(499, 499), (500, 500), (501, 500), (10_000, 500)])
@pytest.mark.parametrize("character", ["x", "é", "🙂"])
def test_a_justification_is_cut_at_500_characters(length: int, kept: int, character: str) -> None:
    """A talkative judge costs no answer; the limit counts characters, not bytes."""
    answer = json.dumps({**VALID, "justification": character * length})
    assert read_judgement(answer).justification == character * kept


@pytest.mark.parametrize(
    ("written", "read"),
    [("\\ud800", "?"), ("a\\udfffb", "a?b"), ("\\ud83d\\ude42", "🙂"), ("\\ud83d" * 600, "?" * 500)],
)
def test_a_lone_surrogate_does_not_poison_a_justification(written: str, read: str) -> None:
    """It is legal JSON and cannot be written as UTF-8; a proper pair stays."""
    answer = '{"winner": "essay_a", "confidence": 1, "justification": "' + written + '"}'
    assert read_judgement(answer).justification == read


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Essay A is better.",
        '{"winner": "essay_a"',
        "```json\n" + json.dumps(VALID) + "\n```",
        json.dumps(VALID) + json.dumps(VALID),
        "\ufeff" + json.dumps(VALID),
        b"\xff\xfe\xff",
        b'{"winner": "\xff"}',
        "[" * 200_000,
        "9" * 5_000,
    ],
    ids=lambda answer: ascii(answer[:20]),
)
def test_what_is_no_json_is_a_parsing_error(answer: str | bytes) -> None:
    """The next attempt may well be answered properly."""
    failure = fail(answer)
    assert (failure.code, failure.retryable) == (NOT_JSON, True)
    assert str(failure) == "The provider's answer is not JSON."


@pytest.mark.parametrize(
    "change",
    [
        {"winner": None},
        {"winner": "tie"},
        {"winner": "Essay_A"},
        {"winner": ["essay_a"]},
        {"winner": {"essay_a": 1}},
        {"winner": True},
        {"winner": 0},
        {"justification": None},
        {"justification": 5},
        {"justification": ["It is clearer."]},
        {"confidence": None},
        {"confidence": "0.8"},
        {"confidence": True},
        {"confidence": False},
        {"confidence": -0.01},
        {"confidence": 1.01},
        {"confidence": 80},
        {"confidence": math.nan},
        {"confidence": math.inf},
        {"confidence": -math.inf},
        {"confidence": 10**400},
        {"confidence": -(10**400)},
        {"confidence": [0.8]},
    ],
    ids=lambda change: str(change)[:30],
)
def test_an_answer_of_another_shape_is_an_invalid_response(change: Answer) -> None:
    """Each fault alone is enough; the failure says which field and quotes nothing."""
    failure = fail(json.dumps({**VALID, **change}))
    assert (failure.code, failure.retryable) == (MISFIT, True)
    assert next(iter(change)) in failure.message


@pytest.mark.parametrize("field", list(VALID))
def test_an_answer_without_a_field_is_an_invalid_response(field: str) -> None:
    """Half a judgement is none."""
    answer = {name: value for name, value in VALID.items() if name != field}
    assert fail(json.dumps(answer)).code is MISFIT


@pytest.mark.parametrize("answer", ["null", "[]", '"essay_a"', "1", "true", "{}"])
def test_json_of_another_kind_is_an_invalid_response(answer: str) -> None:
    """Only an object can hold a judgement."""
    assert fail(answer).code is MISFIT


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None, categories=None))
    | st.sampled_from(["essay_a", "essay_b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
ANSWERS = JSON_VALUES | st.fixed_dictionaries(dict.fromkeys(VALID, JSON_VALUES))


@settings(deadline=None, max_examples=100)
@given(answer=ANSWERS.map(json.dumps) | st.text() | st.binary())
def test_whatever_is_answered_is_a_judgement_or_a_failure(answer: str | bytes) -> None:
    """Reading never fails in another way, and a judgement always fits the callback."""
    outcome = try_to_read(answer)
    if isinstance(outcome, ProviderFailure):
        assert outcome.code in {NOT_JSON, MISFIT}
    else:
        assert 0 <= outcome.confidence <= 1
        assert len(outcome.justification) <= 500
        assert outcome.justification.encode().decode() == outcome.justification


CANARY = "kvothe-7431-canary"


@settings(deadline=None, max_examples=100)
@given(field=st.sampled_from([*VALID, "more"]), value=st.sampled_from([CANARY, [CANARY], {CANARY: CANARY}]))
def test_a_failure_never_quotes_the_answer(field: str, value: Any) -> None:
    """The answer can hold parts of the essays; none of it reaches a log or a callback by way of an error."""
    for answer in (json.dumps({**VALID, field: value}), json.dumps({**VALID, field: value})[:-1]):
        outcome = try_to_read(answer)
        if isinstance(outcome, ProviderFailure):
            assert CANARY not in outcome.message + repr(outcome)
