"""How far callback topics are known to be written, so that a crash need not read them from their beginning.

Pure arithmetic. For each partition it finds an offset before which no callback that is still in the outbox
can stand. What a broker has acknowledged at an offset was appended there, so a callback that is sent after
that acknowledgement was seen can only stand behind it. The offset may therefore advance as far as the
acknowledgements that were seen before the oldest unfinished send began.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from service.core.records import Place

MAX_MARKS = 512
"""Acknowledgements remembered for each partition; beyond it every other one is dropped: more is read then."""


@dataclass(slots=True)
class _Mark:
    """An acknowledgement: what began with this ticket or a later one stands at `offset` or behind it."""

    ticket: int
    offset: int


@dataclass(slots=True)
class _Topic:
    next_ticket: int = 0
    unfinished: deque[int] = field(default_factory=deque)
    finished: set[int] = field(default_factory=set)
    """Tickets that are done while an older one is not."""
    marks: dict[int, deque[_Mark]] = field(default_factory=dict)

    def oldest(self) -> int:
        while self.unfinished and self.unfinished[0] in self.finished:
            self.finished.discard(self.unfinished.popleft())
        return self.unfinished[0] if self.unfinished else self.next_ticket


class WrittenPositions:
    """Follows the sends to each topic; a ticket stands for one send."""

    def __init__(self) -> None:
        self._topics: dict[str, _Topic] = {}

    def begin(self, topic: str) -> int:
        """A send to this topic begins; returns its ticket."""
        followed = self._topics.setdefault(topic, _Topic())
        ticket = followed.next_ticket
        followed.next_ticket += 1
        followed.unfinished.append(ticket)
        return ticket

    def acknowledge(self, topic: str, place: Place) -> None:
        """The broker said where a record of ours stands."""
        followed = self._topics.setdefault(topic, _Topic())
        marks = followed.marks.setdefault(place.partition, deque())
        offset = place.offset + 1
        if marks and marks[-1].ticket == followed.next_ticket:
            marks[-1].offset = max(marks[-1].offset, offset)
            return
        if marks and marks[-1].offset > offset:
            offset = marks[-1].offset  # an acknowledgement that was overtaken tells nothing new
        marks.append(_Mark(followed.next_ticket, offset))
        if len(marks) > MAX_MARKS:
            followed.marks[place.partition] = deque(list(marks)[1::2])

    def finish(self, topic: str, ticket: int) -> None:
        """A send is over.

        Its callback is forgotten in the transaction that stores `positions`, or does not stand on the topic.
        """
        self._topics[topic].finished.add(ticket)

    def positions(self, topics: Iterable[str]) -> dict[str, Mapping[int, int]]:
        """How far each partition of these topics was written before the oldest unfinished send began."""
        return {topic: reached for topic in topics if (reached := self._reach(topic))}

    def _reach(self, topic: str) -> dict[int, int]:
        followed = self._topics.get(topic)
        if followed is None:
            return {}
        oldest = followed.oldest()
        reached: dict[int, int] = {}
        for partition, marks in followed.marks.items():
            while len(marks) > 1 and marks[1].ticket <= oldest:
                marks.popleft()
            if marks and marks[0].ticket <= oldest:
                reached[partition] = marks[0].offset
        return reached
