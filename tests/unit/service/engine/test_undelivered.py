"""What operators see of parked callbacks, on an outbox of the queue in memory."""

import itertools
from typing import Any
from uuid import uuid4

import pytest

from service.callbacks.refusals import REFUSED_FOR_GOOD
from service.contracts.codec import SealedEnvelope
from service.core.errors import QueueUnavailable, Refused
from service.core.records import Callback, OutboxEntry
from service.engine import undelivered as room
from service.engine.undelivered import Undelivered, explain_refusal
from service.queues.memory import MemoryOutbox

_SEQUENCES = itertools.count(1)


async def park(outbox: MemoryOutbox, topic: str, reason: str = "MESSAGE_TOO_LARGE") -> str:
    """Has a new callback refused for good; its queue id."""
    queue_id = str(uuid4())
    sealed = SealedEnvelope(b"{}", ())
    callback = Callback(queue_id, topic, "key", sealed, success=True, accepted_unix_seconds=1.0)
    outbox.append(OutboxEntry(next(_SEQUENCES), callback, None))
    (entry,) = await outbox.take(1)
    await outbox.park(entry, reason)
    return queue_id


async def test_pages_hold_every_callback_once_and_in_order() -> None:
    """Going on where a page ends gives all, the last page says that it is the last."""
    outbox = MemoryOutbox()
    ids = [await park(outbox, "a") for _ in range(5)]
    undelivered = Undelivered(outbox)

    found, after, sizes = [], 0, []
    while True:
        page = await undelivered.list_page(after, 2, None)
        found += [item.queue_id for item in page.items]
        sizes.append(len(page.items))
        assert page.total == 5
        if page.next is None:
            break
        after = page.next

    assert (found, sizes) == (ids, [2, 2, 1])


async def test_a_full_last_page_is_the_last() -> None:
    """No empty page follows where the number fits."""
    outbox = MemoryOutbox()
    for _ in range(2):
        await park(outbox, "a")

    for topic in (None, "a"):
        assert (await Undelivered(outbox).list_page(0, 2, topic)).next is None


async def test_a_topic_has_its_own_total_and_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the topic's callbacks are counted and listed, also across several reads of the queue."""
    monkeypatch.setattr(room, "READ_AT_ONCE", 2)
    outbox = MemoryOutbox()
    wanted = [(await park(outbox, "a"), await park(outbox, "b"))[1] for _ in range(3)]
    undelivered = Undelivered(outbox)

    first = await undelivered.list_page(0, 2, "b")
    assert first.next is not None
    rest = await undelivered.list_page(first.next, 2, "b")

    assert [item.queue_id for item in (*first.items, *rest.items)] == wanted
    assert (first.total, rest.total, rest.next) == (3, 3, None)


async def test_resend_names_what_was_not_parked() -> None:
    """Known ids are available to be sent again, others are named once each, the rest stays parked."""
    outbox = MemoryOutbox()
    one, other = await park(outbox, "a"), await park(outbox, "a")

    resent = await Undelivered(outbox).resend([one, "unknown", one, "unknown"])
    (entry,) = await outbox.take(10)

    assert (resent.count, resent.not_parked) == (1, ["unknown"])
    assert entry.callback.queue_id == one
    assert [parked.queue_id for parked in await outbox.list_parked(0, 10)] == [other]


async def test_resend_of_all_leaves_nothing_parked() -> None:
    """None stands for every parked callback."""
    outbox = MemoryOutbox()
    for _ in range(3):
        await park(outbox, "a")

    resent = await Undelivered(outbox).resend(None)

    assert (resent.count, list(resent.not_parked), outbox.parked()) == (3, [], 0)


class _Unavailable:
    def parked(self) -> int:
        return 1

    async def list_parked(self, after: int, limit: int) -> Any:
        raise QueueUnavailable("gone")

    async def resend(self, queue_ids: Any) -> int:
        raise QueueUnavailable("gone")


async def test_a_queue_that_cannot_be_used_is_a_refusal_for_now() -> None:
    """Whatever is asked: 503, with a time to come back, and nothing of the file."""
    undelivered = Undelivered(_Unavailable())
    for asked in (undelivered.list_page(0, 1, None), undelivered.resend(["x"]), undelivered.resend(None)):
        with pytest.raises(Refused, match="cannot be used at the moment") as refused:
            await asked
        assert refused.value.status == 503
        assert refused.value.retry_after_seconds


@pytest.mark.parametrize("reason", sorted(REFUSED_FOR_GOOD.values()))
def test_every_refusal_that_parks_is_explained(reason: str) -> None:
    """Each reason the publisher can give has a sentence of its own, and an unknown one a general."""
    general = explain_refusal("SOMETHING_NEW")
    assert explain_refusal(reason) != general
    for sentence in (explain_refusal(reason), general):
        assert sentence.endswith(".")
        assert "resend" in sentence
