"""The client of a program: hands comparisons in and has their callbacks, all over one consumer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, TypedDict, Unpack
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5
from weakref import WeakSet

from llmctl.client.dispatcher import Dispatcher
from llmctl.client.listener import Listener
from llmctl.client.pending import Pending
from llmctl.client.positions import Position
from llmctl.client.problems import TimedOut
from llmctl.client.searching import search
from llmctl.client.sending import Sender
from llmctl.client.starts import Start, find_start
from service.contracts.events import LLMComparisonResultV1
from service.contracts.requests import LLMConfigOverrides
from simulator.kafka_address import KafkaAddress


class RequestOptions(TypedDict, total=False):
    """What a request may say beside its texts and its topic."""

    llm_config_overrides: LLMConfigOverrides
    metadata: Mapping[str, Any]
    """Echoed unchanged as the result's `request_metadata`; at most 16 KiB as JSON."""
    correlation_id: UUID
    """Made where absent."""
    priority: int
    """0 to 9, higher goes first."""
    ttl_seconds: float
    """Not started within so many seconds, the request ends with `LLM_REQUEST_EXPIRED`."""
    idempotency_key: str
    """The same key with the same request is the same request, whoever sends it; a random one where absent."""


class ComparisonClient:
    """What `connect` gives; all of its methods may be called by any number of tasks at once."""

    def __init__(
        self, sender: Sender, dispatcher: Dispatcher, kafka: KafkaAddress, timeout_seconds: float
    ) -> None:
        self._sender = sender
        self._dispatcher = dispatcher
        self._kafka = kafka
        self._timeout_seconds = timeout_seconds
        self._listeners: WeakSet[Listener] = WeakSet()

    async def compare(
        self,
        user_prompt: str,
        essay_a: str,
        essay_b: str,
        *,
        callback_topic: str,
        timeout_seconds: float | None = None,
        **options: Unpack[RequestOptions],
    ) -> LLMComparisonResultV1:
        """Hands a comparison in and waits for its answer, both within the limit.

        Raises Refused, ComparisonFailed, TimedOut and what else `llmctl.client.problems` draws.
        """
        limit_seconds = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        options["idempotency_key"] = key = options.get("idempotency_key") or str(uuid4())
        try:
            async with asyncio.timeout(limit_seconds) as limit:
                pending = await self.submit(
                    user_prompt, essay_a, essay_b, callback_topic=callback_topic, **options
                )
        except TimeoutError as passed:
            if not limit.expired():
                raise
            raise TimedOut(
                f"The request was not known to be accepted within {limit_seconds:g} s; with this error's "
                "idempotency_key it can be handed in again without being answered twice.",
                idempotency_key=key,
            ) from passed
        deadline = limit.when()
        assert deadline is not None
        return await pending.result_until(deadline, limit_seconds)

    async def submit(
        self,
        user_prompt: str,
        essay_a: str,
        essay_b: str,
        *,
        callback_topic: str,
        **options: Unpack[RequestOptions],
    ) -> Pending:
        """Hands a comparison in; what it returns can be awaited for the answer, at once or later."""
        key = options.get("idempotency_key") or str(uuid4())
        # Chosen here, so that a callback that comes before the 202 is known by its key.
        correlation_id = options.get("correlation_id") or uuid5(NAMESPACE_URL, f"llmctl.client:{key}")
        texts = {"user_prompt": user_prompt, "essay_a": essay_a, "essay_b": essay_b}
        body = _encode(texts | {"callback_topic": callback_topic}, options, correlation_id)
        (watch,) = await self._dispatcher.follow((callback_topic,))
        position = self._dispatcher.find_position((callback_topic,))
        with watch.expect(correlation_id) as early:
            accepted = await self._sender.submit(body, key)
            waiter = watch.wait_for(accepted.queue_id, early)
        return Pending(
            accepted.queue_id,
            watch,
            waiter,
            correlation_id=accepted.correlation_id,
            idempotency_key=key,
            position=position,
            timeout_seconds=self._timeout_seconds,
        )

    async def expect(
        self,
        queue_id: str,
        callback_topic: str,
        *,
        start: Start = "end",
        timeout_seconds: float | None = None,
    ) -> Pending:
        """The same for a request that was handed in elsewhere or before.

        What stands on the topic from `start` on is searched; TimedOut where that takes too long.
        """
        limit_seconds = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        (watch,) = await self._dispatcher.follow((callback_topic,))
        waiter, now = watch.wait_for(queue_id), self._dispatcher.find_places((callback_topic,))
        try:
            async with asyncio.timeout(limit_seconds) as limit:
                begin = await find_start(self._dispatcher, (callback_topic,), start)
                await search(self._kafka, queue_id, waiter, begin, now)
        except TimeoutError as passed:
            if not limit.expired():
                raise
            raise TimedOut(
                f"{callback_topic} was not read to its end in {limit_seconds:g} s, looking for {queue_id}.",
                queue_id=queue_id,
                position=start if isinstance(start, Position) else None,
            ) from passed
        return Pending(
            queue_id,
            watch,
            waiter,
            correlation_id=None,
            idempotency_key=None,
            position=Position.of_places(begin),
            timeout_seconds=self._timeout_seconds,
        )

    def callbacks(
        self, *topics: str, start: Start = "end", run_id: str | None = None, all_runs: bool = False
    ) -> Listener:
        """All callbacks of these topics, whosever they are, each event once; for `async for`.

        Those of simulated runs are left out unless one run is named or all are wanted.
        """
        if not topics:
            raise ValueError("callbacks() takes the name of at least one topic")

        def wants(run: str | None) -> bool:
            return all_runs or run == run_id

        listener = Listener(self._dispatcher, self._kafka, tuple(dict.fromkeys(topics)), start, wants)
        self._listeners.add(listener)
        return listener

    async def find_position(self, *topics: str) -> Position:
        """Where the callbacks of these topics stand now: what comes later stands behind it."""
        await self._dispatcher.follow(topics)
        return self._dispatcher.find_position(topics)

    async def cancel(self, queue_id: str) -> bool:
        """Cancels a request; False where nothing of it is queued or under way.

        Its callback comes all the same: whoever awaits it gets ComparisonFailed with LLM_REQUEST_CANCELLED.
        """
        return await self._sender.cancel(queue_id)

    async def close_listeners(self) -> None:
        """Closes what listeners have opened; `connect` does it at the end of its block."""
        # One that another task is stepping through cannot be closed from here: it hears of the end itself.
        await asyncio.gather(*(each.aclose() for each in self._listeners), return_exceptions=True)


def _encode(texts: Mapping[str, str], options: RequestOptions, correlation_id: UUID) -> bytes:
    """The request's body, unchecked: the service is the only judge of what is legal."""
    body: dict[str, Any] = {**texts, "correlation_id": str(correlation_id)}
    overrides = options.get("llm_config_overrides")
    if overrides is not None:
        body["llm_config_overrides"] = overrides.model_dump(mode="json", exclude_none=True)
    for name in ("metadata", "priority", "ttl_seconds"):
        if name in options:
            body[name] = options[name]
    return json.dumps(body, ensure_ascii=False).encode(errors="surrogatepass")
