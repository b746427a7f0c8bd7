"""Faults that break the promise of the service, which the crash harness must find."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from service.core.records import OutboxEntry
from service.wiring import Service

RESEND_AFTER_SECONDS = 0.3


def _accept_before_commit(service: Service) -> None:
    """`put` returns before the request is on the disk."""
    file = service.queue._file
    original = file.submit

    def submit(statements: Sequence[Any], **options: Any) -> Any:
        done = original(statements, **options)
        if not _writes(statements, "INSERT INTO request "):
            return done
        early: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        early.set_result([])
        return early

    file.submit = submit


def _keep_ended_requests(service: Service) -> None:
    """A request stays in the queue after its outcome is stored."""
    file = service.queue._file
    original = file.submit

    def submit(statements: Sequence[Any], **options: Any) -> Any:
        kept = [each for each in statements if not each.sql.startswith("DELETE FROM request ")]
        return original(kept, **options)

    file.submit = submit


def _delete_before_ack(service: Service) -> None:
    """A callback leaves the outbox before it is sent."""
    outbox, publisher = service.queue.outbox, service.publisher
    take, delivered, publish = outbox.take, outbox.delivered, publisher.publish_to_topic
    taken: dict[int, OutboxEntry] = {}

    async def take_and_remember(*arguments: Any) -> Sequence[OutboxEntry]:
        entries = await take(*arguments)
        taken.update((id(entry.callback.sealed), entry) for entry in entries)
        return entries

    async def delete_once(entries: Sequence[OutboxEntry], written: Any) -> None:
        left = [entry for entry in entries if taken.pop(id(entry.callback.sealed), None)]
        if left:
            await delivered(left, written)

    async def delete_and_publish(*, topic: str, envelope: Any, key: str) -> Any:
        await outbox.delivered([taken[id(envelope)]], {})
        return await publish(topic=topic, envelope=envelope, key=key)

    outbox.take, outbox.delivered, publisher.publish_to_topic = (
        take_and_remember,
        delete_once,
        delete_and_publish,
    )


def _lose_claimed_requests(service: Service) -> None:
    """A start takes up only what was never claimed."""
    queue = service.queue
    original = queue.open

    async def open_without_claimed() -> None:
        with sqlite3.connect(service.settings.queue_path) as connection:
            if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'request'").fetchone():
                connection.execute("DELETE FROM request WHERE attempts > 0")
        connection.close()
        await original()

    queue.open = open_without_claimed


def _resend_while_pending(service: Service) -> None:
    """A send that takes long is given up and made again."""
    original = service.publisher.publish_to_topic

    async def publish(**arguments: Any) -> Any:
        while True:
            try:
                return await asyncio.wait_for(original(**arguments), RESEND_AFTER_SECONDS)
            except TimeoutError:
                continue

    service.publisher.publish_to_topic = publish


def _read_nothing_back(service: Service) -> None:
    """A start sends everything again without looking at the topic."""

    async def find_nothing(*_: Any) -> frozenset[str]:
        return frozenset()

    service.read_back._log.find_standing = find_nothing


def _forget_keys(service: Service) -> None:
    """An idempotency key is never found again."""

    async def recall(*_: Any) -> None:
        return None

    service.queue.recall = recall


def _writes(statements: Sequence[Any], begin: str) -> bool:
    return any(each.sql.startswith(begin) for each in statements)


FAULTS: dict[str, Callable[[Service], None]] = {
    "accept before commit": _accept_before_commit,
    "keep ended requests": _keep_ended_requests,
    "delete before ack": _delete_before_ack,
    "lose claimed requests": _lose_claimed_requests,
    "resend while pending": _resend_while_pending,
    "read nothing back": _read_nothing_back,
    "forget keys": _forget_keys,
}
