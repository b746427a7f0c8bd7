"""Where to go on reading: the next offset of each partition."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Place = tuple[str, int]
"""A topic and one of its partitions."""


@dataclass(frozen=True)
class Position:
    """A point in the callbacks of some topics; as JSON it outlives the process."""

    offsets: Mapping[str, Mapping[int, int]]
    """Topic → partition → the next offset to read."""

    def to_json(self) -> str:
        """One JSON document: `{"results": {"0": 12, "1": 7}}`."""
        return json.dumps(self.offsets)

    @classmethod
    def from_json(cls, text: str | bytes) -> Position:
        """What `to_json` wrote; ValueError where it is something else."""
        document = json.loads(text)
        if not isinstance(document, dict):
            raise ValueError("a position is an object: topic → partition → offset")  # noqa: TRY004
        return cls({topic: _read_partitions(topic, found) for topic, found in document.items()})

    @classmethod
    def of_places(cls, places: Mapping[Place, int]) -> Position:
        """The same from a flat mapping."""
        offsets: dict[str, dict[int, int]] = {}
        for (topic, partition), offset in places.items():
            offsets.setdefault(topic, {})[partition] = offset
        return cls(offsets)

    def places_of(self, topics: Iterable[str]) -> dict[Place, int]:
        """The part that is about these topics, as a flat mapping; ValueError where one is not in it."""
        places: dict[Place, int] = {}
        for topic in topics:
            if topic not in self.offsets:
                raise ValueError(f"the position says nothing about the topic {topic!r}")
            places |= {(topic, partition): offset for partition, offset in self.offsets[topic].items()}
        return places


def _read_partitions(topic: str, found: Any) -> dict[int, int]:
    if not isinstance(found, dict) or not all(
        partition.isdecimal() and type(offset) is int and offset >= 0 for partition, offset in found.items()
    ):
        raise ValueError(f"the position of the topic {topic!r} is no object: partition → offset")
    return {int(partition): offset for partition, offset in found.items()}
