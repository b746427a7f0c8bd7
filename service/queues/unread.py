"""Requests that need not be read back from the file: most are claimed soon after they came."""

from service.contracts.requests import QueuedRequest

MAX_REQUESTS_IN_MEMORY_BYTES = 32 * 1024 * 1024
"""Beyond this, a request is read back when its turn has come."""


class UnreadRequests:
    """Requests that were put by this process and not claimed yet, up to a limit of their stored size."""

    def __init__(self, limit_bytes: int = MAX_REQUESTS_IN_MEMORY_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._requests: dict[int, tuple[QueuedRequest, int]] = {}

    def keep(self, sequence: int, request: QueuedRequest, size_bytes: int) -> None:
        """Keeps a request that stands in the file, unless there are too many."""
        if self._held_bytes + size_bytes <= self._limit_bytes:
            self._requests[sequence] = request, size_bytes
            self._held_bytes += size_bytes

    def take(self, sequence: int) -> QueuedRequest | None:
        """A request, once; None where it has to be read."""
        request, size_bytes = self._requests.pop(sequence, (None, 0))
        self._held_bytes -= size_bytes
        return request
