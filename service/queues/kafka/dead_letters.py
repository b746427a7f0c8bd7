"""What cannot go its way, on a topic of its own: callbacks that were refused, records that are no request.

The topic is compacted. A callback stands under its queue id until an operator has it sent again and the
broker takes it; then a record without a value removes it. It stands on the partition of its request's
number, modulo that of the topic, so that whoever owns the request's partition finds it.
"""

from collections.abc import Collection
from dataclasses import fields

import orjson
import structlog

from service.contracts.codec import SealedEnvelope
from service.core.records import Callback, ParkedCallback
from service.queues.kafka.log import KafkaLog, Record
from service.queues.kafka.notes import Answered, read_note, write_note
from service.queues.kafka.outbox import SetAside
from service.queues.kafka.partition import locate_request
from service.queues.kafka.writer import KafkaWriter, RecordTooLarge

PARKED_HEADER = "parked"
REASON_HEADER = "reason"
ORIGIN_HEADER = "origin"

_log = structlog.get_logger("service.queue")


class DeadLetters:
    """The dead-letter topic. Raises `QueueUnavailable`."""

    def __init__(self, writer: KafkaWriter, log: KafkaLog, topic: str) -> None:
        self._writer = writer
        self._log = log
        self._topic = topic
        self._partitions = 1

    def spread(self, partitions: int) -> None:
        """The topic has so many partitions."""
        self._partitions = partitions

    async def set_aside(self, callback: Callback, parked: ParkedCallback) -> None:
        """Keeps a callback that the broker refused for good."""
        number, offset = locate_request(parked.sequence)
        note = write_note(Answered(offset, callback), str(number))
        about = orjson.dumps([getattr(parked, field.name) for field in fields(ParkedCallback)])
        record = SealedEnvelope(
            note.value,
            (*note.headers, (PARKED_HEADER, about), (REASON_HEADER, parked.reason.encode())),
        )
        await self._writer.write(self._topic, number % self._partitions, parked.queue_id, record)

    async def take_up(self, parked: ParkedCallback) -> None:
        """Forgets a callback that was delivered after all."""
        number, _ = locate_request(parked.sequence)
        await self._writer.write(
            self._topic, number % self._partitions, parked.queue_id, SealedEnvelope(b"", ())
        )

    async def bury(self, topic: str, record: Record, reason: str) -> None:
        """Keeps a record that is no request, as it is; without its value where that is too large."""
        origin = f"{topic}-{record.partition}-{record.offset}"
        headers = (
            (ORIGIN_HEADER, origin.encode()),
            (REASON_HEADER, reason.encode()),
            ("key", record.key or b""),
        )
        number = record.partition % self._partitions
        try:
            await self._writer.write(
                self._topic, number, origin, SealedEnvelope(record.value or b"", headers)
            )
        except RecordTooLarge:
            await self._writer.write(self._topic, number, origin, SealedEnvelope(b"too large", headers))

    async def read_set_aside(self, partitions: Collection[int]) -> list[SetAside]:
        """The callbacks that are set aside, of requests on these partitions."""
        found: dict[str, SetAside] = {}

        def read(record: Record) -> None:
            queue_id = (record.key or b"").decode("utf-8", "replace")
            about = dict(record.headers).get(PARKED_HEADER)
            if about is None:
                found.pop(queue_id, None)
                return
            try:
                note, partition = read_note(record.headers, record.value)
                parked = ParkedCallback(*orjson.loads(about))
                mine = int(partition) in partitions
            except (ValueError, TypeError) as error:
                _log.error("a dead letter cannot be read", queue_id=queue_id, error=type(error).__name__)
                return
            if mine and isinstance(note, Answered):
                found[queue_id] = SetAside(note.callback, parked, perhaps_sent=True)

        for number in {each % self._partitions for each in partitions}:
            await self._log.read_all(self._topic, number, read)
        return list(found.values())
