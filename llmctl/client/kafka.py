"""The connection to Kafka that every command shares: bounded, and clear about why it failed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from difflib import get_close_matches
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaError

from llmctl.exits import Failed, Unreachable, UsageProblem
from simulator.kafka_address import KafkaAddress

CONNECT_LIMIT_SECONDS = 5.0
REQUEST_LIMIT_SECONDS = 15.0
CLOSE_LIMIT_SECONDS = 3.0

_REFUSES_LOGIN = frozenset({33, 34, 58})
"""UNSUPPORTED_SASL_MECHANISM, ILLEGAL_SASL_STATE, SASL_AUTHENTICATION_FAILED
(https://kafka.apache.org/protocol#protocol_error_codes)."""


async def connect(starting: Awaitable[Any], kafka: KafkaAddress) -> None:
    """Waits until a client has found the cluster.

    Unreachable where none answers in time, Failed where one does not let us in.
    """
    try:
        async with asyncio.timeout(CONNECT_LIMIT_SECONDS):
            await starting
    except TimeoutError as problem:
        raise refuse_broker(kafka) from problem
    except (KafkaError, OSError) as problem:
        raise await _find_reason(kafka) from problem


async def _find_reason(kafka: KafkaAddress) -> Unreachable | Failed:
    """Why a client has found no cluster: it logs that and does not tell. Asks each server once more."""
    listening = False
    for host, port, _ in collect_hosts(kafka.servers):
        try:
            async with asyncio.timeout(CONNECT_LIMIT_SECONDS):
                (await _open_connection(kafka, host, port)).close()
            listening = True
        except ssl.SSLError as problem:
            return Failed(
                f"Kafka at {kafka} could not be spoken to over TLS: {problem}; check "
                "kafka_security_protocol, and kafka_ssl_cafile, the file of the certificates to trust."
            )
        except KafkaError as problem:
            if getattr(problem, "errno", None) in _REFUSES_LOGIN:
                return Failed(
                    f"Kafka at {kafka} does not let {kafka.sasl_username} in by {kafka.sasl_mechanism}; "
                    "check kafka_sasl_mechanism, kafka_sasl_username and kafka_sasl_password."
                )
            listening = True
        except (ConnectionAbortedError, ConnectionResetError):
            listening = True
        except (OSError, TimeoutError):
            continue
    if listening:
        return Unreachable(
            f"No Kafka broker answers at {kafka} by {kafka.security_protocol}, although something listens "
            "there; say what it asks for as kafka_security_protocol (`llmctl config show` tells what is)."
        )
    return refuse_broker(kafka)


async def _open_connection(kafka: KafkaAddress, host: str, port: int) -> Any:
    options = client_options(kafka)
    del options["bootstrap_servers"]
    return await create_conn(host, port, request_timeout_ms=int(CONNECT_LIMIT_SECONDS * 1000), **options)


async def close(stopping: Awaitable[Any]) -> None:
    """Lets a client go; one whose broker is away would wait for it, so not for long."""
    try:
        async with asyncio.timeout(CLOSE_LIMIT_SECONDS):
            await stopping
    except (KafkaError, OSError, TimeoutError):
        return  # the process ends next, and with it the connection


async def ask(answering: Awaitable[Any], kafka: KafkaAddress) -> Any:  # aiokafka is not typed
    """What the broker answers; Unreachable where it does not, Failed where it refuses."""
    try:
        async with asyncio.timeout(REQUEST_LIMIT_SECONDS):
            return await answering
    except (TimeoutError, OSError) as problem:
        raise refuse_broker(kafka) from problem
    except KafkaError as problem:
        if problem.retriable:
            raise refuse_broker(kafka) from problem
        raise Failed(f"Kafka at {kafka} refused: {problem}.") from problem


@asynccontextmanager
async def open_admin(kafka: KafkaAddress) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected admin client; Unreachable where no broker answers."""
    admin = AIOKafkaAdminClient(**client_options(kafka), request_timeout_ms=int(CONNECT_LIMIT_SECONDS * 1000))
    try:
        await connect(admin.start(), kafka)
        yield admin
    finally:
        await close(admin.close())


def client_options(kafka: KafkaAddress) -> dict[str, Any]:
    """What aiokafka's clients take; UsageProblem where the file of certificates cannot be used."""
    try:
        return kafka.for_aiokafka()
    except ValueError as problem:
        raise UsageProblem(f"{problem}.") from problem


def refuse_broker(kafka: KafkaAddress) -> Unreachable:
    """The error that says that nobody answers there, and what to do about it."""
    return Unreachable(
        f"No Kafka broker answers at {kafka}; "
        "start one with `llmctl up`, or name another with --bootstrap-servers."
    )


def name_near(name: str, existing: list[str]) -> str:
    """The end of a sentence about a name that does not exist: which ones are near it."""
    near = get_close_matches(name, existing, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"create it with `llmctl topics bootstrap {name}`."
