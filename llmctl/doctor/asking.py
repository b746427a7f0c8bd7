"""What the service answers, whatever it answers: the status is part of what is looked at."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from llmctl.client.http import refuse_service
from llmctl.doctor.checks import Unknown
from llmctl.exits import CliError, Unreachable

T = TypeVar("T")


@dataclass(frozen=True)
class Reply:
    """One answer of the service, and when it was asked and had, by our clock."""

    status: int
    document: Mapping[str, Any] = field(default_factory=dict)
    """Empty where the answer is no JSON object."""
    sent_unix_seconds: float = 0.0
    received_unix_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.received_unix_seconds - self.sent_unix_seconds

    @property
    def is_good(self) -> bool:
        """Whether it is what was asked for."""
        return self.status == httpx.codes.OK and bool(self.document)

    @property
    def message(self) -> str:
        """The sentence of a refusal."""
        error = self.document.get("error")
        said = error.get("message") if isinstance(error, Mapping) else None
        return str(said) if said else f"HTTP {self.status}"


async def ask(client: httpx.AsyncClient, method: str, path: str) -> Reply:
    """Asks once; Unreachable where no answer comes."""
    sent = time.time()
    try:
        answer = await client.request(method, path)
    except (httpx.ConnectError, httpx.ConnectTimeout) as problem:
        raise refuse_service(str(client.base_url).rstrip("/")) from problem
    except httpx.TransportError as problem:
        raise Unreachable(
            f"The connection to {client.base_url} broke before an answer to {path} came."
        ) from problem
    received = time.time()
    try:
        document = answer.json()
    except ValueError:
        document = None
    return Reply(answer.status_code, document if isinstance(document, dict) else {}, sent, received)


async def find_out(asking: Awaitable[T], what: str, limit_seconds: float) -> T | Unknown:
    """What comes of it, or why it cannot be known; never takes longer than the limit."""
    try:
        async with asyncio.timeout(limit_seconds):
            return await asking
    except TimeoutError:
        return Unknown(f"{what} gave no answer in {limit_seconds:g} s", out_of_reach=True)
    except CliError as problem:
        return Unknown(str(problem).rstrip("."), out_of_reach=isinstance(problem, Unreachable))
