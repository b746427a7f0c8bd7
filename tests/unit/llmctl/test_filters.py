"""`--where` selects the records it describes, and refuses what it does not understand."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.filters import FilterProblem, RecordView, parse_filter

VIEW = RecordView(
    texts={
        "status": "error",
        "provider": "openai",
        "model": "gpt-4o-mini",
        "winner": None,
        "error": "LLM_PROVIDER_TIMEOUT",
        "topic": "team-a.results",
        "request_id": "7f3a",
        "correlation_id": "c0ffee",
    },
    numbers={"confidence": None, "cost": 0.002, "tokens": 900, "e2e": 5.5},
    metadata={"pair_id": "p-07", "round": 3, "final": True, "a.b": "x"},
    read_text=lambda: 'topic team-a.results {"trace": "Trace 9F3", "said": "a \\"quoted\\" word"}',
)


@pytest.mark.parametrize(
    "text",
    [
        *("", "  ", "status:error", "status:ERROR provider:openai", 'model:"gpt-4o-mini"', "tokens:900"),
        *("error:~timeout$", "topic:~^team-a", "model:~4o", "tokens:~^9", "meta.pair_id:~^p"),
        *("tokens>=900 tokens<=900", "cost<0.01", "e2e>5s e2e<10m e2e>=5500ms"),
        *("meta.pair_id:p-07", "meta.round>2", "meta.round:3", "meta.final:true", "meta.a.b:x"),
        *("-status:success", "-winner:essay_a", "-confidence>0.1", "-meta.other:x"),
        *('"trace 9f3"', '-"trace 9f4"', r'"\"quoted\\"'),
    ],
)
def test_a_filter_that_holds_matches(text: str) -> None:
    assert parse_filter(text).matches(VIEW)


@pytest.mark.parametrize(
    "text",
    [
        *("status:success", "status:error provider:google", "status:err", "error:~^timeout", "-status:error"),
        *("winner:essay_a", "winner:~.", "confidence>0", "confidence<1"),  # the record has neither
        *("tokens>900", "e2e<5s", "meta.other:x", "meta.pair_id>1", "meta.final>0", '"trace 9f4"'),
    ],
)
def test_a_filter_that_does_not_hold_matches_nothing(text: str) -> None:
    assert not parse_filter(text).matches(VIEW)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("stauts:error", "near it are status"),
        ("zzz:1", "there are status, provider"),
        ("meta.:1", "is no field"),
        ("error", "search everywhere"),
        ("status>5", "status is a text"),
        ("tokens>many", "compared with a number"),
        ("e2e>5", "a duration such as 5s"),
        ("error:~[", "no regular expression"),
        ('"open', "cannot be read"),
        ("status:", "is no term"),
        ("status:a status:", "is no term"),
        ("--status:error", "cannot be read|no term"),
        ('status:"a"b', "is no term"),
    ],
)
def test_refuses_with_a_hint(text: str, hint: str) -> None:
    with pytest.raises(FilterProblem, match=hint):
        parse_filter(text)


@given(st.text(max_size=60))
def test_never_breaks(text: str) -> None:
    try:
        found: Any = parse_filter(text)
    except FilterProblem:
        return
    assert found.matches(VIEW) in {True, False}
