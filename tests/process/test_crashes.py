"""The promise under SIGKILL: the real service, killed at named points and at any instant, under load."""

import random
from pathlib import Path

import pytest

from tests.process.crashes import ANY_INSTANT, SIGTERM_ANY_INSTANT, Plan, run_crashes
from tests.process.doomed_service import POINTS

CYCLES = 30
FULL_CYCLES = 1000


@pytest.mark.process
@pytest.mark.timeout(1900)
async def test_kills_lose_nothing_change_nothing_and_repeat_nothing(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL over all named points under load: each accepted request has one answer, once on the wire."""
    full = request.config.getoption("--full", default=False)
    cycles = FULL_CYCLES if full else CYCLES
    plan = Plan(
        cycles=cycles,
        seed=random.randrange(1_000_000),
        checkpoint_every=25 if full else 10,
        limit_seconds=cycles * 1.5 + 60,
    )
    with capsys.disabled():
        print(f"\n{cycles} cycles, seed {plan.seed}", flush=True)

    verdict = await run_crashes(plan, tmp_path)

    with capsys.disabled():
        print(verdict.describe_at_length())
    assert verdict.sound, verdict.describe_at_length()
    assert verdict.cycles >= cycles
    assert verdict.accepted > cycles
    assert verdict.ended.keys() == {*POINTS, ANY_INSTANT, SIGTERM_ANY_INSTANT}, (
        "some points were never reached"
    )
