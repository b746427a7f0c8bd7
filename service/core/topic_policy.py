"""Which topics a caller may have its callbacks on."""

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

from service.contracts.error_codes import LLMErrorCode
from service.contracts.topics import is_legal_topic_name
from service.core.errors import Refused


class TopicPolicy:
    """Judges a topic by its name alone: legal, not internal, within the allow-list (glob patterns)."""

    def __init__(self, allowlist: Sequence[str], own_topics: Collection[str] = ()) -> None:
        self._allowlist = tuple(allowlist)
        self._own_topics = frozenset(_fold(topic) for topic in own_topics)

    def check(self, topic: str) -> None:
        """Raises `Refused` with `INVALID_CALLBACK_TOPIC`."""
        if not is_legal_topic_name(topic):
            raise _refuse(
                "callback_topic is no legal Kafka topic name: 1 to 249 letters, digits, '.', '_' or '-'.",
                None,
            )
        if topic.startswith("_") or _fold(topic) in self._own_topics:
            raise _refuse(f"callback_topic {topic} is an internal topic; name one of your own.", topic)
        if not any(fnmatchcase(topic, pattern) for pattern in self._allowlist):
            raise _refuse(
                f"callback_topic {topic} is not on the service's allow-list "
                "(LLM_PROVIDER_SERVICE_CALLBACK_TOPIC_ALLOWLIST).",
                topic,
            )


def refuse_absent(topic: str) -> Refused:
    """The refusal of a topic that does not exist."""
    return _refuse(
        f"callback_topic {topic} does not exist; create it first, for example with "
        f"`llmctl topics bootstrap {topic}`.",
        topic,
    )


def _refuse(message: str, topic: str | None) -> Refused:
    details = {"field": "callback_topic"} | ({} if topic is None else {"callback_topic": topic})
    return Refused(LLMErrorCode.INVALID_CALLBACK_TOPIC, message, details=details)


def _fold(topic: str) -> str:
    # Kafka itself takes '.' and '_' for the same where it names metrics, and warns of such twins.
    return topic.replace(".", "_")
