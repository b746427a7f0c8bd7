"""The harness finds what each fault breaks, and nothing else."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.process.crashes import CHARGES, SIGTERM_ANY_INSTANT, Plan, run_crashes
from tests.process.faults import FAULTS

SEED = 4


@dataclass(frozen=True)
class Case:
    """A fault, the point and number of kills, and what the harness must find."""

    fault: str
    point: str
    cycles: int
    charges: set[str]
    possible: set[str] = field(default_factory=set)
    """What it may find too, depending on a race."""
    slow_milliseconds: int = 0


CASES = (
    Case("accept before commit", "before-durable-commit", 6, {"lost"}, {"ghosts"}),
    Case("keep ended requests", "after-delete", 2, {"changed", "asked_again"}),
    Case("delete before ack", "after-delete", 4, {"lost"}),
    Case("lose claimed requests", "claimed-before-call", 2, {"lost"}),
    Case("resend while pending", SIGTERM_ANY_INSTANT, 1, {"repeated"}, slow_milliseconds=1300),
    Case("read nothing back", "after-broker-ack-before-delete", 3, {"repeated"}),
    Case("forget keys", "after-commit-before-202", 2, {"ghosts"}),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.fault)
async def test_harness_finds_what_a_fault_breaks(case: Case, tmp_path: Path) -> None:
    plan = Plan(
        cycles=case.cycles,
        seed=SEED,
        checkpoint_every=case.cycles,
        points=(case.point,),
        opening=(),
        slow_share=1.0 if case.slow_milliseconds else 0.0,
        slow_milliseconds=(case.slow_milliseconds,),
        fault=case.fault,
    )

    verdict = await run_crashes(plan, tmp_path)

    found = {charge for charge in CHARGES if getattr(verdict, charge)}
    assert case.charges <= found <= case.charges | case.possible, verdict.describe()
    assert not verdict.sound


def test_every_fault_is_tried() -> None:
    assert {case.fault for case in CASES} == set(FAULTS)
