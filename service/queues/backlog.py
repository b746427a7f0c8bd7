"""The order in which waiting requests are served: pure bookkeeping in memory, no I/O and no clock of its own.

A lane for each provider and priority, in the order of acceptance; within it callers take turns, each with a
row for every model. A request gains one step of priority for every `AGING_SECONDS` that it waits, so that a
stream of urgent requests delays the others and never starves them. A model that admits no call now keeps its
rows, and the others are served.
"""

import heapq
from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import dataclass

from service.contracts.requests import QueuedRequest
from service.core.ports import Admit
from service.queues.turns import Turns

AGING_SECONDS = 30.0
_SPARE_DEADLINES = 1000


@dataclass(frozen=True, slots=True)
class Waiting:
    """One request that waits; its text stays in the durable queue."""

    sequence: int
    priority: int
    accepted_unix_seconds: float
    expires_unix_seconds: float
    provider: str | None = None
    """Who is to be asked; None is the default provider of whoever serves it."""
    estimated_tokens: int = 0
    caller: str | None = None
    """Who takes turns with whom."""
    model: str | None = None
    """None is the provider's default model."""

    @property
    def row(self) -> tuple[str | None, str | None]:
        """Its row in its lane."""
        return self.caller, self.model


def admit_all(
    sequence: int,  # noqa: ARG001 - it is an `Admit`
    provider: str | None,  # noqa: ARG001
    model: str | None,  # noqa: ARG001
    tokens: int,  # noqa: ARG001
) -> bool:
    """Admits every call."""
    return True


def name_provider(request: QueuedRequest) -> str | None:
    """Returns the provider that a request names, None if it leaves that to the service."""
    overrides = request.request_data.llm_config_overrides
    provider = overrides.provider_override if overrides else None
    return None if provider is None else provider.value


def name_model(request: QueuedRequest) -> str | None:
    """Returns the model that a request names, None if it leaves that to the service."""
    overrides = request.request_data.llm_config_overrides
    return overrides.model_override if overrides else None


_Head = tuple[Waiting, Turns[Waiting]]


class Backlog:
    """Which requests wait, who is next, and whose deadline has passed."""

    def __init__(self) -> None:
        self._lanes: dict[tuple[str | None, int], Turns[Waiting]] = {}
        # What left by its deadline is still in its lane until it comes to the head: it is known by not
        # being here.
        self._present: dict[int, Waiting] = {}
        self._of_caller: Counter[str | None] = Counter()
        self._deadlines: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._present)

    def count_of(self, caller: str | None) -> int:
        """How many requests of a caller wait."""
        return self._of_caller[caller]

    def append(self, waiting: Waiting) -> None:
        """Adds a request behind all others of its provider, priority and caller."""
        self._lane_of(waiting).append(waiting.row, waiting)
        self._enter(waiting)

    def restore(self, waiting: Waiting) -> None:
        """Puts a request that had been taken back before all others of its provider, priority and caller."""
        self._lane_of(waiting).restore(waiting.row, waiting)
        self._enter(waiting)

    def take(self, limit: int, now_unix_seconds: float, admit: Admit = admit_all) -> list[Waiting]:
        """Removes and returns up to `limit` requests, most urgent first, of models that admit them."""
        taken: list[Waiting] = []
        refused: set[tuple[str | None, str | None]] = set()
        while len(taken) < limit:
            heads = list(self._heads(refused))
            if not heads:
                break
            waiting, lane = max(heads, key=lambda each: _urgency(each[0], now_unix_seconds))
            if not admit(waiting.sequence, waiting.provider, waiting.model, waiting.estimated_tokens):
                refused.add((waiting.provider, waiting.model))
                continue
            lane.pop(waiting.row)
            self._leave(waiting.sequence)
            taken.append(waiting)
        return taken

    def take_expired(self, limit: int, now_unix_seconds: float) -> list[Waiting]:
        """Removes and returns up to `limit` requests whose deadline has passed."""
        taken: list[Waiting] = []
        while self._deadlines and self._deadlines[0][0] <= now_unix_seconds and len(taken) < limit:
            waiting = self._leave(heapq.heappop(self._deadlines)[1])
            if waiting is not None:
                taken.append(waiting)
        return taken

    def discard(self, sequence: int) -> bool:
        """Removes a request; returns whether it waited here."""
        return self._leave(sequence) is not None

    def oldest_accepted_unix_seconds(self) -> float | None:
        """When the request that waits longest was accepted; None where none waits."""
        return min(
            (head.accepted_unix_seconds for lane in self._lanes.values() for head in lane.heads()),
            default=None,
        )

    def _lane_of(self, waiting: Waiting) -> Turns[Waiting]:
        key = waiting.provider, waiting.priority
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Turns(self._is_present)
        return lane

    def _is_present(self, waiting: Waiting) -> bool:
        return self._present.get(waiting.sequence) is waiting

    def _enter(self, waiting: Waiting) -> None:
        self._present[waiting.sequence] = waiting
        self._of_caller[waiting.caller] += 1
        heapq.heappush(self._deadlines, (waiting.expires_unix_seconds, waiting.sequence))
        if len(self._deadlines) > 2 * len(self._present) + _SPARE_DEADLINES:
            # Most deadlines are of requests that are long answered: drop those before they add up.
            self._deadlines = [(one.expires_unix_seconds, one.sequence) for one in self._present.values()]
            heapq.heapify(self._deadlines)

    def _leave(self, sequence: int) -> Waiting | None:
        waiting = self._present.pop(sequence, None)
        if waiting is not None:
            self._of_caller[waiting.caller] -= 1
            if not self._of_caller[waiting.caller]:
                del self._of_caller[waiting.caller]
        return waiting

    def _heads(self, refused: Container[tuple[str | None, str | None]]) -> Iterator[_Head]:
        """Yields the first request of each lane whose model isn't refused."""
        for key, lane in tuple(self._lanes.items()):
            is_empty = True
            for head in lane.heads():
                is_empty = False
                if (head.provider, head.model) not in refused:
                    yield head, lane
                    break
            if is_empty:
                del self._lanes[key]


def _urgency(waiting: Waiting, now_unix_seconds: float) -> tuple[float, int]:
    # Between equals the one accepted first wins, whatever the wall clock did in between.
    age_seconds = max(0.0, now_unix_seconds - waiting.accepted_unix_seconds)
    return waiting.priority + age_seconds / AGING_SECONDS, -waiting.sequence
