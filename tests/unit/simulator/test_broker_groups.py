"""Which of a group's requests the embedded broker holds back for a moment."""

import struct

import pytest

from simulator.broker.groups import is_leaders_sync


def string(text: str | None) -> bytes:
    """Encodes a nullable string as Kafka does."""
    return struct.pack(">h", -1) if text is None else struct.pack(">h", len(text)) + text.encode()


def sync_group(version: int, assignments: dict[str, bytes], *, instance: str | None = None) -> bytes:
    """A SyncGroup request, by https://kafka.apache.org/protocol."""
    body = string("client") + string("group") + struct.pack(">i", 7) + string("member-1")
    if version >= 3:
        body += string(instance)
    body += struct.pack(">i", len(assignments))
    for member, assignment in assignments.items():
        body += string(member) + struct.pack(">i", len(assignment)) + assignment
    head = struct.pack(">hhi", 14, version, 99)
    return struct.pack(">i", len(head + body)) + head + body


@pytest.mark.parametrize("version", [0, 1, 2, 3])
@pytest.mark.parametrize("instance", [None, "replica-1"])
def test_the_leader_shares_out_and_followers_do_not(version: int, instance: str | None) -> None:
    leaders = sync_group(version, {"member-1": b"abc", "member-2": b""}, instance=instance)
    assert is_leaders_sync(leaders)
    assert is_leaders_sync(leaders + b"more")
    assert not is_leaders_sync(sync_group(version, {}, instance=instance))


def test_anything_else_passes() -> None:
    leaders = sync_group(3, {"member-1": b"abc"})
    heartbeat = struct.pack(">ihhi", 40, 12, 3, 1) + b"x" * 32
    assert not is_leaders_sync(heartbeat)
    assert not is_leaders_sync(struct.pack(">ihhi", 40, 14, 5, 1) + b"x" * 40)
    assert not any(is_leaders_sync(leaders[:length]) for length in range(30))
