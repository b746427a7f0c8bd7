"""The operators' routes of the service: drain and resume, providers, undelivered callbacks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx

from llmctl.client.http import open_http, read_refusal, refuse_service, refuse_silence, refuse_stranger
from llmctl.exits import Failed, Unreachable

DRAIN_PATH = "/admin/v1/drain"
RESUME_PATH = "/admin/v1/resume"
PROVIDERS_PATH = "/admin/v1/providers"
UNDELIVERED_PATH = "/admin/v1/undelivered"
RESEND_PATH = "/admin/v1/undelivered/resend"
USAGE_PATH = "/admin/v1/usage"
LOG_LEVEL_PATH = "/admin/v1/log-level"
JOURNAL_PATH = "/admin/v1/journal"
RESENT_AT_ONCE = 1000
"""The service takes no more ids in one order."""


@dataclass(frozen=True)
class DrainStatus:
    """How a drain stands: `state` is none, running, done or timed_out."""

    phase: str
    state: str
    in_flight: int
    outbox: int
    queued: int
    finished: int
    """Requests that reached their outcome since the drain began."""

    def describe(self) -> str:
        """The figures in a sentence's part."""
        return (
            f"{self.finished} finished, {self.in_flight} still in flight, "
            f"{self.outbox} callback{'' if self.outbox == 1 else 's'} not delivered, "
            f"{self.queued} left in the queue"
        )

    def describe_briefly(self) -> str:
        """The same for one line of a narrow terminal."""
        return (
            f"{self.in_flight} in flight, {self.outbox} in outbox, "
            f"{self.queued} queued, {self.finished} finished"
        )


@dataclass(frozen=True)
class ProviderState:
    """How one provider of the service stands."""

    name: str
    circuit: str
    held: bool
    held_until: datetime | None
    """None where it is not held, or held until released."""
    hold_reason: str | None
    in_flight: int
    concurrency_limit: int
    """How many calls may be under way now; it adapts, up to what is configured."""
    requests_per_minute: float | None
    tokens_per_minute: float | None
    calls: int
    errors: int
    document: Mapping[str, Any]
    """All that the service tells of it."""

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> ProviderState:
        """Reads what the service says of it; KeyError, TypeError or ValueError where it is something else."""
        until = document["held_until"]
        return cls(
            name=str(document["name"]),
            circuit=str(document["circuit"]),
            held=bool(document["held"]),
            held_until=None if until is None else datetime.fromisoformat(until),
            hold_reason=document["hold_reason"],
            in_flight=int(document["in_flight"]),
            concurrency_limit=int(document["concurrency_limit"]),
            requests_per_minute=document["requests_per_minute"],
            tokens_per_minute=document["tokens_per_minute"],
            calls=int(document["calls"]),
            errors=int(document["errors"]),
            document=document,
        )


@dataclass(frozen=True)
class UndeliveredCallback:
    """A callback that the broker refused for good."""

    queue_id: str
    topic: str
    reason: str
    """Kafka's name of the refusal."""
    message: str
    """What it means and what to do, in the service's words."""
    size_bytes: int
    parked_at: datetime
    document: Mapping[str, Any]
    """All that the service tells of it."""

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> UndeliveredCallback:
        """Reads one item of a page; KeyError, TypeError or ValueError where it is none."""
        return cls(
            queue_id=str(document["queue_id"]),
            topic=str(document["topic"]),
            reason=str(document["reason"]),
            message=str(document["message"]),
            size_bytes=int(document["size_bytes"]),
            parked_at=datetime.fromisoformat(document["parked_at"]),
            document=document,
        )


@dataclass(frozen=True)
class UndeliveredPage:
    """Some undelivered callbacks, how many there are in all, and where the next page begins, if anywhere."""

    total: int
    items: tuple[UndeliveredCallback, ...]
    next: int | None


@dataclass(frozen=True)
class LogLevel:
    """From which level on the service logs, and for how long still; None is until it is changed."""

    level: str
    seconds_left: float | None


@dataclass(frozen=True)
class Resent:
    """How many callbacks are on their way again, and which of those named were not parked."""

    count: int
    not_parked: tuple[str, ...]


class OperatorClient:
    """Orders over one connection; errors say what to do."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url

    async def start_drain(self, timeout_seconds: float, *, until_empty: bool) -> DrainStatus:
        """Closes the service's door and begins to drain."""
        order = {"timeout_seconds": timeout_seconds, "until_empty": until_empty}
        return await self._ask("POST", DRAIN_PATH, order)

    async def read_drain(self) -> DrainStatus:
        """How the drain stands."""
        return await self._ask("GET", DRAIN_PATH)

    async def resume(self) -> DrainStatus:
        """Opens the door again."""
        return await self._ask("POST", RESUME_PATH)

    async def list_providers(self) -> tuple[ProviderState, ...]:
        """Every configured provider."""
        document, status = await self._exchange("GET", PROVIDERS_PATH)
        try:
            return tuple(ProviderState.read(each) for each in document["providers"])
        except (ValueError, KeyError, TypeError):
            raise refuse_stranger(self._url, status) from None

    async def hold_provider(self, name: str, seconds: float | None) -> ProviderState:
        """Has a provider asked nothing, for so long or, with None, until released."""
        return await self._steer(name, "hold", {} if seconds is None else {"seconds": seconds})

    async def release_provider(self, name: str) -> ProviderState:
        """Has a provider asked again, whatever held it."""
        return await self._steer(name, "release", None)

    async def _steer(self, name: str, verb: str, order: dict[str, Any] | None) -> ProviderState:
        path = f"{PROVIDERS_PATH}/{quote(name, safe='')}/{verb}"
        document, status = await self._exchange("POST", path, order)
        try:
            return ProviderState.read(document)
        except (ValueError, KeyError, TypeError):
            raise refuse_stranger(self._url, status) from None

    async def list_undelivered(self, after: int, limit: int, topic: str | None = None) -> UndeliveredPage:
        """Up to `limit` undelivered callbacks that come after a place, of one topic or of all."""
        query: dict[str, str | int] = {"after": after, "limit": limit} | ({"topic": topic} if topic else {})
        document, status = await self._exchange("GET", UNDELIVERED_PATH, query=query)
        try:
            items = tuple(UndeliveredCallback.read(item) for item in document["items"])
            following = document["next"]
            return UndeliveredPage(
                int(document["total"]), items, None if following is None else int(following)
            )
        except (ValueError, KeyError, TypeError):
            raise refuse_stranger(self._url, status) from None

    async def resend(self, queue_ids: Sequence[str] | None) -> Resent:
        """Has up to RESENT_AT_ONCE callbacks sent again, None for all there are."""
        order: dict[str, Any] = {"all": True} if queue_ids is None else {"queue_ids": list(queue_ids)}
        document, status = await self._exchange("POST", RESEND_PATH, order)
        try:
            return Resent(int(document["resent"]), tuple(str(each) for each in document["not_parked"]))
        except (ValueError, KeyError, TypeError):
            raise refuse_stranger(self._url, status) from None

    async def read_journal(self, page_size: int) -> AsyncIterator[Mapping[str, Any]]:
        """Every entry of the service's journal of what it called back, oldest first, page by page."""
        query: dict[str, str | int] = {"limit": page_size}
        while True:
            document, status = await self._exchange("GET", JOURNAL_PATH, query=query)
            try:
                entries, following = list(document["items"]), document["next"]
            except (KeyError, TypeError):
                raise refuse_stranger(self._url, status) from None
            for entry in entries:
                yield entry
            if following is None:
                return
            query["after"] = str(following)

    async def read_usage(self, days: int) -> Mapping[str, Any]:
        """What calls have used today (UTC) and on the days before it, so many together."""
        document, status = await self._exchange("GET", USAGE_PATH, query={"days": days})
        if not isinstance(document, dict) or not {"rows", "limits", "today_usd"} <= document.keys():
            raise refuse_stranger(self._url, status)
        return document

    async def read_log_level(self) -> LogLevel:
        """From which level on the service logs."""
        return await self._ask_log_level("GET", None)

    async def change_log_level(self, level: str, seconds: float | None) -> LogLevel:
        """Has it log from this level on, for so long or, with None, until it is changed again."""
        return await self._ask_log_level("PUT", {"level": level, "seconds": seconds})

    async def _ask_log_level(self, method: str, order: dict[str, Any] | None) -> LogLevel:
        document, status = await self._exchange(method, LOG_LEVEL_PATH, order)
        try:
            return LogLevel(str(document["level"]), document["seconds_left"])
        except (KeyError, TypeError):
            raise refuse_stranger(self._url, status) from None

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> DrainStatus:
        document, status = await self._exchange(method, path, body)
        try:
            return DrainStatus(**{name: document[name] for name in DrainStatus.__dataclass_fields__})
        except (KeyError, TypeError):
            raise refuse_stranger(self._url, status) from None

    async def _exchange(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        query: Mapping[str, str | int] | None = None,
    ) -> tuple[Any, int]:
        """The answer's JSON and its HTTP status; Failed where the service refuses."""
        try:
            answer = await self._client.request(method, path, json=body, params=query)
        except httpx.TimeoutException as problem:
            if isinstance(problem, httpx.ConnectTimeout):
                raise refuse_service(self._url) from problem
            raise refuse_silence(self._url) from problem
        except httpx.ConnectError as problem:
            raise refuse_service(self._url) from problem
        except httpx.TransportError as problem:
            raise Unreachable(f"The connection to {self._url} broke before an answer came.") from problem
        if not answer.is_success:
            refusal = read_refusal(answer, self._url)
            raise Failed(f"The service refuses: {refusal.message} ({refusal.code})")
        try:
            return answer.json(), answer.status_code
        except ValueError:
            raise refuse_stranger(self._url, answer.status_code) from None


@asynccontextmanager
async def open_operator(url: str, token: str | None = None) -> AsyncIterator[OperatorClient]:
    """A client of the operators' routes at `url`; nothing is sent yet."""
    async with open_http(url, token) as client:
        yield OperatorClient(client, url)
