"""While the service refuses, senders try one at a time, after the pause it asked for, and not for ever."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from llmctl.client.patience import Patience
from tests.waiting import HANG_SECONDS

PAUSE_SECONDS = 0.02


async def test_senders_go_one_at_a_time_until_the_service_takes_a_request() -> None:
    """Of five senders each attempt is alone, and none is made before its pause is over."""
    patience = Patience(HANG_SECONDS)
    async with asyncio.timeout(HANG_SECONDS), patience.turn(), patience.turn():
        pass  # nothing was refused yet, so all go at once
    refusals, inside, most = 3, 0, 0
    at: list[float] = []
    began = time.monotonic()
    patience.bear("full", PAUSE_SECONDS, began)

    async def send() -> None:
        nonlocal refusals, inside, most
        while True:
            async with patience.turn():
                inside += 1
                most = max(most, inside)
                at.append(time.monotonic())
                await asyncio.sleep(0)
                inside -= 1
                if not refusals:
                    patience.open()
                    return
                refusals -= 1
                assert patience.bear("full", PAUSE_SECONDS, time.monotonic())

    async with asyncio.timeout(HANG_SECONDS), asyncio.TaskGroup() as tasks:
        for _ in range(5):
            tasks.create_task(send())
    assert (most, len(at)) == (1, 8)
    assert all(at[number] - began >= (number + 1) * PAUSE_SECONDS for number in range(4))
    async with asyncio.timeout(HANG_SECONDS), patience.turn(), patience.turn():
        pass


def test_the_limit_counts_from_the_first_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """An accepted request starts it again; a lost answer is asked for a little longer."""
    now = 5000.0
    monkeypatch.setattr("llmctl.client.patience.time", SimpleNamespace(monotonic=lambda: now))
    patience = Patience(1000.0)
    assert patience.bear("full", 100.0, now - 850)
    assert not patience.bear("full", 200.0, now)  # 850 s have passed, and 200 more are beyond the limit
    patience = Patience(1000.0)
    assert patience.bear("full", 100.0, now - 850)
    patience.open()
    assert patience.bear("full", 200.0, now)
    assert not Patience(0.0).bear("full", 0.0, now - 1)
    assert Patience(0.0).bear("away", 1.0, now, at_least_seconds=100.0)


def test_each_stop_and_each_resumption_is_reported_once() -> None:
    reported: list[str | None] = []
    patience = Patience(HANG_SECONDS, reported.append)
    patience.open()
    patience.bear("full", 1.0, time.monotonic())
    patience.open()
    patience.open()
    assert reported == ["full", None]
