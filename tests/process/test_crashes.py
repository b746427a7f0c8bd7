"""The promise under SIGKILL: the real service, killed at named points and at any instant, under load."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.process.crashes import ANY_INSTANT, SIGTERM_ANY_INSTANT, Plan, run_crashes
from tests.process.doomed_service import POINTS


@pytest.mark.parametrize("cycles", [20, pytest.param(1000, marks=pytest.mark.long)])
async def test_kills_lose_nothing_change_nothing_and_repeat_nothing(
    cycles: int, tmp_path: Path, record_figures: Callable[[str], None]
) -> None:
    """SIGKILL at all named points under load: each accepted request has one callback, once on its topic."""
    plan = Plan(
        cycles=cycles,
        seed=random.randrange(1_000_000),
        checkpoint_every=min(25, cycles // 2),
    )

    verdict = await run_crashes(plan, tmp_path)

    record_figures(verdict.describe())
    assert verdict.sound, verdict.describe()
    assert verdict.cycles >= cycles
    assert verdict.accepted > cycles
    assert verdict.ended.keys() == {*POINTS, ANY_INSTANT, SIGTERM_ANY_INSTANT}, (
        "some points were never reached"
    )
