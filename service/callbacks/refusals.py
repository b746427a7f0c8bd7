"""What a failed send means for its callback: every error of aiokafka has one verdict."""

from enum import Enum

from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidTimestampError,
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    PolicyViolationError,
    ProducerClosed,
    ProducerFenced,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    UnsupportedForMessageFormatError,
)

UNKNOWN_TOPIC = "UNKNOWN_TOPIC_OR_PARTITION"

REFUSED_FOR_GOOD: dict[type[KafkaError], str] = {
    MessageSizeTooLargeError: "MESSAGE_TOO_LARGE",
    RecordListTooLargeError: "RECORD_LIST_TOO_LARGE",
    TopicAuthorizationFailedError: "TOPIC_AUTHORIZATION_FAILED",
    InvalidTopicError: "INVALID_TOPIC_EXCEPTION",
    InvalidTimestampError: "INVALID_TIMESTAMP",
    UnsupportedForMessageFormatError: "UNSUPPORTED_FOR_MESSAGE_FORMAT",
    PolicyViolationError: "POLICY_VIOLATION",
    UnknownTopicOrPartitionError: UNKNOWN_TOPIC,
}
"""Errors that the same record will meet again, by the names that Kafka's protocol gives them."""

NOT_APPENDED: tuple[type[KafkaError], ...] = (
    ClusterAuthorizationFailedError,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    ProducerFenced,
)
"""Errors about the producer, not about the record: the broker appended nothing."""


class Verdict(Enum):
    """What a failed send means."""

    REFUSED = "refused"
    """The broker will not take this record."""
    NOT_APPENDED = "not appended"
    """It does not stand on its topic and may be sent again."""
    UNCERTAIN = "uncertain"
    """It may stand on its topic."""


def judge(error: KafkaError) -> Verdict:
    """The verdict on a send that was on its way; what is not known to be harmless is uncertain."""
    if type(error) in REFUSED_FOR_GOOD:
        return Verdict.REFUSED
    return Verdict.NOT_APPENDED if isinstance(error, NOT_APPENDED) else Verdict.UNCERTAIN


def name_refusal(error: KafkaError) -> str:
    """Kafka's name of a refusal."""
    return REFUSED_FOR_GOOD[type(error)]
