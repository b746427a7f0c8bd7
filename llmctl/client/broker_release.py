"""What a broker tells of its release: the features and the calls that it knows.

No call of the protocol names the release. A broker in KRaft mode says which levels of `metadata.version` it
knows (KIP-584), and each release brought new ones; any other says only which calls it takes.
ApiVersions version 3: https://kafka.apache.org/protocol#The_Messages_ApiVersions
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from io import BytesIO
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.api import Request, RequestStruct, Response, ResponseHeader_v0
from aiokafka.protocol.types import CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

from llmctl.client.kafka import CONNECT_LIMIT_SECONDS, ask, client_options, close, connect
from simulator.kafka_address import KafkaAddress

METADATA_VERSION = "metadata.version"
_API_VERSIONS = 18
_SUPPORTED_FEATURES, _FINALIZED_FEATURES = 0, 2  # tags

_RELEASE_OF_LEVEL = (
    (1, "3.0"), (2, "3.1"), (3, "3.2"), (4, "3.3"), (8, "3.4"), (9, "3.5"), (12, "3.6"), (15, "3.7"),
    (20, "3.8"), (21, "3.9"), (22, "4.0"), (26, "4.1"), (28, "4.2"), (30, "4.3"), (31, "4.4"),
)  # fmt: skip
"""The first level of each release, from `org.apache.kafka.server.common.MetadataVersion`."""
_LAST_KNOWN_LEVEL = 33
_RELEASE_OF_CALL = ((65, "3.0"), (60, "2.8"), (50, "2.7"), (48, "2.6"), (45, "2.4"))
"""Which release brought a call, the newest first: DescribeTransactions, DescribeCluster, …"""


@dataclass(frozen=True)
class BrokerApi:
    """What one broker says that it can do."""

    calls: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """Number of a call → the lowest and the highest version of it."""
    known_level: int | None = None
    """The highest `metadata.version` that this broker knows; None where it knows nothing of it."""
    used_level: int | None = None
    """The one that the cluster has agreed on."""


class _Answer(Response):  # type: ignore[misc]  # aiokafka is not typed
    API_KEY = _API_VERSIONS
    API_VERSION = 3
    SCHEMA = Schema(
        ("error_code", Int16),
        (
            "calls",
            CompactArray(("key", Int16), ("lowest", Int16), ("highest", Int16), ("tags", TaggedFields)),
        ),
        ("throttle_milliseconds", Int32),
        ("tags", TaggedFields),
    )


class _Question(RequestStruct):  # type: ignore[misc]
    API_KEY = _API_VERSIONS
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(("software", CompactString()), ("release", CompactString()), ("tags", TaggedFields))

    def parse_response_header(self, read_buffer: BytesIO | bytes) -> Any:
        """Of this one call the answer's header has no tags: it must be readable whatever the version."""
        return ResponseHeader_v0.decode(read_buffer)


class _ApiVersions(Request[_Question]):  # type: ignore[misc]
    API_KEY = _API_VERSIONS

    def build(self, request_struct_class: type[_Question]) -> _Question:
        """The question, with who asks it."""
        return request_struct_class("llmctl", version("llmctl"), {})


async def read_broker_api(kafka: KafkaAddress) -> BrokerApi:
    """What the first broker that answers can do; Unreachable where none does, Failed where it refuses."""
    client = AIOKafkaClient(**client_options(kafka), request_timeout_ms=int(CONNECT_LIMIT_SECONDS * 1000))
    try:
        await connect(client.bootstrap(), kafka)
        return await ask(_ask_versions(client), kafka)  # type: ignore[no-any-return]
    finally:
        await close(client.close())


async def _ask_versions(client: AIOKafkaClient) -> BrokerApi:
    try:
        answer = await client.send(client.get_random_node(), _ApiVersions())
    except NotImplementedError:  # it knows older versions of this call alone
        return BrokerApi()
    return _read(answer)


def _read(answer: Any) -> BrokerApi:
    supported = _read_features(answer.tags.get(_SUPPORTED_FEATURES))
    finalized = _read_features(answer.tags.get(_FINALIZED_FEATURES))
    return BrokerApi(
        calls={key: (lowest, highest) for key, lowest, highest, _ in answer.calls},
        known_level=max(supported[METADATA_VERSION], default=None) if METADATA_VERSION in supported else None,
        used_level=max(finalized[METADATA_VERSION], default=None) if METADATA_VERSION in finalized else None,
    )


def _read_features(raw: bytes | None) -> dict[str, tuple[int, int]]:
    """By name the two levels that are told of it; their order differs from tag to tag."""
    if raw is None:
        return {}
    told = CompactArray(
        ("name", CompactString()), ("one", Int16), ("other", Int16), ("tags", TaggedFields)
    ).decode(BytesIO(raw))
    return {name: (one, other) for name, one, other, _ in told or ()}


def describe_release(api: BrokerApi) -> str:
    """The release as far as it can be known, in a sentence's part."""
    if api.known_level is None:
        newest = next((release for call, release in _RELEASE_OF_CALL if call in api.calls), None)
        if newest is None:
            return "its release is not told; it speaks an older protocol than Kafka 2.4"
        return f"its release is not told; it speaks the protocol of Kafka {newest} or later"
    said = f"Kafka {_name_release(api.known_level)} (it knows {METADATA_VERSION} {api.known_level}"
    if api.used_level is None:
        return f"{said})"
    if api.used_level == api.known_level:
        return f"{said}, which the cluster uses)"
    return f"{said}; the cluster uses {api.used_level}, that of {_name_release(api.used_level)})"


def _name_release(level: int) -> str:
    if level > _LAST_KNOWN_LEVEL:
        return f"after {_RELEASE_OF_LEVEL[-1][1]}"
    return next((name for first, name in reversed(_RELEASE_OF_LEVEL) if level >= first), "before 3.0")
