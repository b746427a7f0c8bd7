"""Opens and closes the client of a program with all that it is made of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from llmctl.client.addresses import find_addresses
from llmctl.client.comparisons import ComparisonClient
from llmctl.client.dispatcher import Dispatcher
from llmctl.client.http import open_http
from llmctl.client.problems import ClientClosed
from llmctl.client.sending import Sender
from llmctl.client.topic_reader import open_reader
from llmctl.loop import first_problem
from llmctl.masking import mask_url

TIMEOUT_SECONDS = 300.0
RETRY_LIMIT_SECONDS = 60.0


@asynccontextmanager
async def connect(
    url: str | None = None,
    bootstrap_servers: str | None = None,
    *,
    token: str | None = None,
    context: str | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
    retry_limit_seconds: float = RETRY_LIMIT_SECONDS,
) -> AsyncIterator[ComparisonClient]:
    """A client of one service and one Kafka; what is not given is found as the command line finds it.

    `timeout_seconds` limits the wait for a callback where a call says nothing else, `retry_limit_seconds`
    how long a service that takes nothing is asked again. WrongSetting, BrokerOutOfReach; of the service
    nothing is asked yet. If reading callbacks breaks, this ends with what broke it.
    """
    given = {"url": url, "bootstrap_servers": bootstrap_servers, "token": token, "context": context}
    found = await asyncio.to_thread(find_addresses, given)
    kafka = found.kafka
    async with open_http(found.url, found.token) as http, open_reader(kafka) as reader:
        dispatcher = Dispatcher(reader, kafka)
        sender = Sender(http, mask_url(found.url), retry_limit_seconds)
        async with _running(dispatcher):
            client = ComparisonClient(sender, dispatcher, kafka, timeout_seconds)
            try:
                yield client
            finally:
                await client.close_listeners()


@asynccontextmanager
async def _running(dispatcher: Dispatcher) -> AsyncIterator[None]:
    """Owns the task that reads; what the body raises passes as it is, not within a group."""
    of_body: Exception | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(dispatcher.run(), name="llmctl-callbacks")
            try:
                yield
            except Exception as problem:  # noqa: BLE001 - raised again below
                of_body = problem
            finally:
                dispatcher.close(ClientClosed("The client was closed before the callback came."))
                reading.cancel()
    except BaseExceptionGroup as problems:
        raise first_problem(problems) from None
    if of_body is not None:
        raise of_body
