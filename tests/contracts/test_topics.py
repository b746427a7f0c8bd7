"""Topic names and the identity of events."""

from uuid import UUID, uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.contracts.enums import ProcessingEvent
from service.contracts.topics import (
    PLATFORM_TOPICS,
    SOURCE_SERVICE,
    TOPIC_OF_EVENT,
    derive_event_id,
    is_legal_topic_name,
)


def test_every_event_has_its_published_topic() -> None:
    """The mapping is complete and says what others were told."""
    assert set(TOPIC_OF_EVENT) == set(ProcessingEvent)
    assert (
        TOPIC_OF_EVENT[ProcessingEvent.LLM_COMPARISON_RESULT] == "huleedu.llm_provider.comparison_result.v1"
    )
    assert PLATFORM_TOPICS == ("huleedu.llm_provider.comparison_result.v1",)
    assert all(is_legal_topic_name(topic) for topic in PLATFORM_TOPICS)
    assert SOURCE_SERVICE == "llm_provider_service"


def test_an_event_id_is_the_published_uuid_of_its_request() -> None:
    """Anyone can compute the identity of an answer from the queue id alone."""
    queue_id = "0b9f1c62-6a51-4f0e-9d0a-3d9d1f6a7b10"
    assert derive_event_id(queue_id) == uuid5(
        UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8"),
        "llm_provider.comparison_result:0b9f1c62-6a51-4f0e-9d0a-3d9d1f6a7b10",
    )
    assert derive_event_id(queue_id) == UUID("d08ba9c5-6b8a-53ed-9501-edbd4b1c865e")


@settings(deadline=None, max_examples=50)
@given(first=st.uuids(), second=st.uuids())
def test_an_event_id_is_stable_and_its_own(first: UUID, second: UUID) -> None:
    """The same request always gives the same identity; another request another one."""
    assert derive_event_id(str(first)) == derive_event_id(str(first))
    assert (derive_event_id(str(first)) == derive_event_id(str(second))) == (first == second)
    assert derive_event_id(str(first)).version == 5


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "results",
        "huleedu.llm_provider.comparison_result.v1",
        "UPPER-lower_0.9",
        "...",
        ".hidden",
        "-",
        "_internal",
        "x" * 249,
    ],
    ids=lambda name: name[:45],
)
def test_a_topic_may_be_named(name: str) -> None:
    """Whatever Kafka takes is taken; that a name is internal is no matter of spelling."""
    assert is_legal_topic_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "x" * 250,
        "a/b",
        "a b",
        " a",
        "a ",
        "a\n",
        "\na",
        "a\r\n",
        "a\x00",
        "a\tb",
        "a:b",
        "a,b",
        "a*",
        "a\\b",
        "a@b",
        "resultats.é",
        "t\u0663",
        "t\uff13",
        "\u0442opic",
        "a\u200b",
        "🙂",
    ],
    ids=lambda name: ascii(name)[:30],
)
def test_a_topic_must_not_be_named(name: str) -> None:
    """Whatever Kafka refuses is refused at the door, not when the answer is there."""
    assert not is_legal_topic_name(name)
