"""The callbacks that the broker refused for good: what operators see of them, and sending them again."""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import QueueUnavailable, Refused
from service.core.ports import UndeliveredCallbacks
from service.core.records import ParkedCallback

READ_AT_ONCE = 500
UNAVAILABLE_RETRY_SECONDS = 5

# The names are those of the protocol guide's "Error Codes", the settings those of Kafka's topics.
_EXPLANATIONS = {
    "MESSAGE_TOO_LARGE": (
        "The callback is larger than its topic takes; raise max.message.bytes of the topic, then resend it."
    ),
    "RECORD_LIST_TOO_LARGE": (
        "It came in a batch larger than a log segment; raise segment.bytes of the topic, then resend it."
    ),
    "TOPIC_AUTHORIZATION_FAILED": (
        "The service may not write to the topic; grant its Kafka user WRITE on it, then resend it."
    ),
    "UNKNOWN_TOPIC_OR_PARTITION": (
        "The topic does not exist any more; create it with `llmctl topics bootstrap`, then resend it."
    ),
    "INVALID_TOPIC_EXCEPTION": (
        "Kafka takes no records under this topic name; it is illegal there or kept for Kafka's own use, so "
        "resending helps only after that was changed."
    ),
    "INVALID_TIMESTAMP": (
        "The topic does not take the record's time; compare the clocks of service and broker, and look at "
        "message.timestamp.before.max.ms and message.timestamp.after.max.ms of the topic, then resend it."
    ),
    "UNSUPPORTED_FOR_MESSAGE_FORMAT": (
        "The topic's message format is too old for headers; raise message.format.version of the topic, then "
        "resend it."
    ),
    "POLICY_VIOLATION": (
        "A policy of the Kafka cluster forbids the record; ask whoever runs the cluster, then resend it."
    ),
}


def explain_refusal(reason: str) -> str:
    """What a refusal means and what to do about it, in one sentence; `reason` is Kafka's name of it."""
    return _EXPLANATIONS.get(
        reason,
        "Kafka refused the callback for good; find the reason in the broker's log, mend it, then resend it.",
    )


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the parked callbacks: `total` counts all that were asked for, `next` is where to go on."""

    total: int
    items: Sequence[ParkedCallback]
    next: int | None


@dataclass(frozen=True, slots=True)
class Resent:
    """How many callbacks are on their way again, and which of those asked for were not parked."""

    count: int
    not_parked: Sequence[str]


class Undelivered:
    """What operators do with parked callbacks. Raises `Refused` where the queue's file is out of reach."""

    def __init__(self, callbacks: UndeliveredCallbacks) -> None:
        self._callbacks = callbacks

    async def list_page(self, after: int, limit: int, topic: str | None) -> Page:
        """Up to `limit` parked callbacks of a topic, or of all, whose sequence is greater than `after`."""
        if topic is None:
            found = list(await self._read(after, limit + 1))
            total = self._callbacks.parked()
        else:
            # The port knows no topics; what is parked counts against the queue's limit, so it is not much.
            total, found = 0, []
            async for parked in self._read_all():
                if parked.topic == topic:
                    total += 1
                    if parked.sequence > after and len(found) <= limit:
                        found.append(parked)
        more = len(found) > limit
        items = found[:limit]
        return Page(total, items, items[-1].sequence if more else None)

    async def resend(self, queue_ids: Collection[str] | None) -> Resent:
        """Has these callbacks sent again, None for all; ids that are not parked are left alone and named."""
        try:
            if queue_ids is None:
                return Resent(await self._callbacks.resend(None), ())
            wanted = dict.fromkeys(queue_ids)
            parked = {parked.queue_id async for parked in self._read_all()} & wanted.keys()
            count = await self._callbacks.resend(parked) if parked else 0
        except QueueUnavailable as error:
            raise _refuse_for_now() from error
        return Resent(count, [queue_id for queue_id in wanted if queue_id not in parked])

    async def _read_all(self) -> AsyncIterator[ParkedCallback]:
        after = 0
        while page := await self._read(after, READ_AT_ONCE):
            for parked in page:
                yield parked
            after = page[-1].sequence

    async def _read(self, after: int, limit: int) -> Sequence[ParkedCallback]:
        try:
            return await self._callbacks.list_parked(after, limit)
        except QueueUnavailable as error:
            raise _refuse_for_now() from error


def _refuse_for_now() -> Refused:
    return Refused(
        LLMErrorCode.INTERNAL_ERROR,
        "The queue's file cannot be used at the moment; its log says why. Try again later.",
        retry_after_seconds=UNAVAILABLE_RETRY_SECONDS,
        status=503,
    )
