"""The connection to the service that every command shares, and what its refusals mean."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from llmctl.exits import Failed, Unreachable
from llmctl.masking import mask_url

MAX_CONNECTIONS = 20
IDLE_LIMIT_SECONDS = 2.0  # shorter than servers keep an idle connection, so that none is used as it closes
CONNECT_LIMIT_SECONDS = 5.0
ANSWER_LIMIT_SECONDS = 30.0


@dataclass(frozen=True)
class Refused:
    """The service's refusal of one request: the HTTP status and its `ErrorDetail` as it came."""

    status: int
    error: dict[str, Any]

    @property
    def code(self) -> str:
        """Its `error_code`."""
        return str(self.error.get("error_code", ""))

    @property
    def message(self) -> str:
        """Its sentence."""
        return str(self.error.get("message", ""))


@asynccontextmanager
async def open_http(url: str, token: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the service at `url`; nothing is sent yet."""
    headers = {"accept": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
    async with httpx.AsyncClient(
        base_url=url,
        headers=headers,
        timeout=httpx.Timeout(ANSWER_LIMIT_SECONDS, connect=CONNECT_LIMIT_SECONDS),
        limits=httpx.Limits(
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=MAX_CONNECTIONS,
            keepalive_expiry=IDLE_LIMIT_SECONDS,
        ),
        trust_env=False,  # a proxy for the web is none for this service
    ) as client:
        yield client


def read_refusal(answer: httpx.Response, url: str) -> Refused:
    """What an error answer says; Failed where it is not one of this service."""
    try:
        error = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        error = None
    if answer.is_error and isinstance(error, dict):
        return Refused(answer.status_code, error)
    raise refuse_stranger(url, answer.status_code)


def refuse_service(url: str) -> Unreachable:
    """The error that says that nobody answers there, and what to do about it."""
    return Unreachable(
        f"No service answers at {mask_url(url)}; start one with `llmctl up`, or name another with --url."
    )


def refuse_silence(url: str) -> Unreachable:
    """The error that says that somebody is there and does not answer."""
    return Unreachable(
        f"The service at {mask_url(url)} gave no answer in {ANSWER_LIMIT_SECONDS:g} s; look at its log."
    )


def refuse_stranger(url: str, status: int) -> Failed:
    """The error that says that what answers there speaks another language."""
    return Failed(f"What answers at {mask_url(url)} is not this service (HTTP {status}); check --url.")
