"""What the service says of itself while a run goes on, and what its process takes from this machine."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

ANSWER_LIMIT_SECONDS = 2.0
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class ServiceState:
    """Figures of one moment."""

    queue_depth: int
    in_flight: int
    outbox_depth: int


@dataclass(frozen=True)
class ProcessUse:
    """What a process has taken so far, and holds now."""

    at: float
    """CLOCK_MONOTONIC."""
    cpu_seconds: float
    memory_bytes: int


class ServiceProbe:
    """Asks `/admin/v1/snapshot`; where no answer comes there is no figure, and the run goes on."""

    def __init__(self, url: str, admin_token: str | None = None) -> None:
        headers = {} if admin_token is None else {"authorization": f"Bearer {admin_token}"}
        self._client = httpx.AsyncClient(
            base_url=url, headers=headers, timeout=ANSWER_LIMIT_SECONDS, trust_env=False
        )

    async def look(self) -> ServiceState | None:
        """How the service stands; None where it does not say so."""
        try:
            answer = await self._client.get("/admin/v1/snapshot")
            document = answer.json()
            return ServiceState(
                queue_depth=int(document["queue"]["depth"]),
                in_flight=int(document["in_flight"]),
                outbox_depth=int(document["outbox"]["depth"]),
            )
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return None

    async def close(self) -> None:
        """Closes its connections."""
        await self._client.aclose()


def read_process(pid: int) -> ProcessUse | None:
    """What a process of this machine takes, from `/proc` (proc(5)); None where there is none to be read."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    ticks = int(stat[11]) + int(stat[12])
    return ProcessUse(time.monotonic(), ticks / _TICKS_PER_SECOND, resident * _PAGE_BYTES)
