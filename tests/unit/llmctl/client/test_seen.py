"""Copies of events are recognised with bounded memory."""

from uuid import UUID

from llmctl.client.seen import SeenEvents


def test_a_copy_is_known() -> None:
    seen = SeenEvents()
    assert [seen.is_copy(UUID(int=number)) for number in (1, 2, 1, 2, 3)] == [False, False, True, True, False]


def test_only_the_last_are_remembered() -> None:
    seen = SeenEvents(limit=2)
    for number in (1, 2, 1, 3):
        seen.is_copy(UUID(int=number))
    assert seen.is_copy(UUID(int=1))
    assert seen.is_copy(UUID(int=3))
    assert not seen.is_copy(UUID(int=2))


def test_memory_is_bounded() -> None:
    seen = SeenEvents(limit=100)
    for number in range(10_000):
        seen.is_copy(UUID(int=number))
    assert len(seen._ids) == 100
