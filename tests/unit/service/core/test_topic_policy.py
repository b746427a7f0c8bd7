"""Which topics a caller may name: legal, not internal, on the allow-list."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import Refused
from service.core.topic_policy import TopicPolicy, refuse_absent


def refuse(policy: TopicPolicy, topic: str) -> Refused:
    """The refusal of a topic that must be refused."""
    with pytest.raises(Refused) as refused:
        policy.check(topic)
    assert (refused.value.code, refused.value.status) == (LLMErrorCode.INVALID_CALLBACK_TOPIC, 422)
    assert refused.value.details["field"] == "callback_topic"
    return refused.value


ILLEGAL = [
    "",
    " ",
    ".",
    "..",
    "x" * 250,
    "x" * 100_000,
    "a b",
    " a",
    "a ",
    "a\n",
    "\na",
    "a\r\nforged log line",
    "a\tb",
    "a\x00",
    "a\x1b[31m",
    "a/b",
    "../etc/passwd",
    "a\\b",
    "a:b",
    "a;b",
    "a,b",
    "a|b",
    "a*",
    "*",
    "a?",
    "a[b]",
    "a(b)",
    "a{b}",
    "a<b>",
    "a@b",
    "a#b",
    "a%20b",
    "a&b",
    "a=b",
    "a+b",
    "a'b",
    'a"b',
    "a`b",
    "a~b",
    "a^b",
    "a$b",
    "a!b",
    "résultats",
    "\u0442opic",
    "t\u0663",
    "t\uff13",
    "a\u00a0b",
    "a\u200bb",
    "a\u202eb",
    "🙂",
]


@pytest.mark.parametrize("topic", ILLEGAL, ids=lambda topic: ascii(topic[:20]))
def test_an_illegal_name_is_refused_unquoted(topic: str) -> None:
    """Kafka would refuse it when the answer is there; it is not repeated, whatever it holds."""
    refused = refuse(TopicPolicy(["*"]), topic)
    assert refused.details == {"field": "callback_topic"}
    assert refused.message.startswith("callback_topic is no legal Kafka topic name")
    assert len(refused.message) < 200


@pytest.mark.parametrize("topic", ["_internal", "__consumer_offsets", "__transaction_state", "_", "_.x"])
def test_an_internal_topic_is_refused_whatever_the_list_says(topic: str) -> None:
    """A leading underscore is never a caller's."""
    for allowlist in (["*"], ["_*"], [topic]):
        assert "internal" in refuse(TopicPolicy(allowlist), topic).message


@pytest.mark.parametrize("topic", ["llm.requests.v1", "llm_requests_v1", "llm.requests_v1"])
def test_the_services_own_topics_are_refused(topic: str) -> None:
    """Also by their twin names, which Kafka cannot tell apart in its metrics."""
    policy = TopicPolicy(["*"], own_topics=["llm.requests.v1"])
    assert refuse(policy, topic).details["callback_topic"] == topic
    policy.check("llm.requests.v2")


@pytest.mark.parametrize(
    ("allowlist", "topic", "allowed"),
    [
        (["*"], "anything", True),
        (["results.*"], "results.one", True),
        (["results.*"], "results.", True),
        (["results.*"], "results", False),
        (["results.*"], "Results.one", False),
        (["results.*"], "my.results.one", False),
        (["team-?"], "team-a", True),
        (["team-?"], "team-ab", False),
        (["team-[ab]"], "team-b", True),
        (["team-[ab]"], "team-c", False),
        (["exact"], "exact", True),
        (["exact"], "exactly", False),
        (["one", "two.*"], "two.x", True),
        (["one", "two.*"], "three", False),
        ([], "anything", False),
    ],
)
def test_the_allow_list_decides(allowlist: list[str], topic: str, allowed: bool) -> None:
    """Glob patterns over the whole name, case included; an empty list allows nothing."""
    policy = TopicPolicy(allowlist)
    if allowed:
        policy.check(topic)
    else:
        refused = refuse(policy, topic)
        assert "allow-list" in refused.message
        assert refused.details["callback_topic"] == topic


def test_the_longest_name_is_allowed() -> None:
    """249 characters, as in Kafka."""
    TopicPolicy(["*"]).check("x" * 249)


def test_an_absent_topic_is_refused_with_what_to_do() -> None:
    """The caller learns which command creates it."""
    refused = refuse_absent("results.new")
    assert (refused.code, refused.status) == (LLMErrorCode.INVALID_CALLBACK_TOPIC, 422)
    assert refused.details == {"field": "callback_topic", "callback_topic": "results.new"}
    assert "llmctl topics bootstrap results.new" in refused.message


@settings(deadline=None, max_examples=100)
@given(topic=st.text())
def test_any_name_is_allowed_or_refused_harmlessly(topic: str) -> None:
    """A refusal is one printable ASCII line, and what passes is plain."""
    try:
        TopicPolicy(["*"]).check(topic)
    except Refused as refused:
        told = refused.message
    else:
        told = topic
    assert told.isascii()
    assert told.isprintable()
