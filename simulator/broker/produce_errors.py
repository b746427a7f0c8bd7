"""The answers with which a Kafka broker refuses a Produce request.

Names and numbers: Kafka protocol guide, "Error Codes" (`org.apache.kafka.common.protocol.Errors`).
"""

from enum import IntEnum

MAX_ERROR_CODE = 32_767  # the code travels as a signed 16 bit number


class ProduceError(IntEnum):
    """The error codes that a Produce response can carry, by their names in the protocol guide."""

    UNKNOWN_SERVER_ERROR = -1
    CORRUPT_MESSAGE = 2
    UNKNOWN_TOPIC_OR_PARTITION = 3
    LEADER_NOT_AVAILABLE = 5
    NOT_LEADER_OR_FOLLOWER = 6
    REQUEST_TIMED_OUT = 7
    BROKER_NOT_AVAILABLE = 8
    REPLICA_NOT_AVAILABLE = 9
    MESSAGE_TOO_LARGE = 10
    NETWORK_EXCEPTION = 13
    INVALID_TOPIC_EXCEPTION = 17
    RECORD_LIST_TOO_LARGE = 18
    NOT_ENOUGH_REPLICAS = 19
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20
    INVALID_REQUIRED_ACKS = 21
    TOPIC_AUTHORIZATION_FAILED = 29
    CLUSTER_AUTHORIZATION_FAILED = 31
    INVALID_TIMESTAMP = 32
    UNSUPPORTED_VERSION = 35
    INVALID_REQUEST = 42
    UNSUPPORTED_FOR_MESSAGE_FORMAT = 43
    POLICY_VIOLATION = 44
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45
    DUPLICATE_SEQUENCE_NUMBER = 46
    INVALID_PRODUCER_EPOCH = 47
    INVALID_TXN_STATE = 48
    INVALID_PRODUCER_ID_MAPPING = 49
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53
    OPERATION_NOT_ATTEMPTED = 55
    KAFKA_STORAGE_ERROR = 56
    UNKNOWN_PRODUCER_ID = 59
    FENCED_LEADER_EPOCH = 74
    UNKNOWN_LEADER_EPOCH = 75
    UNSUPPORTED_COMPRESSION_TYPE = 76
    INVALID_RECORD = 87
    PRODUCER_FENCED = 90


def name_error(code: int) -> str:
    """The name of a Kafka error as `parse_error_code` takes it, its number where none is known here."""
    known = {error.value: error.name for error in ProduceError}
    return known.get(code, str(code))


def parse_error_code(text: str) -> int:
    """The number of a Kafka error given by name or number; ValueError if it is neither."""
    if (name := text.strip().upper()) in ProduceError.__members__:
        return ProduceError[name].value
    digits = name.removeprefix("-")
    if digits.isascii() and digits.isdigit():
        code = int(name)
        # Below -1 are librdkafka's private codes, and 0 is success: neither stands in an answer as an error.
        if code == -1 or 1 <= code <= MAX_ERROR_CODE:
            return code
    raise ValueError(
        f"{text!r} is no error that a broker answers with; give a number or a name such as "
        "NOT_LEADER_OR_FOLLOWER, MESSAGE_TOO_LARGE, TOPIC_AUTHORIZATION_FAILED"
    )
