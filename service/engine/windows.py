"""How many callbacks may be on their way at once, so that a topic in trouble is in no other's way."""

from collections.abc import Collection

WINDOW = 4000
"""Sends that may be pending in all; what is beyond them waits in the outbox. Overdue ones do not count."""
TOPIC_WINDOW = 1000
"""Sends that may be pending for one topic before it has to wait for its acknowledgements."""


class SendWindows:
    """Counts pending sends by topic: a topic that is full, or whose sends are overdue, is closed."""

    def __init__(self, window: int = WINDOW, topic_window: int = TOPIC_WINDOW) -> None:
        self._window = window
        self._topic_window = topic_window
        self._pending: dict[str, int] = {}
        self._overdue: dict[str, int] = {}
        self._closed: set[str] = set()
        self._active = 0

    @property
    def room(self) -> int:
        """How many sends may begin now."""
        return min(self._topic_window, self._window - self._active)

    @property
    def closed(self) -> Collection[str]:
        """The topics to which none may begin now."""
        return self._closed

    def enter(self, topic: str) -> None:
        """A send begins."""
        self._active += 1
        self._pending[topic] = self._pending.get(topic, 0) + 1
        self._judge(topic)

    def mark_overdue(self, topic: str) -> None:
        """A send has been pending for so long that its place is given to other topics."""
        self._active -= 1
        self._overdue[topic] = self._overdue.get(topic, 0) + 1
        self._judge(topic)

    def leave(self, topic: str, *, overdue: bool) -> bool:
        """A send ended; returns whether there is room now where there was none."""
        was_blocked = self.room <= 0 or topic in self._closed
        if overdue:
            _decrease(self._overdue, topic)
        else:
            self._active -= 1
        _decrease(self._pending, topic)
        self._judge(topic)
        return was_blocked and self.room > 0

    def _judge(self, topic: str) -> None:
        if topic in self._overdue or self._pending.get(topic, 0) >= self._topic_window:
            self._closed.add(topic)
        else:
            self._closed.discard(topic)


def _decrease(counts: dict[str, int], topic: str) -> None:
    counts[topic] -= 1
    if not counts[topic]:
        del counts[topic]
