"""Reading a body: every fault is refused with its code, in one order of precedence, quoting nothing."""

import json
from hashlib import sha256
from itertools import combinations
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.contracts.error_codes import LLMErrorCode
from service.contracts.requests import MAX_METADATA_BYTES, LLMComparisonRequest, LLMConfigOverrides
from service.core.admission import (
    check_metadata_size,
    digest_body,
    parse_body,
    read_correlation_id,
    read_request,
)
from service.core.errors import Refused

Body = dict[str, Any]

VALID: Body = {
    "user_prompt": "Which essay is better?",
    "essay_a": "The first essay.",
    "essay_b": "The second essay.",
    "callback_topic": "results.one",
}
MISSING = LLMErrorCode.CALLBACK_TOPIC_MISSING
BAD_TOPIC = LLMErrorCode.INVALID_CALLBACK_TOPIC
BAD_PROMPT = LLMErrorCode.INVALID_PROMPT
BAD_REQUEST = LLMErrorCode.INVALID_REQUEST
BAD_CONFIG = LLMErrorCode.INVALID_CONFIG
TOO_LONG = LLMErrorCode.CONTENT_TOO_LONG


def admit(body: bytes) -> LLMComparisonRequest:
    document = parse_body(body)
    check_metadata_size(document)
    return read_request(document)


def try_to_admit(body: bytes) -> LLMComparisonRequest | Refused:
    try:
        return admit(body)
    except Refused as refused:
        return refused


def refuse(body: bytes) -> Refused:
    with pytest.raises(Refused) as refused:
        admit(body)
    return refused.value


def dump(document: Any) -> bytes:
    return json.dumps(document).encode()


def with_raw(field: str, value: bytes) -> bytes:
    return dump(VALID)[:-1] + b', "' + field.encode() + b'": ' + value + b"}"


def test_a_valid_body_becomes_a_request() -> None:
    request = admit(dump({**VALID, "metadata": {"a": 1}, "priority": 3}))
    assert request.model_dump(include={*VALID, "metadata", "priority"}) == {
        **VALID,
        "metadata": {"a": 1},
        "priority": 3,
    }


NOT_JSON: list[tuple[str, bytes]] = [
    ("empty", b""),
    ("blank", b" \n"),
    ("cut off", dump(VALID)[:-1]),
    ("two documents", dump(VALID) * 2),
    ("a trailing comma", b'{"a": 1,}'),
    ("single quotes", b"{'a': 1}"),
    ("a comment", b'{"a": 1} // x'),
    ("NaN", with_raw("priority", b"NaN")),
    ("Infinity", with_raw("ttl_seconds", b"Infinity")),
    ("-Infinity in metadata", with_raw("metadata", b'{"a": -Infinity}')),
    ("a byte order mark", b"\xef\xbb\xbf" + dump(VALID)),
    ("UTF-16", dump(VALID).decode().encode("utf-16")),
    ("bytes that are not UTF-8", with_raw("metadata", b'{"a": "\xff"}')),
    ("an encoded surrogate", with_raw("metadata", b'{"a": "\xed\xa0\x80"}')),
    ("a lone high surrogate", with_raw("metadata", b'{"a": "\\ud800"}')),
    ("a lone low surrogate", with_raw("metadata", b'{"a": "\\udc00"}')),
    ("a lone surrogate in a name", with_raw("\\ud800", b"1")),
    ("a control character", with_raw("metadata", b'{"a": "\x01"}')),
    ("a leading zero", with_raw("priority", b"01")),
    ("an integer of 5,000 digits", with_raw("priority", b"9" * 5_000)),
    ("the same in metadata", with_raw("metadata", b'{"a": -' + b"9" * 5_000 + b"}")),
    ("100,000 open lists", b"[" * 100_000),
    ("100,000 open objects", b'{"a":' * 100_000),
    ("100,000 lists in metadata", with_raw("metadata", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")),
    ("a list", dump([VALID])),
    ("a text", b'"text"'),
    ("a number", b"1"),
    ("null", b"null"),
]


@pytest.mark.parametrize("body", [row[1] for row in NOT_JSON], ids=[row[0] for row in NOT_JSON])
def test_body_that_is_not_a_json_object_is_refused_in_one_line(body: bytes) -> None:
    refused = refuse(body)
    assert (refused.code, refused.status) == (BAD_REQUEST, 422)
    assert refused.message.startswith(("The body is not valid JSON: ", "The body must be a JSON object."))
    assert "\n" not in refused.message
    assert len(refused.message) < 200


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b'{"deep": [1e999]}'], ids=bytes.decode)
def test_infinite_number_in_metadata_is_refused(number: bytes) -> None:
    refused = refuse(with_raw("metadata", b'{"a": ' + number + b"}"))
    assert (refused.code, refused.details) == (BAD_REQUEST, {"field": "metadata"})


@pytest.mark.parametrize("depth", [101, 150, 190, 196])
def test_metadata_nested_too_deep_is_refused(depth: int) -> None:
    """The queue could not read it back."""
    lists = depth - 1
    refused = refuse(with_raw("metadata", b'{"a":' + b"[" * lists + b"]" * lists + b"}"))
    assert (refused.code, refused.details) == (BAD_REQUEST, {"field": "metadata"})
    assert "deep" in refused.message


def test_last_of_two_equal_names_counts() -> None:
    assert admit(with_raw("essay_a", b'"the other"')).essay_a == "the other"


@pytest.mark.parametrize(
    "number", ["1e22", "5e-324", "-0.0", "18446744073709551616", "0.30000000000000004", "9" * 4_000]
)
def test_metadata_keeps_its_numbers(number: str) -> None:
    read = admit(with_raw("metadata", b'{"n": ' + number.encode() + b"}")).metadata["n"]
    assert repr(read) == repr(json.loads(number))


ABSENT = ...
FAULTS: list[tuple[LLMErrorCode, Body]] = [
    *[(MISSING, {"callback_topic": topic}) for topic in (ABSENT, None, "")],
    *[(BAD_TOPIC, {"callback_topic": topic}) for topic in (["results.one"], 0, False)],
    *[(BAD_PROMPT, {"user_prompt": prompt}) for prompt in (ABSENT, " \n", 3)],
    (BAD_PROMPT, {"essay_a": None}),
    (BAD_PROMPT, {"essay_b": ""}),
    (BAD_REQUEST, {"callback_url": "x"}),
    (BAD_REQUEST, {"priority": 10}),
    (BAD_REQUEST, {"ttl_seconds": 0}),
    (BAD_REQUEST, {"metadata": [1]}),
    (BAD_REQUEST, {"correlation_id": "x"}),
    *[
        (BAD_CONFIG, {"llm_config_overrides": overrides})
        for overrides in ({"provider_override": "x"}, {"top_p": 1}, [], {"temperature_override": 9.0})
    ],
]
PRECEDENCE = [MISSING, BAD_TOPIC, BAD_PROMPT, BAD_REQUEST, BAD_CONFIG]


def area_of(code: LLMErrorCode) -> LLMErrorCode:
    return BAD_TOPIC if code is MISSING else code


def spoil(*changes: Body, **fields: Any) -> Body:
    body = {**VALID, **fields}
    for change in changes:
        body |= change
    return {name: value for name, value in body.items() if value is not ABSENT}


@pytest.mark.parametrize(("code", "change"), FAULTS, ids=str)
def test_single_fault_has_its_code(code: LLMErrorCode, change: Body) -> None:
    refused = refuse(dump(spoil(change)))
    assert (refused.code, refused.status) == (code, 422)
    assert set(refused.details) == {"field"}
    assert refused.message.endswith(".")
    assert str(refused) == refused.message


@pytest.mark.parametrize(
    ("first", "second"),
    [pair for pair in combinations(FAULTS, 2) if area_of(pair[0][0]) != area_of(pair[1][0])],
    ids=lambda fault: str(fault[1]),
)
def test_more_important_of_two_faults_is_reported(
    first: tuple[LLMErrorCode, Body], second: tuple[LLMErrorCode, Body]
) -> None:
    """Topic, then prompt, then the rest of the body, then the configuration, in any order of the fields."""
    body = spoil(first[1], second[1])
    expected = min(first[0], second[0], key=PRECEDENCE.index)
    assert refuse(dump(body)).code is expected
    assert refuse(dump(dict(reversed(body.items())))).code is expected


@pytest.mark.parametrize("change", [change for _, change in FAULTS if "metadata" not in change], ids=str)
def test_too_much_metadata_is_reported_before_every_other_fault(change: Body) -> None:
    assert refuse(dump(spoil(change, metadata={"a": "x" * MAX_METADATA_BYTES}))).code is TOO_LONG


@pytest.mark.parametrize("filler", ["x", "é", "🙂", "\\n"], ids=ascii)
def test_metadata_of_16_kib_is_accepted_and_a_byte_more_is_not(filler: str) -> None:
    """The limit is in bytes of compact UTF-8 JSON, as they go onto Kafka."""
    room = MAX_METADATA_BYTES - len('{"a":""}')
    text = (filler * (room // len(filler.encode()))).encode()
    text += b"x" * (room - len(text))
    exact = b'{"a": "' + text + b'"}'
    assert len(json.dumps(json.loads(exact), ensure_ascii=False, separators=(",", ":")).encode()) == 16_384
    admit(with_raw("metadata", exact))
    refused = refuse(with_raw("metadata", exact.replace(b'"a"', b'"ab"')))
    assert (refused.code, refused.status) == (TOO_LONG, 413)
    assert refused.details == {"limit_bytes": 16_384, "size_bytes": 16_385}


def test_white_space_and_empty_metadata_do_not_count() -> None:
    admit(with_raw("metadata", b'{"a":' + b" " * 2 * MAX_METADATA_BYTES + b"1}"))
    for document in ({}, *({"metadata": metadata} for metadata in (None, {}, [], 0, ""))):
        check_metadata_size(document)


CANARY = "kvothe-7431-canary"
CANARIES = st.sampled_from([CANARY, f"\n{CANARY}", f"{CANARY}\x00", f"é{CANARY}🙂", CANARY * 20])
SECRETS = st.recursive(
    CANARIES,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=2)
        | st.dictionaries(st.just("a"), inner, min_size=1)
        | st.tuples(st.integers(), inner).map(list)
    ),
    max_leaves=4,
)
FIELDS = st.sampled_from([*LLMComparisonRequest.model_fields, "unknown"])
OVERRIDES = st.sampled_from([*LLMConfigOverrides.model_fields, "unknown"])


@given(
    values=st.dictionaries(FIELDS, SECRETS, min_size=1),
    overrides=st.none() | st.dictionaries(OVERRIDES, SECRETS, min_size=1),
    cut=st.none() | st.integers(1, 400),
)
def test_a_refusal_never_quotes_what_was_sent(values: Body, overrides: Body | None, cut: int | None) -> None:
    document = {**VALID, **values}
    if overrides is not None:
        document["llm_config_overrides"] = overrides
    body = json.dumps(document, ensure_ascii=False).encode()
    refused = try_to_admit(body if cut is None else body[:-cut])
    if isinstance(refused, Refused):
        assert CANARY[:6] not in refused.message + json.dumps(refused.details)
        assert len(refused.message) < 400


HOSTILE = st.text(min_size=1, max_size=300).filter(lambda name: name not in LLMComparisonRequest.model_fields)


@given(name=HOSTILE, nested=st.booleans())
def test_a_field_name_is_quoted_harmlessly(name: str, nested: bool) -> None:
    """A name that a caller made up is shown as short printable ASCII, so it can forge no log line."""
    change: Body = {"llm_config_overrides": {name: 1}} if nested else {name: 1}
    refused = refuse(json.dumps({**VALID, **change}).encode())
    assert refused.code is (BAD_CONFIG if nested else BAD_REQUEST)
    shown = refused.details["field"]
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) <= 83
    assert refused.message.isascii()
    assert refused.message.isprintable()


def test_unknown_and_missing_fields_are_named() -> None:
    refused = refuse(dump({**VALID, "callback_url": "x"}))
    assert refused.message == "callback_url is not a field of a comparison request; leave it out."
    assert refused.details == {"field": "callback_url"}
    assert refuse(dump({"callback_topic": "t"})).message == "user_prompt is required."
    assert refuse(dump({**VALID, "user_prompt": " "})).message == "user_prompt: must not be blank."


@given(body=st.binary(max_size=200) | st.text().map(str.encode))
def test_any_bytes_are_a_request_or_a_refusal(body: bytes) -> None:
    assert refuse(body).status == 422


@given(
    document=st.dictionaries(
        FIELDS,
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        ),
    )
)
def test_any_document_is_a_request_or_a_refusal(document: Body) -> None:
    outcome = try_to_admit(dump({**VALID, **document}))
    if isinstance(outcome, Refused):
        assert outcome.code in [TOO_LONG, *PRECEDENCE]
        assert outcome.status == (413 if outcome.code is TOO_LONG else 422)
    else:
        assert outcome.metadata == document.get("metadata", {})


DIGEST_OF_TWO_FIELDS = "6071e7aa781e8adc235db31b17e6d0ee414a17031b1744a38fbf2cd17effcbce"
SAME_BODY = b'{"a": 1, "b": [1, 2.5, "\\u00e9"], "c": {"x": null, "y": true}}'


def test_a_digest_is_the_published_hash() -> None:
    """Stored beside a key for a day, over restarts and versions: it must never change for the same body."""
    assert digest_body(parse_body(b'{"b": "\\u00e9", "a": 1}')) == DIGEST_OF_TWO_FIELDS
    assert sha256(b'{"a":1,"b":"\\u00e9"}').hexdigest() == DIGEST_OF_TWO_FIELDS


@pytest.mark.parametrize(
    "again",
    [
        b'{"c": {"y": true, "x": null}, "b": [1, 2.5, "\\u00e9"], "a": 1}',
        b' {"a":1,"b":[1,2.5,"\\u00e9"],"c":{"x":null,"y":true}}\n',
        '{"a": 1, "b": [1, 2.5, "é"], "c": {"x": null, "y": true}}'.encode(),
    ],
)
def test_same_json_has_the_same_digest(again: bytes) -> None:
    assert digest_body(parse_body(again)) == digest_body(parse_body(SAME_BODY))


@pytest.mark.parametrize(
    ("part", "other"),
    [(b"1,", b"2,"), (b"1,", b"1.0,"), (b"1,", b'"1",'), (b"[1, 2.5", b"[2.5, 1"), (b"null", b"false")],
)
def test_another_json_has_another_digest(part: bytes, other: bytes) -> None:
    changed = SAME_BODY.replace(part, other, 1)
    assert changed != SAME_BODY
    assert digest_body(parse_body(changed)) != digest_body(parse_body(SAME_BODY))


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (
            {"correlation_id": "5f0f6a9e-4f0b-4a53-8a4e-0a4f6f0d2c11"},
            UUID("5f0f6a9e-4f0b-4a53-8a4e-0a4f6f0d2c11"),
        ),
        ({"correlation_id": "x"}, None),
        ({"correlation_id": ""}, None),
        ({"correlation_id": 7}, None),
        ({"correlation_id": None}, None),
        ({"correlation_id": ["5f0f6a9e-4f0b-4a53-8a4e-0a4f6f0d2c11"]}, None),
        ({}, None),
    ],
    ids=str,
)
def test_correlation_id_is_found_in_a_wrong_body(document: Body, expected: UUID | None) -> None:
    assert read_correlation_id(document) == expected
