"""`llmctl simulate load` as a process: the whole stack, and faulty services that it must convict."""

import asyncio
import gzip
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from llmctl.__main__ import main
from llmctl.jobs.loading import LoadOrder, run_load
from llmctl.render.terminal import open_terminal
from simulator.load.faults import parse_fault
from simulator.load.injector import FaultInjector
from simulator.load.plan import LoadPlan
from simulator.load.referee import Ending, Referee, Where
from simulator.load.reports.folder import read_run
from simulator.load.shape import parse_shape
from tests.conftest import ROOT, Launcher
from tests.waiting import HANG_SECONDS, open_client, until

GENERATOR_LIMITED = 6
"""The exit code of a run that could not send in time."""
SETTLE = ("--settle-timeout", f"{HANG_SECONDS:g}s")

StartBadService = Callable[..., tuple[str, ...]]


async def start_load(*words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "llmctl", "simulate", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )


async def end(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    out, err = await asyncio.wait_for(process.communicate(), HANG_SECONDS)
    assert "Traceback" not in err.decode(), err.decode()
    return process.returncode or 0, out.decode(), err.decode()


async def run_command(*words: str) -> tuple[int, dict[str, Any], str]:
    """Returns the exit code, the document on stdout, and stderr."""
    code, out, err = await end(await start_load("load", *words))
    return code, json.loads(out), err


def unless_limited(code: int, said: dict[str, Any]) -> int:
    """The exit code to expect: a machine too busy to send in time makes it that of a limited generator."""
    return code if said["validity"]["valid"] else GENERATOR_LIMITED


def read_requests(folder: Path) -> list[dict[str, Any]]:
    with gzip.open(folder / "requests.jsonl.gz") as file:
        return [json.loads(line) for line in file]


async def read_service(where: tuple[str, ...]) -> dict[str, Any]:
    async with open_client(where[1]) as client:
        return dict((await client.get("/admin/v1/snapshot")).json())


@pytest.fixture
def bad_service(launcher: Launcher, bootstrap_servers: str) -> StartBadService:
    """Starts a service that breaks its promise; returns the options that point a load at it."""

    def start(*faults: str) -> tuple[str, ...]:
        child = launcher.start("tests.process.bad_service", "--bootstrap-servers", bootstrap_servers, *faults)
        return "--url", child.ready["url"], "--bootstrap-servers", bootstrap_servers

    return start


async def test_a_run_brings_up_its_own_stack_and_reports(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    code, said, err = await run_command(
        *("--rate", "20/s", "--duration", "1s", "--warm-up", "1s", "--seed", "7", *SETTLE),
        *("--threshold", "ledger.missing == 0", "--threshold", "e2e:p99 < 300s", "--report", str(folder)),
    )

    document, lines = read_run(folder), read_requests(folder)
    assert code == unless_limited(0, said), err
    assert set(said["ledger"]) == {
        "accepted", "ok", "failed", "missing", "duplicate", "late", "orphan", "wrong_topic", "wrong_key",
        "corrupt", "rejected",
    }  # fmt: skip
    assert said["ledger"]["accepted"] == said["ledger"]["ok"] == 20 + 20
    assert [each["met"] for each in said["thresholds"]] == [True, True]
    assert said["latency"]["e2e"]["count"] == 20, "the warm-up counts in no figure"
    assert sorted(each.name for each in folder.iterdir()) == [
        "junit.xml", "report.html", "requests.jsonl.gz", "run.json", "summary.md",
    ]  # fmt: skip
    assert (document.exit_code, document.seed, document.ledger.sound) == (code, 7, True)
    assert [span.name for span in document.phases] == ["warm-up", "active", "settle", "quiet"]
    assert document.service.cpu_seconds_per_request is not None
    assert len(lines) == 40
    assert {line["verdict"] for line in lines} == {"ok"}
    assert all(line["intended"] <= line["sent"] <= line["accepted"] for line in lines)
    assert all(line["received"] is not None for line in lines)


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [("--lose", "missing"), ("--double", "duplicate"), ("--misplace-key", "wrong_key")],
)
async def test_a_broken_promise_is_convicted_and_named(
    bad_service: StartBadService, tmp_path: Path, fault: str, verdict: str
) -> None:
    """A single wrong callback is enough for exit 5."""
    where = bad_service(fault, "60")
    # A lost callback ends only with the settle timeout, so others may be missing on a machine that stalls.
    settle = ("--settle-timeout", "3s") if verdict == "missing" else SETTLE
    code, said, err = await run_command(
        *("--rate", "100/s", "--duration", "1s", *settle, "--report", str(tmp_path)), *where
    )

    (wrong,) = (await read_service(where))["wrong"]
    named = {line["queue_id"] for line in read_requests(tmp_path) if line["verdict"] == verdict}
    assert (code, said["exit_code"]) == (5, 5), err
    assert said["ledger"]["accepted"] == 100
    assert wrong in named
    assert said["ledger"][verdict] == len(named)
    assert verdict == "missing" or named == {wrong}
    assert said["examples"][verdict][0] in err
    assert set(said["examples"][verdict]) <= named


async def test_a_good_service_is_acquitted_and_drained(bad_service: StartBadService, tmp_path: Path) -> None:
    """The last callback arrives before the last second of sending is over: draining took no time."""
    code, said, err = await run_command(
        *("--shape", "constant 20/s 1s; constant 1/s 1s", *SETTLE, "--report", str(tmp_path)), *bad_service()
    )

    drain_seconds = read_run(tmp_path).service.drain_seconds
    assert code == unless_limited(0, said), err
    assert said["ledger"]["ok"] == said["ledger"]["accepted"] == 21
    assert drain_seconds is not None
    assert drain_seconds >= 0


async def test_a_slow_service_misses_its_threshold(bad_service: StartBadService) -> None:
    code, said, err = await run_command(
        *("--rate", "20/s", "--duration", "1s", "--threshold", "accept:p99 < 200ms", *SETTLE),
        *bad_service("--delay-seconds", "0.4"),
    )

    (threshold,) = said["thresholds"]
    assert code == unless_limited(4, said), err
    assert (threshold["met"], said["ledger"]["ok"]) == (False, 20)
    assert threshold["value"] > 0.4
    assert code == GENERATOR_LIMITED or "Not met: accept:p99 < 200ms" in err


async def test_a_generator_that_cannot_keep_up_says_so(bad_service: StartBadService) -> None:
    """One open request and a service that takes longer than the gap between two: sends are skipped."""
    wait = bad_service("--delay-seconds", "0.3")
    code, said, err = await run_command(
        "--rate", "50/s", "--duration", "1s", "--max-outstanding", "1", *SETTLE, *wait
    )

    assert code == GENERATOR_LIMITED, err
    assert said["validity"]["valid"] is False
    assert "--workers" in err


async def test_a_closed_loop_keeps_its_number_outstanding_until_it_is_interrupted(
    bad_service: StartBadService, tmp_path: Path
) -> None:
    """Two callers with three requests each: every callback lets one more be sent. Ctrl-C still reports."""
    where = bad_service()
    shape = ("--shape", "closed callers=2 outstanding=3 1h")
    process = await start_load("load", *shape, *SETTLE, "--report", str(tmp_path), *where)

    async def many_are_accepted() -> bool:
        return bool((await read_service(where))["accepted"] > 30)

    await until(many_are_accepted, what="thirty accepted requests")
    process.send_signal(signal.SIGINT)
    code, out, err = await end(process)

    said, lines = json.loads(out), read_requests(tmp_path)
    changes = [(line["sent"], 1) for line in lines] + [
        (line["received"], -1) for line in lines if line["received"]
    ]
    outstanding = most = 0
    for _, change in sorted(changes):
        outstanding += change
        most = max(most, outstanding)
    assert code == 130, err
    assert said["ledger"]["ok"] == said["ledger"]["accepted"] > 30
    assert said["ledger"]["missing"] == 0
    assert most <= 6
    assert read_run(tmp_path).interrupted is True


@pytest.mark.long
async def test_latency_is_corrected_for_a_stalled_service() -> None:
    """Corrected latency starts when a request was due, uncorrected latency when it was sent."""
    _, said, err = await run_command(
        *("--rate", "50/s", "--duration", "6s"),
        *("--fault", "service stall 2s at 2s", "--fault", "service kill at 5s"),
    )

    stall, _ = said["faults"]
    uncorrected, corrected = said["latency"]["e2e"], said["latency"]["e2e_corrected"]
    assert said["ledger"]["missing"] == 0, err
    assert stall["ends"] - stall["begins"] >= 2
    # A third of the requests waited, a second on average.
    assert corrected["p90"] > 1
    assert corrected["p90"] > 2 * uncorrected["p90"]
    assert said["unreachable"] > 0, "it was killed and started again"
    assert said["error_rate"] > 0


async def test_faults_in_a_run_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service is stalled, then killed and started again, and the broker is slow, all under load.

    The run ends once all faults are over and requests are accepted again.
    """
    faults = ("service stall 200ms at 200ms", "service kill at 500ms", "broker slow 200ms 200ms at 1s")
    plan = LoadPlan(
        run_id=f"faults-{uuid4().hex}",
        shape=parse_shape("constant 30/s 1h"),
        seed=1,
        callback_topics=(),
        faults=tuple(map(parse_fault, faults)),
        settle_limit_seconds=HANG_SECONDS,
        quiet_seconds=0.2,
    )
    runs: list[tuple[Referee, FaultInjector]] = []

    def make_referee(plan: LoadPlan, where: Where, injector: FaultInjector) -> Referee:
        runs.append((Referee(plan, where, injector), injector))
        return runs[-1][0]

    monkeypatch.setattr("llmctl.jobs.loading.Referee", make_referee)
    order = LoadOrder(plan, running=None, scenario=None, admin_token=None, report=None)
    ending = Ending()
    run = asyncio.create_task(run_load(order, ending, open_terminal(None)))
    await until(lambda: run.done() or (runs and len(runs[0][1].marks) == 3), what="the end of all faults")
    accepted = runs[0][0].figures.total("accepted")
    await until(lambda: run.done() or runs[0][0].figures.total("accepted") > accepted, what="acceptance")
    ending.ask()
    document = await run

    totals = document.ledger.totals
    assert totals["missing"] == totals["duplicate"] == totals["orphan"] == 0
    assert totals["ok"] == totals["accepted"] > 0
    assert [mark.problem for mark in document.faults] == [None, None, None]


async def run_sweep(*words: str) -> tuple[int, list[dict[str, Any]], str]:
    code, out, err = await end(await start_load("sweep", "--duration", "1s", *words))
    return code, [json.loads(line) for line in out.splitlines()], err


async def test_a_sweep_returns_the_highest_rate_that_holds(bad_service: StartBadService) -> None:
    """It raises the rate until a step fails, which a busy machine may cause, or the highest is reached."""
    code, (*steps, verdict), err = await run_sweep(
        "--from", "20/s", "--to", "30/s", "--threshold", "accept:p99 < 300s", *bad_service()
    )

    held = [step["rate_per_second"] for step in steps if step["validity"]["valid"]]
    assert steps[0]["rate_per_second"] == 20
    assert verdict["highest_per_second"] == max(held, default=None)
    if len(held) == len(steps):
        assert code == 0, err
        assert held == [20, 30]
        assert verdict["failed_per_second"] is None


async def test_a_sweep_in_which_nothing_holds_exits_4(bad_service: StartBadService) -> None:
    code, _, err = await run_sweep(
        "--from", "20/s", "--threshold", "accept:p99 < 200ms", *bad_service("--delay-seconds", "0.4")
    )

    assert code == 4
    assert "Not even 20/s meets accept:p99 < 200ms" in err


async def test_ctrl_c_ends_the_own_stack_too() -> None:
    process = await start_load("load", "--rate", "30/s", "--duration", "1h", *SETTLE)
    assert process.stderr is not None
    said = (await asyncio.wait_for(process.stderr.readline(), HANG_SECONDS)).decode()
    process.send_signal(signal.SIGINT)
    code, out, _ = await end(process)

    assert "seed" in said
    assert code == 130
    assert json.loads(out)["ledger"]["missing"] == 0


async def test_a_second_ctrl_c_waits_for_nothing(bad_service: StartBadService) -> None:
    """What is outstanding then is missing, and no error: the run itself cut it off."""
    where = bad_service("--lose", "1")
    process = await start_load("load", "--rate", "30/s", "--duration", "1h", *SETTLE, *where)

    async def some_are_outstanding() -> bool:
        return bool((await read_service(where))["accepted"] > 10)

    await until(some_are_outstanding, what="ten accepted requests")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while b"Ctrl-C again" not in (said := await asyncio.wait_for(process.stderr.readline(), HANG_SECONDS)):
        assert said, "the run ended by itself"
    process.send_signal(signal.SIGINT)
    code, out, _ = await end(process)

    document = json.loads(out)
    assert code == 130
    assert document["ledger"]["missing"] == document["ledger"]["accepted"] > 10
    assert document["error_rate"] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rate", "fast"), "no rate"),
        (("--shape", "poisson 5/s 1s", "--rate", "5/s"), "leave out --rate"),
        (("--shape", "poison 5/s 1s"), "poisson"),
        (("--threshold", "e2a:p99 < 2s"), "the nearest are"),
        (("--fault", "broker down at 3s"), "takes how long it lasts"),
        (("--fault", "broker cut at 30s", "--duration", "5s"), "comes after the last send"),
        (("--scenario", "no-such"), "no-such"),
        (("--url", "http://127.0.0.1:1"), "name --url and --bootstrap-servers"),
        (("--warm-up", "1s", "--shape", "burst 5"), "leave out --warm-up"),
    ],
)
def test_wrong_words_are_named_before_anything_is_started(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["simulate", "load", *words])

    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert said in err
