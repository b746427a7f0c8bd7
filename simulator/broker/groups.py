"""What librdkafka's mock cluster lacks in consumer groups of more than one member.

A follower whose SyncGroup comes after its leader's is refused there (INVALID_REQUEST), where a real broker
answers it.
So the leader's is held back for a moment, and the followers come first.
"""

from __future__ import annotations

import struct

SYNC_GROUP = 14
LAST_PLAIN_VERSION = 3
"""From version 4 on strings are of another form (KIP-482); no client that we know asks the mock for it."""
LEADER_WAITS_SECONDS = 0.2

_HEADER = struct.Struct(">ihhi")  # size, api key, api version, correlation id
_LENGTH = struct.Struct(">h")
_COUNT = struct.Struct(">i")


def is_leaders_sync(chunk: bytes) -> bool:
    """Whether bytes that a client has sent begin with a SyncGroup that shares partitions out.

    By https://kafka.apache.org/protocol, requests of versions 0 to 3: a client sends one for itself.
    """
    if len(chunk) < _HEADER.size:
        return False
    _, api_key, version, _ = _HEADER.unpack_from(chunk)
    if api_key != SYNC_GROUP or version > LAST_PLAIN_VERSION:
        return False
    try:
        place = _skip_string(chunk, _HEADER.size)  # client id
        place = _skip_string(chunk, place) + 4  # group and its generation
        place = _skip_string(chunk, place)  # member id
        if version == LAST_PLAIN_VERSION:
            place = _skip_string(chunk, place)  # the member's own name
        return bool(_COUNT.unpack_from(chunk, place)[0] > 0)
    except struct.error:
        return False


def _skip_string(chunk: bytes, place: int) -> int:
    (length,) = _LENGTH.unpack_from(chunk, place)
    return place + _LENGTH.size + max(0, int(length))
