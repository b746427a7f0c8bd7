"""Looks for the callback of one request in what stands on its topic already."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from llmctl.client.arrivals import Arrival
from llmctl.client.awaiting import Waiter
from llmctl.client.positions import Place, Position
from llmctl.client.problems import BrokerOutOfReach, PositionLost
from llmctl.client.topic_reader import Gap, ReadingHindered, open_reader
from simulator.kafka_address import KafkaAddress

READ_LIMIT_SECONDS = 1.0
RETRY_PAUSE_SECONDS = 1.0

log = logging.getLogger("llmctl.client")


async def search(
    kafka: KafkaAddress, queue_id: str, waiter: Waiter, begin: Mapping[Place, int], ends: Mapping[Place, int]
) -> None:
    """Reads from one place to the other, with a consumer of its own, until the waiter has its callback."""
    if all(begin.get(place, 0) >= offset for place, offset in ends.items()):
        return
    async with open_reader(kafka) as reader:
        reader.put({place: begin.get(place, 0) for place in ends})
        while not waiter.is_settled and any(reader.places[place] < ends[place] for place in ends):
            try:
                records = await reader.read(READ_LIMIT_SECONDS)
            except Gap as gap:
                raise PositionLost(str(gap), Position.of_places({**reader.places})) from gap
            except (ReadingHindered, BrokerOutOfReach) as hindrance:
                log.warning("%s", hindrance)
                await asyncio.sleep(RETRY_PAUSE_SECONDS)
                continue
            for arrival in map(Arrival, records):
                if arrival.request_id == queue_id:
                    waiter.take(arrival)
