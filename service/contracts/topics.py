"""Topics and identities on Kafka: which names are legal, where events go, how an event is known again."""

import re
from uuid import NAMESPACE_URL, UUID, uuid5

from service.contracts.enums import ProcessingEvent

SOURCE_SERVICE = "llm_provider_service"

TOPIC_OF_EVENT: dict[ProcessingEvent, str] = {
    ProcessingEvent.LLM_COMPARISON_RESULT: "huleedu.llm_provider.comparison_result.v1",
    ProcessingEvent.LLM_USAGE: "huleedu.llm_provider.usage.v1",
}

PLATFORM_TOPICS: tuple[str, ...] = (TOPIC_OF_EVENT[ProcessingEvent.LLM_COMPARISON_RESULT],)
"""What `llmctl topics bootstrap` creates where no topic is named."""

REQUEST_TOPIC = "llm_provider.requests"
DEAD_LETTER_TOPIC = "llm_provider.dead_letters"
REQUEST_GROUP = "llm_provider_service"
"""Where the Kafka queue stands unless its settings say otherwise."""


def name_journal(request_topic: str) -> str:
    """The topic that tells what became of the requests on `request_topic`."""
    return f"{request_topic}.journal"


def name_memory(request_topic: str) -> str:
    """The topic of what all replicas that share `request_topic` remember together."""
    return f"{request_topic}.memory"


MAX_TOPIC_CHARACTERS = 249
_LEGAL_TOPIC_NAME = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_TOPIC_CHARACTERS}}}", re.ASCII)


def is_legal_topic_name(name: str) -> bool:
    """Whether Kafka accepts `name` for a topic (the rule of `org.apache.kafka.common.internals.Topic`)."""
    return _LEGAL_TOPIC_NAME.fullmatch(name) is not None and name not in {".", ".."}


def derive_event_id(queue_id: str, event: ProcessingEvent = ProcessingEvent.LLM_COMPARISON_RESULT) -> UUID:
    """The identity of the one event of a kind that tells of `queue_id`, the same after every crash."""
    return uuid5(NAMESPACE_URL, f"{event.value}:{queue_id}")
