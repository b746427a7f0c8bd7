"""`undelivered`: shows what the broker refused for good, page by page, and has it sent again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from rich.text import Text

from llmctl.client.operators import (
    RESENT_AT_ONCE,
    OperatorClient,
    UndeliveredCallback,
    open_operator,
)
from llmctl.exits import Failed
from llmctl.render.tables import BAD, DIM, GOOD, cell, make_table
from llmctl.render.terminal import Terminal
from llmctl.targets import Target

PAGE_SIZE = 200
NAMED_AT_MOST = 10
_COLUMNS = ("parked since", "topic", "reason", "queue id", "size")


@dataclass
class _Listing:
    """Walks the service's pages, and keeps how many there are in all."""

    operator: OperatorClient
    topic: str | None
    total: int = 0

    async def walk(self, limit: int) -> AsyncIterator[UndeliveredCallback]:
        after: int | None = 0
        while after is not None and limit > 0:
            page = await self.operator.list_undelivered(after, min(limit, PAGE_SIZE), self.topic)
            self.total = page.total
            for item in page.items:
                yield item
            limit -= len(page.items)
            after = page.next


async def list_and_report(target: Target, terminal: Terminal, *, topic: str | None, limit: int) -> None:
    """Shows up to `limit` undelivered callbacks, and says on stderr how many there are and what to do."""
    table = make_table(_COLUMNS, right=("size",), flexible=("topic", "reason"))
    shown = 0
    advice: dict[str, str] = {}
    async with open_operator(target.url, target.bearer_token) as operator:
        listing = _Listing(operator, topic)
        async for each in listing.walk(limit):
            shown += 1
            advice[each.reason] = each.message
            if terminal.as_json:
                terminal.write(each.document)
            else:
                table.add_row(*_render(each))
    where = "" if topic is None else f" for {topic}"
    if not shown:
        terminal.say(f"No callback{where} is undelivered.", GOOD)
        return
    if not terminal.as_json:
        terminal.show(table)
    _explain(terminal, listing.total, shown, where, advice)


async def resend_and_report(queue_ids: Sequence[str] | None, target: Target, terminal: Terminal) -> None:
    """Has callbacks sent again, None for all; Failed naming those that were not parked."""
    count = 0
    not_parked: list[str] = []
    orders: list[Sequence[str] | None] = [None]
    if queue_ids is not None:
        wanted = list(dict.fromkeys(queue_ids))
        orders = [wanted[start : start + RESENT_AT_ONCE] for start in range(0, len(wanted), RESENT_AT_ONCE)]
    async with open_operator(target.url, target.bearer_token) as operator:
        for order in orders:
            resent = await operator.resend(order)
            count += resent.count
            not_parked += resent.not_parked
    if terminal.as_json:
        terminal.write({"resent": count, "not_parked": not_parked})
    elif count or not not_parked:
        terminal.show(cell(_say_resent(count), GOOD, wrap=True))
    if not_parked:
        raise Failed(f"Not undelivered, so not sent again: {_name(not_parked)}.")


def _render(callback: UndeliveredCallback) -> tuple[Text, ...]:
    return (
        cell(callback.parked_at.astimezone().strftime("%m-%d %H:%M"), DIM),
        cell(callback.topic, wrap=True),
        cell(callback.reason, BAD, wrap=True),
        cell(callback.queue_id),
        cell(_say_size(callback.size_bytes)),
    )


def _say_size(size_bytes: int) -> str:
    kibibytes = size_bytes / 1024
    if kibibytes < 1:
        return f"{size_bytes} B"
    return f"{kibibytes:.1f} KiB" if kibibytes < 1000 else f"{kibibytes / 1024:.1f} MiB"


def _explain(terminal: Terminal, total: int, shown: int, where: str, advice: dict[str, str]) -> None:
    rest = f", {shown} of them shown (--limit shows more)" if shown < total else ""
    terminal.say(f"{_count(total, where)} undelivered{rest}; nothing of them is lost.")
    for reason, message in advice.items():
        terminal.say(f"{reason}: {message}")
    terminal.say("`llmctl undelivered resend QUEUE_ID…`, or `--all`, sends them again.")


def _count(number: int, where: str = "") -> str:
    return f"{number} callback{where} is" if number == 1 else f"{number} callbacks{where} are"


def _say_resent(count: int) -> str:
    if not count:
        return "No callback is undelivered; nothing was sent again."
    return f"{_count(count)} handed to the broker again; what it refuses again comes back to this list."


def _name(queue_ids: Sequence[str]) -> str:
    named = ", ".join(queue_ids[:NAMED_AT_MOST])
    rest = len(queue_ids) - NAMED_AT_MOST
    return f"{named} and {rest} more" if rest > 0 else named
