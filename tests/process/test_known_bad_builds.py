"""The harness's own test: builds of the service that are known to break the promise are convicted of it.

A bad build is the package with a few lines replaced, in a copy. Each old text must stand there exactly once,
so that no build can turn good unnoticed; and the same copy without a replacement must be found sound.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.process.crashes import SIGTERM_ANY_INSTANT, Plan, run_crashes
from tests.waiting import HANG_SECONDS

SEED = 4
CHARGES = ("lost", "changed", "repeated", "ghosts", "wrong", "asked_again")


@dataclass(frozen=True)
class Replacement:
    """What a bad build says instead, in one file of the package."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class BadBuild:
    """A build, where it is ended and how often, and what it must be convicted of."""

    name: str
    replacements: tuple[Replacement, ...]
    points: tuple[str, ...]
    cycles: int
    charges: frozenset[str]
    perhaps: frozenset[str] = frozenset()
    """What may follow from it, as the race goes."""
    slow_milliseconds: int = 0


DELETE_BEFORE_THE_ACK = BadBuild(
    "delete before the ack",
    (
        Replacement(
            "engine/relay.py",
            "        callback, entry = send.callback, send.entry\n        try:\n",
            "        callback, entry = send.callback, send.entry\n"
            "        await self._outbox.delivered([entry], {})\n        try:\n",
        ),
        Replacement(
            "engine/relay.py",
            "self._outbox.delivered([send.entry for send in batch], ",
            "self._outbox.delivered([], ",
        ),
    ),
    points=("after-delete",),
    cycles=4,
    charges=frozenset({"lost"}),
)
CLAIMS_KEPT_ON_DISK = BadBuild(
    "claims kept on disk",
    (
        Replacement(
            "queues/sqlite/queue.py",
            "FROM request ORDER BY sequence",
            "FROM request WHERE attempts = 0 ORDER BY sequence",
        ),
    ),
    points=("claimed-before-call",),
    cycles=2,
    charges=frozenset({"lost"}),
)
RESEND_WHILE_ONE_IS_PENDING = BadBuild(
    "resend while one is pending",
    (
        Replacement(
            "engine/relay.py",
            "            place = await self._publisher.publish_to_topic(\n"
            "                topic=callback.topic, envelope=callback.sealed, key=callback.key\n"
            "            )\n",
            "            place = None\n"
            "            while place is None:\n"
            "                try:\n"
            "                    place = await asyncio.wait_for(\n"
            "                        self._publisher.publish_to_topic(\n"
            "                            topic=callback.topic, envelope=callback.sealed, key=callback.key\n"
            "                        ),\n"
            "                        1.0,\n"
            "                    )\n"
            "                except TimeoutError:\n"
            "                    continue\n",
        ),
    ),
    points=(SIGTERM_ANY_INSTANT,),
    cycles=1,
    charges=frozenset({"repeated"}),
    slow_milliseconds=1300,
)
NOTHING_READ_BACK = BadBuild(
    "nothing read back",
    (
        Replacement(
            "engine/readback.py",
            "standing = await self._find_standing(topic, frozenset(doubt.event_id for doubt in doubts))",
            "standing: frozenset[str] = frozenset()",
        ),
    ),
    points=("after-broker-ack-before-delete",),
    cycles=3,
    charges=frozenset({"repeated"}),
)
SAME_REQUEST_UNDER_TWO_IDS = BadBuild(
    "keys forgotten",
    (
        Replacement(
            "queues/sqlite/queue.py",
            "        if not rows:\n            return None\n        queue_id, correlation_id",
            "        if rows is not None:\n            return None\n        queue_id, correlation_id",
        ),
    ),
    points=("after-commit-before-202",),
    cycles=2,
    charges=frozenset({"ghosts"}),
)
ACCEPTED_BEFORE_THE_COMMIT = BadBuild(
    "accepted before the commit",
    (
        Replacement(
            "queues/sqlite/queue.py",
            "        await self._file.submit(statements, on_commit=offer)\n",
            "        self._file.submit(statements, on_commit=offer)\n",
        ),
    ),
    points=("before-durable-commit",),
    cycles=6,
    charges=frozenset({"lost"}),
    perhaps=frozenset({"ghosts"}),
)
REQUEST_KEPT_AFTER_ITS_OUTCOME = BadBuild(
    "request kept after its outcome",
    (Replacement("queues/sqlite/queue.py", "            Statement(_LEAVE_QUEUE, (claim.sequence,)),\n", ""),),
    points=("after-delete",),
    cycles=2,
    charges=frozenset({"changed", "asked_again"}),
)
BAD_BUILDS = (
    ACCEPTED_BEFORE_THE_COMMIT,
    REQUEST_KEPT_AFTER_ITS_OUTCOME,
    DELETE_BEFORE_THE_ACK,
    CLAIMS_KEPT_ON_DISK,
    RESEND_WHILE_ONE_IS_PENDING,
    NOTHING_READ_BACK,
    SAME_REQUEST_UNDER_TWO_IDS,
)
UNREFERENCED_TASKS = (
    Replacement(
        "engine/pool.py",
        "calls.create_task(self._work(claim)",
        "asyncio.get_running_loop().create_task(self._work(claim)",
    ),
)

Build = Callable[[tuple[Replacement, ...]], Path]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Copies the package into a folder of its own, with replacements."""

    def make(replacements: tuple[Replacement, ...]) -> Path:
        root = tmp_path / "build"
        shutil.copytree(ROOT / "service", root / "service", ignore=shutil.ignore_patterns("__pycache__"))
        for replacement in replacements:
            path = root / "service" / replacement.file
            text = path.read_text()
            assert text.count(replacement.old) == 1, f"{replacement.file} has changed, mend this bad build"
            path.write_text(text.replace(replacement.old, replacement.new))
        return root

    return make


def plan_for(service_root: Path, bad: BadBuild) -> Plan:
    """A short run against a build."""
    return Plan(
        cycles=bad.cycles,
        seed=SEED,
        checkpoint_every=bad.cycles,
        points=bad.points,
        opening=(),
        slow_share=1.0 if bad.slow_milliseconds else 0.0,
        slow_milliseconds=(bad.slow_milliseconds,),
        service_root=service_root,
    )


@pytest.mark.parametrize("bad", BAD_BUILDS, ids=lambda bad: bad.name)
async def test_bad_build_is_convicted(build: Build, tmp_path: Path, bad: BadBuild) -> None:
    """The harness finds what this build does wrong, and charges it with nothing else."""
    verdict = await run_crashes(plan_for(build(bad.replacements), bad), tmp_path)

    convicted = {charge for charge in CHARGES if getattr(verdict, charge)}
    assert bad.charges <= convicted <= bad.charges | bad.perhaps, verdict.describe_at_length()
    assert not verdict.sound


@pytest.mark.parametrize("bad", BAD_BUILDS, ids=lambda bad: bad.name)
async def test_same_run_acquits_the_good_build(build: Build, tmp_path: Path, bad: BadBuild) -> None:
    """The run that convicts a bad build finds nothing in a copy that nobody touched."""
    verdict = await run_crashes(plan_for(build(()), bad), tmp_path)

    assert verdict.sound, verdict.describe_at_length()
    assert sum(verdict.ended.values()) == bad.cycles


@pytest.mark.parametrize(
    ("replacements", "code"),
    [(UNREFERENCED_TASKS, pytest.ExitCode.TESTS_FAILED), ((), pytest.ExitCode.OK)],
    ids=["unreferenced tasks", "good build"],
)
def test_pool_that_keeps_no_tasks_is_convicted(
    build: Build, tmp_path: Path, replacements: tuple[Replacement, ...], code: pytest.ExitCode
) -> None:
    """The pool's own test sees requests vanish where the loop alone holds their tasks."""
    root = build(replacements)
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            f"{ROOT}/tests/unit/service/engine/test_pool.py",
            "-k",
            "nobody_else_refers",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(root), str(ROOT)))},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )

    assert done.returncode == code, done.stdout
    assert ("requests vanished" in done.stdout) == bool(replacements)
