"""How much room the disk of the queue's file has."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DiskRoom:
    """Below the reserve nothing new is accepted."""

    folder: str
    free_bytes: int
    """What the queue can still use, with what its file holds and does not use."""
    reserve_bytes: int
