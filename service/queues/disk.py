"""Room on the disk that is kept free, so that what was accepted can be finished.

On a full disk even a delete fails: it has to be written to the log first. So nothing new is accepted while
less is free than what finishing takes.
"""

import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from service.core.disk import DiskRoom

LOOK_EVERY_SECONDS = 0.5
COPIES = 2
"""What comes stands in the log first, and then in the file."""


class DiskReserve:
    """Whether a folder's file system has so many bytes free for us."""

    def __init__(self, folder: Path, reserve_bytes: int, reusable_bytes: Callable[[], int]) -> None:
        self._folder = folder
        self._reusable_bytes = reusable_bytes
        """What the queue's file holds and does not use: it never shrinks, and takes that first."""
        self._reserve_bytes = reserve_bytes
        self._left_bytes = 0
        self._arrivals: deque[tuple[float, int]] = deque()
        self._look_at = 0.0

    def has_room(self, incoming_bytes: int = 0) -> bool:
        """Whether so much may come, as the disk was half a second ago less what has come since.

        A file system that does not say how much is free counts as having room.
        """
        now = time.monotonic()
        wanted_bytes = COPIES * incoming_bytes
        if now >= self._look_at or self._left_bytes - wanted_bytes < self._reserve_bytes:
            self._look_at = now + LOOK_EVERY_SECONDS
            room = self.measure()
            if room is None:
                return True
            self._left_bytes = room.free_bytes - self._on_the_way()
        if self._left_bytes - wanted_bytes < self._reserve_bytes:
            return False
        self._left_bytes -= wanted_bytes
        if incoming_bytes:
            self._arrivals.append((now, wanted_bytes))
        return True

    def measure(self) -> DiskRoom | None:
        """How much room there is at this moment; None where the file system does not say."""
        try:
            found = os.statvfs(self._folder)
        except OSError:
            return None
        free_bytes = found.f_bavail * found.f_frsize + self._reusable_bytes()
        return DiskRoom(str(self._folder), free_bytes, self._reserve_bytes)

    def _on_the_way(self) -> int:
        """What was let in just now and does not show on the disk yet."""
        now = time.monotonic()
        while self._arrivals and self._arrivals[0][0] < now - LOOK_EVERY_SECONDS:
            self._arrivals.popleft()
        return sum(size for _, size in self._arrivals)

    def describe(self) -> str:
        """What is wrong where there is no room, in a sentence."""
        return (
            f"The disk of {self._folder} has less than {self._reserve_bytes // (1024 * 1024)} MiB free "
            "(QUEUE_DISK_RESERVE_BYTES); what was accepted is finished, nothing new is taken."
        )
