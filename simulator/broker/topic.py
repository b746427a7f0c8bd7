"""A topic as the embedded broker creates it: a legal name and a number of partitions."""

from dataclasses import dataclass
from typing import Self

from service.contracts.topics import is_legal_topic_name

MAX_PARTITIONS = 10_000


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic's name and its number of partitions; ValueError where Kafka would refuse either."""

    name: str
    partitions: int

    def __post_init__(self) -> None:
        if not is_legal_topic_name(self.name):
            raise ValueError(
                f"{self.name!r} is no legal topic name; use 1 to 249 of the characters A-Z a-z 0-9 . _ -"
            )
        if not 1 <= self.partitions <= MAX_PARTITIONS:
            raise ValueError(
                f"topic {self.name!r} cannot have {self.partitions} partitions; choose 1 to {MAX_PARTITIONS}"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `name:partitions`, the form of the command line."""
        name, separator, partitions = text.rpartition(":")
        if not separator or not partitions.isascii() or not partitions.isdigit():
            raise ValueError(f"{text!r} is not of the form name:partitions, for example callbacks:3")
        return cls(name, int(partitions))
