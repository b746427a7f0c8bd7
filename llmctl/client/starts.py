"""Where reading begins, whether in the past or now."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from llmctl.client.dispatcher import Dispatcher
from llmctl.client.positions import Place, Position
from llmctl.client.problems import PositionLost

Start = Position | Literal["end", "beginning"]
"""A position, with what comes from now on, or with the oldest that there is."""


async def find_start(dispatcher: Dispatcher, topics: Collection[str], start: Start) -> dict[Place, int]:
    """The offsets to begin with, of topics that are followed; PositionLost where a topic ends before."""
    now = dispatcher.find_places(topics)
    if start == "end":
        return now
    if start == "beginning":
        return await dispatcher.find_beginnings(now)
    wanted = start.places_of(topics)
    ahead = {place for place, offset in wanted.items() if offset > now.get(place, -1)}
    if ahead:
        ends = await dispatcher.find_ends(ahead & now.keys())
        beyond = {place for place in ahead if wanted[place] > ends.get(place, -1)}
        if beyond:
            raise await _refuse(dispatcher, wanted, beyond, now.keys())
    new = now.keys() - wanted.keys()  # partitions that were added since
    return wanted | (await dispatcher.find_beginnings(new) if new else {})


async def _refuse(
    dispatcher: Dispatcher, wanted: dict[Place, int], beyond: set[Place], existing: Collection[Place]
) -> PositionLost:
    said = ", ".join(f"{topic}/{partition}" for topic, partition in sorted(beyond))
    left = {place: offset for place, offset in wanted.items() if place in existing and place not in beyond}
    there = [place for place in beyond if place in existing]
    begin = await dispatcher.find_beginnings(there) if there else {}
    return PositionLost(
        f"The position is beyond the end of {said}: the topic was made anew; this error's position goes on.",
        Position.of_places(left | begin),
    )
