"""Which topics a caller may name: legal, not internal, on the allow-list."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import Refused
from service.core.topic_policy import TopicPolicy, refuse_absent


def refuse(policy: TopicPolicy, topic: str) -> Refused:
    with pytest.raises(Refused) as refused:
        policy.check(topic)
    assert (refused.value.code, refused.value.status) == (LLMErrorCode.INVALID_CALLBACK_TOPIC, 422)
    assert refused.value.details["field"] == "callback_topic"
    return refused.value


ILLEGAL = [
    "", "..", "x" * 100_000, "a\r\nforged log line", "a\x1b[31m", "../etc/passwd", "a\u202eb",
    "\u0442opic", "🙂",
]  # fmt: skip


@pytest.mark.parametrize("topic", ILLEGAL, ids=lambda topic: ascii(topic[:20]))
def test_illegal_name_is_refused_and_not_quoted(topic: str) -> None:
    refused = refuse(TopicPolicy(["*"]), topic)
    assert refused.details == {"field": "callback_topic"}
    assert refused.message.startswith("callback_topic is no legal Kafka topic name")
    assert len(refused.message) < 200


@pytest.mark.parametrize("topic", ["_internal", "__consumer_offsets", "__transaction_state", "_", "_.x"])
def test_internal_topic_is_refused_despite_the_allow_list(topic: str) -> None:
    for allowlist in (["*"], ["_*"], [topic]):
        assert "internal" in refuse(TopicPolicy(allowlist), topic).message


@pytest.mark.parametrize("topic", ["llm.requests.v1", "llm_requests_v1", "llm.requests_v1"])
def test_own_topics_are_refused(topic: str) -> None:
    """Also their twin names, which Kafka cannot tell apart in its metrics."""
    policy = TopicPolicy(["*"], own_topics=["llm.requests.v1"])
    assert refuse(policy, topic).details["callback_topic"] == topic
    policy.check("llm.requests.v2")


@pytest.mark.parametrize(
    ("allowlist", "topic", "allowed"),
    [
        (["*"], "x" * 249, True),
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
def test_allow_list_decides(allowlist: list[str], topic: str, allowed: bool) -> None:
    """Glob patterns over the whole name, case included; an empty list allows nothing."""
    policy = TopicPolicy(allowlist)
    if allowed:
        policy.check(topic)
    else:
        refused = refuse(policy, topic)
        assert "allow-list" in refused.message
        assert refused.details["callback_topic"] == topic


def test_absent_topic_is_refused_with_the_command_that_creates_it() -> None:
    refused = refuse_absent("results.new")
    assert (refused.code, refused.status) == (LLMErrorCode.INVALID_CALLBACK_TOPIC, 422)
    assert refused.details == {"field": "callback_topic", "callback_topic": "results.new"}
    assert "llmctl topics bootstrap results.new" in refused.message


@given(topic=st.text())
def test_refusal_of_any_name_is_one_printable_ascii_line(topic: str) -> None:
    try:
        TopicPolicy(["*"]).check(topic)
    except Refused as refused:
        told = refused.message
    else:
        told = topic
    assert told.isascii()
    assert told.isprintable()
