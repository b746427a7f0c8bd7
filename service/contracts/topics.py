"""Topics and identities on Kafka: which names are legal, where events go, how an event is known again."""

import re
from uuid import NAMESPACE_URL, UUID, uuid5

from service.contracts.enums import ProcessingEvent

SOURCE_SERVICE = "llm_provider_service"

TOPIC_OF_EVENT: dict[ProcessingEvent, str] = {
    ProcessingEvent.LLM_COMPARISON_RESULT: "huleedu.llm_provider.comparison_result.v1",
}

PLATFORM_TOPICS: tuple[str, ...] = tuple(TOPIC_OF_EVENT.values())
"""What `llmctl topics bootstrap` creates where no topic is named."""

_LEGAL_TOPIC_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}", re.ASCII)


def is_legal_topic_name(name: str) -> bool:
    """Whether Kafka accepts `name` for a topic (the rule of `org.apache.kafka.common.internals.Topic`)."""
    return _LEGAL_TOPIC_NAME.fullmatch(name) is not None and name not in {".", ".."}


def derive_event_id(queue_id: str, event: ProcessingEvent = ProcessingEvent.LLM_COMPARISON_RESULT) -> UUID:
    """The identity of the one event that answers `queue_id`, the same after every crash."""
    return uuid5(NAMESPACE_URL, f"{event.value}:{queue_id}")
