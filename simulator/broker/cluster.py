"""librdkafka's mock cluster, reached through the shared library that confluent-kafka already loads.

The interface is `rdkafka_mock.h` of librdkafka, which calls itself experimental. What that broker leaves out,
and the header has no knob for:

- nothing outlives the process, and CreateTopics over the wire is unknown;
- a partition keeps about 5 MiB (or 100,000 batches) and drops the oldest without a word;
- sequences are not checked for producers without a transactional id: a batch that is sent again, because its
  answer was lost, stands on the topic twice;
- asking for the metadata of one unknown topic creates it with 4 partitions, unless the client forbids that;
- a fetch that waits is not woken by new data, so consumers should wait short (50 ms);
- a consumer group that lost a member takes the next one only after the session timeout less a second;
- it never throttles: `throttle_time_ms` is a literal 0 in every answer (rdkafka_mock_handlers.c), and
  `rd_kafka_mock_broker_push_request_error_rtts` only delays one, as `Relay.delay_answers` does.

A topic's error (`rd_kafka_mock_topic_set_error`) stands in metadata alone; Produce, Fetch and ListOffsets are
carried out as before for whoever still knows the leader. Measured with aiokafka 0.14:

- `fetch_all_metadata` leaves the topic out, whatever the error; TOPIC_AUTHORIZATION_FAILED also puts it among
  the `unauthorized_topics`. librdkafka lists it with its error, and with no partitions for
  UNKNOWN_TOPIC_OR_PARTITION;
- a producer that knows the topic goes on writing to it until it refreshes its metadata (5 min by default);
- any other `send` raises TopicAuthorizationFailedError at once for TOPIC_AUTHORIZATION_FAILED, and for every
  other error, INVALID_TOPIC_EXCEPTION too, UnknownTopicOrPartitionError after `request_timeout_ms`;
- a consumer waits without an error, and `end_offsets` ends in KafkaTimeoutError;
- without the error the records are there as before, and the next `send` is acknowledged.

An answer to Produce itself that refuses it comes from `push_error`.
"""

from __future__ import annotations

import ctypes
from ctypes import c_char_p, c_int, c_int16, c_int32, c_size_t, c_void_p
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException, cimpl
from confluent_kafka.admin import AdminClient

from simulator.broker.errors import BrokerError, BrokerUnsupported
from simulator.broker.topic import TopicSpec

PRODUCE_API_KEY = 0
ALL_BROKERS = -1
FIRST_BROKER = 1
GROUP_REBALANCE_DELAY_MS = (
    100  # the mock's own 3000 would make every first consumer of a group wait that long
)
METADATA_TIMEOUT_SECONDS = 5.0

_PRODUCER = 0
_ERROR_TEXT_BYTES = 512
_TOPIC_ALREADY_EXISTS = 36

_SIGNATURES: dict[str, tuple[type | None, list[type]]] = {
    "rd_kafka_conf_new": (c_void_p, []),
    "rd_kafka_conf_set": (c_int, [c_void_p, c_char_p, c_char_p, c_char_p, c_size_t]),
    "rd_kafka_conf_destroy": (None, [c_void_p]),
    "rd_kafka_new": (c_void_p, [c_int, c_void_p, c_char_p, c_size_t]),
    "rd_kafka_destroy": (None, [c_void_p]),
    "rd_kafka_err2str": (c_char_p, [c_int]),
    "rd_kafka_mock_cluster_new": (c_void_p, [c_void_p, c_int]),
    "rd_kafka_mock_cluster_destroy": (None, [c_void_p]),
    "rd_kafka_mock_cluster_bootstraps": (c_char_p, [c_void_p]),
    "rd_kafka_mock_set_controller_id": (None, [c_void_p, c_int32]),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [c_void_p, c_int32]),
    "rd_kafka_mock_broker_set_host_port": (None, [c_void_p, c_int32, c_char_p, c_int]),
    "rd_kafka_mock_broker_set_down": (c_int, [c_void_p, c_int32]),
    "rd_kafka_mock_broker_set_up": (c_int, [c_void_p, c_int32]),
    "rd_kafka_mock_broker_set_rtt": (c_int, [c_void_p, c_int32, c_int]),
    "rd_kafka_mock_topic_set_error": (None, [c_void_p, c_char_p, c_int]),
    "rd_kafka_mock_topic_create": (c_int, [c_void_p, c_char_p, c_int, c_int]),
    "rd_kafka_mock_push_request_errors_array": (None, [c_void_p, c_int16, c_size_t, ctypes.POINTER(c_int)]),
}


def load_library(path: str = cimpl.__file__) -> ctypes.CDLL:
    """Open the librdkafka that the extension module at `path` links, with every signature declared.

    Looking a symbol up in the extension's handle also searches what it links (dlsym(3)), so the bundled
    library is found wherever the wheel or the system put it. BrokerUnsupported where a symbol is missing.
    """
    try:
        library = ctypes.CDLL(path)
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype = result
            function.argtypes = arguments
    except (OSError, AttributeError) as error:
        raise BrokerUnsupported(
            f"The embedded broker needs a confluent-kafka that contains librdkafka's mock cluster ({error}); "
            "install the wheel from PyPI, or use your own Kafka with --bootstrap-servers."
        ) from error
    return library


class MockCluster:
    """A running mock Kafka cluster in this process, on threads of its own; also a context manager."""

    def __init__(self, library: ctypes.CDLL, client: int, cluster: int, brokers: int) -> None:
        self._library = library
        self._client = client
        self._cluster: int | None = cluster
        self._brokers = brokers
        self._topic_errors: dict[str, tuple[TopicSpec, int]] = {}
        # Read now: advertising another address later also changes the port that the library reports.
        first = library.rd_kafka_mock_cluster_bootstraps(cluster).decode().split(",")[0]
        self.bootstrap_port = int(first.rpartition(":")[2])

    @classmethod
    def create(cls, brokers: int = 1) -> Self:
        """Start a cluster of `brokers` brokers on random loopback ports."""
        library = load_library()
        client = _open_client(library)
        cluster = library.rd_kafka_mock_cluster_new(client, brokers)
        if not cluster:
            library.rd_kafka_destroy(client)
            raise BrokerError(
                f"librdkafka could not start a mock cluster of {brokers} brokers; see its log above."
            )
        library.rd_kafka_mock_set_controller_id(cluster, FIRST_BROKER)
        library.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, GROUP_REBALANCE_DELAY_MS)
        return cls(library, client, cluster, brokers)

    def advertise(self, host: str, port: int, broker: int = FIRST_BROKER) -> None:
        """Tell clients that `broker` is reached at this address instead of at its own listener."""
        self._library.rd_kafka_mock_broker_set_host_port(self._handle(), broker, host.encode(), port)

    def create_topic(self, name: str, partitions: int) -> None:
        """Create a topic, replicated on every broker; BrokerError if it exists."""
        code = self._library.rd_kafka_mock_topic_create(
            self._handle(), name.encode(), partitions, self._brokers
        )
        if code == _TOPIC_ALREADY_EXISTS:
            raise BrokerError(f"Topic {name!r} already exists; its partitions cannot be changed.")
        self._check(code, f"create topic {name!r}")

    def topics(self, timeout_seconds: float = METADATA_TIMEOUT_SECONDS) -> tuple[TopicSpec, ...]:
        """Every topic with its partitions, by name; blocks for up to `timeout_seconds`."""
        self._handle()
        # The header has no list: ask over the wire, past any relay, and for all topics, which creates none.
        asking = AdminClient({"bootstrap.servers": f"127.0.0.1:{self.bootstrap_port}", "log_level": 2})
        try:
            found = asking.list_topics(timeout=timeout_seconds).topics
        except KafkaException as error:
            raise BrokerError(
                f"The mock cluster did not list its topics in {timeout_seconds:g} s."
            ) from error
        return tuple(
            # Metadata may hide the partitions of a topic that has an error.
            self._topic_errors[name][0]
            if name in self._topic_errors
            else TopicSpec(name, len(found[name].partitions))
            for name in sorted(found)
        )

    @property
    def topic_errors(self) -> dict[str, int]:
        """The topics that have an error, and its code."""
        return {name: code for name, (_, code) in self._topic_errors.items()}

    def set_topic_error(self, name: str, code: int) -> None:
        """Show a topic in metadata with this Kafka error, 0 for none; BrokerError if it does not exist."""
        # The library would create a topic that does not exist.
        topic = next((topic for topic in self.topics() if topic.name == name), None)
        if topic is None:
            raise BrokerError(f"There is no topic {name!r}; create it first.")
        self._library.rd_kafka_mock_topic_set_error(self._handle(), name.encode(), code)
        if code:
            self._topic_errors[name] = (topic, code)
        else:
            self._topic_errors.pop(name, None)

    def set_down(self) -> None:
        """Cut every connection and take none until `set_up`."""
        self._check(self._library.rd_kafka_mock_broker_set_down(self._handle(), ALL_BROKERS), "go down")

    def set_up(self) -> None:
        """Take connections again."""
        self._check(self._library.rd_kafka_mock_broker_set_up(self._handle(), ALL_BROKERS), "come up")

    def set_rtt_ms(self, milliseconds: int) -> None:
        """Answer every request this much later; 0 ends it."""
        code = self._library.rd_kafka_mock_broker_set_rtt(self._handle(), ALL_BROKERS, milliseconds)
        self._check(code, "set its round-trip time")

    def push_error(self, api_key: int, *codes: int) -> None:
        """Answer the next requests of this kind with these Kafka errors, one each, in this order."""
        errors = (c_int * len(codes))(*codes)
        self._library.rd_kafka_mock_push_request_errors_array(self._handle(), api_key, len(codes), errors)

    def close(self) -> None:
        """Stop the cluster and forget everything it held; closing again does nothing."""
        if self._cluster is None:
            return
        cluster, self._cluster = self._cluster, None
        self._library.rd_kafka_mock_cluster_destroy(cluster)
        self._library.rd_kafka_destroy(self._client)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _handle(self) -> int:
        # A freed handle given to the library would crash the process instead of raising.
        if self._cluster is None:
            raise BrokerError("The mock cluster is closed; create another one.")
        return self._cluster

    def _check(self, code: int, attempt: str) -> None:
        if code:
            reason = self._library.rd_kafka_err2str(code).decode()
            raise BrokerError(f"The mock cluster could not {attempt}: {reason}.")


def _open_client(library: ctypes.CDLL) -> int:
    """The client handle that librdkafka wants as the owner of a mock cluster; it never connects anywhere."""
    text = ctypes.create_string_buffer(_ERROR_TEXT_BYTES)
    settings = library.rd_kafka_conf_new()
    # Level 3 keeps real errors and leaves out the notice that this client has no bootstrap servers.
    failed = library.rd_kafka_conf_set(settings, b"log_level", b"3", text, len(text))
    client = None if failed else library.rd_kafka_new(_PRODUCER, settings, text, len(text))
    if not client:
        library.rd_kafka_conf_destroy(settings)
        raise BrokerError(f"librdkafka could not start: {text.value.decode()}.")
    return int(client)
