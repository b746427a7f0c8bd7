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
    queue_id = str(uuid4())
    sealed = SealedEnvelope(b"{}", ())
    callback = Callback(queue_id, topic, "key", sealed, success=True, accepted_unix_seconds=1.0)
    outbox.append(OutboxEntry(next(_SEQUENCES), callback, None))
    (entry,) = await outbox.take(1)
    await outbox.park(entry, reason)
    return queue_id


async def test_pages_hold_every_callback_once_and_in_order() -> None:
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


async def test_topic_has_its_own_total_and_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "READ_AT_ONCE", 2)
    outbox = MemoryOutbox()
    wanted = [(await park(outbox, "a"), await park(outbox, "b"))[1] for _ in range(3)]
    undelivered = Undelivered(outbox)

    first = await undelivered.list_page(0, 2, "b")
    assert first.next is not None
    rest = await undelivered.list_page(first.next, 2, "b")

    assert [item.queue_id for item in (*first.items, *rest.items)] == wanted
    assert (first.total, rest.total, rest.next) == (3, 3, None)
    assert (await undelivered.list_page(0, 3, "b")).next is None, "a full last page is the last"
    assert (await undelivered.list_page(0, 6, None)).next is None


async def test_resend_names_unknown_ids_once_and_can_take_all() -> None:
    outbox = MemoryOutbox()
    one, *others = [await park(outbox, "a") for _ in range(4)]

    resent = await Undelivered(outbox).resend([one, "unknown", one, "unknown"])
    (entry,) = await outbox.take(10)

    assert (resent.count, resent.not_parked) == (1, ["unknown"])
    assert entry.callback.queue_id == one
    assert [parked.queue_id for parked in await outbox.list_parked(0, 10)] == others

    resent = await Undelivered(outbox).resend(None)
    assert (resent.count, list(resent.not_parked), outbox.parked()) == (3, [], 0)


class _Unavailable:
    def parked(self) -> int:
        return 1

    async def list_parked(self, after: int, limit: int) -> Any:
        raise QueueUnavailable("gone")

    async def resend(self, queue_ids: Any) -> int:
        raise QueueUnavailable("gone")


async def test_unavailable_queue_is_a_503_with_a_wait() -> None:
    undelivered = Undelivered(_Unavailable())
    for asked in (undelivered.list_page(0, 1, None), undelivered.resend(["x"]), undelivered.resend(None)):
        with pytest.raises(Refused, match="cannot be used at the moment") as refused:
            await asked
        assert refused.value.status == 503
        assert refused.value.retry_after_seconds


@pytest.mark.parametrize("reason", sorted(REFUSED_FOR_GOOD.values()))
def test_every_reason_for_parking_is_explained(reason: str) -> None:
    general = explain_refusal("SOMETHING_NEW")
    assert explain_refusal(reason) != general
    for sentence in (explain_refusal(reason), general):
        assert sentence.endswith(".")
        assert "resend" in sentence
