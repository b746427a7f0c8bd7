"""Topic names and the identity of events."""

from uuid import UUID, uuid5

from service.contracts.enums import ProcessingEvent
from service.contracts.topics import (
    PLATFORM_TOPICS,
    SOURCE_SERVICE,
    TOPIC_OF_EVENT,
    derive_event_id,
    is_legal_topic_name,
)


def test_every_event_has_its_published_topic() -> None:
    assert set(TOPIC_OF_EVENT) == set(ProcessingEvent)
    assert (
        TOPIC_OF_EVENT[ProcessingEvent.LLM_COMPARISON_RESULT] == "huleedu.llm_provider.comparison_result.v1"
    )
    assert PLATFORM_TOPICS == ("huleedu.llm_provider.comparison_result.v1",)
    assert all(is_legal_topic_name(topic) for topic in PLATFORM_TOPICS)
    assert SOURCE_SERVICE == "llm_provider_service"


def test_an_event_id_is_the_published_uuid_of_its_request() -> None:
    queue_id = "0b9f1c62-6a51-4f0e-9d0a-3d9d1f6a7b10"
    assert derive_event_id(queue_id) == uuid5(
        UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8"),
        "llm_provider.comparison_result:0b9f1c62-6a51-4f0e-9d0a-3d9d1f6a7b10",
    )
    assert derive_event_id(queue_id) == UUID("d08ba9c5-6b8a-53ed-9501-edbd4b1c865e")


def test_names_that_kafka_accepts_are_legal() -> None:
    for name in (
        "a", "results", "huleedu.llm_provider.comparison_result.v1", "UPPER-lower_0.9", "...", ".hidden",
        "-", "_internal", "x" * 249,
    ):  # fmt: skip
        assert is_legal_topic_name(name), name


def test_names_that_kafka_refuses_are_not_legal() -> None:
    for name in (
        "", ".", "..", "x" * 250, "a/b", "a b", " a", "a ", "a\n", "\na", "a\r\n", "a\x00", "a\tb", "a:b",
        "a,b", "a*", "a\\b", "a@b", "resultats.é", "t\u0663", "t\uff13", "\u0442opic", "a\u200b", "🙂",
        *(f"a{character}b" for character in ";|?[](){}<>#%&=+'`~^$!\"\x1b\u00a0\u202e"),
    ):  # fmt: skip
        assert not is_legal_topic_name(name), name
