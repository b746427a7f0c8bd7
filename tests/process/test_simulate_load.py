"""`llmctl simulate load` as a process: the whole stack, and bad services that it must convict."""

import asyncio
import gzip
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator.load.reports.folder import read_run
from tests.conftest import ROOT, Launcher
from tests.waiting import HANG_SECONDS, open_client, until

GENERATOR_LIMITED = 6
"""The exit code of a run that could not send in time."""
MEASURE_TIMES = 3


async def start_load(*words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "llmctl",
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )


async def end(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    out, err = await asyncio.wait_for(process.communicate(), HANG_SECONDS)
    assert "Traceback" not in err.decode(), err.decode()
    return process.returncode or 0, out.decode(), err.decode()


async def run_load(*words: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the document on stdout, and what was said."""
    code, out, err = await end(await start_load("simulate", "load", *words))
    return code, json.loads(out) if out else {}, err


async def measure_load(*words: str) -> tuple[int, dict[str, Any], str]:
    """As `run_load`, and again where the machine was too busy for the run to measure anything."""
    for _ in range(MEASURE_TIMES - 1):
        code, said, err = await run_load(*words)
        if code != GENERATOR_LIMITED:
            return code, said, err
    return await run_load(*words)


@pytest.fixture
def bad_service(launcher: Launcher, bootstrap_servers: str) -> Callable[..., tuple[str, ...]]:
    """Starts a service that breaks its promise; the options that point a load at it."""

    def start(*faults: str) -> tuple[str, ...]:
        child = launcher.start("tests.process.bad_service", "--bootstrap-servers", bootstrap_servers, *faults)
        return "--url", child.ready["url"], "--bootstrap-servers", bootstrap_servers

    return start


async def test_a_run_brings_up_its_own_stack_and_reports(tmp_path: Path) -> None:
    """One command, nothing running: load, ledger, thresholds, and every file of the report."""
    folder = tmp_path / "report"
    code, said, err = await measure_load(
        *("--rate", "40/s", "--duration", "3s", "--warm-up", "1s", "--seed", "7"),
        *("--threshold", "ledger.missing == 0", "--threshold", "e2e:p99 < 30s", "--report", str(folder)),
    )

    document = read_run(folder)
    with gzip.open(folder / "requests.jsonl.gz") as file:
        lines = [json.loads(line) for line in file]
    assert code == 0, err
    assert set(said["ledger"]) == {
        "accepted", "ok", "failed", "missing", "duplicate", "late", "orphan", "wrong_topic", "wrong_key",
        "corrupt", "rejected",
    }  # fmt: skip
    assert said["ledger"]["accepted"] == said["ledger"]["ok"] == 40 + 120
    assert [each["met"] for each in said["thresholds"]] == [True, True]
    assert said["latency"]["e2e"]["count"] == 120, "the warm-up counts in no figure"
    assert sorted(each.name for each in folder.iterdir()) == [
        "junit.xml", "report.html", "requests.jsonl.gz", "run.json", "summary.md",
    ]  # fmt: skip
    assert (document.exit_code, document.seed, document.ledger.sound) == (0, 7, True)
    assert [span.name for span in document.phases] == ["warm-up", "active", "settle", "quiet"]
    assert document.service.cpu_seconds_per_request is not None
    assert len(lines) == 160
    assert {line["verdict"] for line in lines} == {"ok"}
    assert all(line["intended"] <= line["sent"] <= line["accepted"] for line in lines)
    assert all(line["received"] is not None for line in lines)


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [("--lose", "missing"), ("--double", "duplicate"), ("--misplace-key", "wrong_key")],
)
async def test_a_broken_promise_is_convicted_and_named(
    bad_service: Callable[..., tuple[str, ...]], tmp_path: Path, fault: str, verdict: str
) -> None:
    """One callback in a thousand is enough for exit 5, and its id is told."""
    where = bad_service(fault, "1000")
    code, said, err = await run_load(
        *("--rate", "300/s", "--duration", "5s", "--settle-timeout", "3s", "--report", str(tmp_path)), *where
    )

    (queue_id,) = said["examples"][verdict]
    with gzip.open(tmp_path / "requests.jsonl.gz") as file:
        (told,) = [line for line in map(json.loads, file) if line["verdict"] == verdict]
    assert (code, said["exit_code"]) == (5, 5), err
    assert said["ledger"]["accepted"] == 1500
    assert said["ledger"][verdict] == 1
    assert queue_id in err
    assert told["queue_id"] == queue_id


async def test_a_good_service_is_acquitted(bad_service: Callable[..., tuple[str, ...]]) -> None:
    """The same stand-in without a fault: it is the fault that convicts the others."""
    code, said, err = await measure_load("--rate", "300/s", "--duration", "2s", *bad_service())

    assert code == 0, err
    assert said["ledger"]["ok"] == said["ledger"]["accepted"] == 600


async def test_what_is_done_before_the_end_took_no_time_to_drain(
    bad_service: Callable[..., tuple[str, ...]], tmp_path: Path
) -> None:
    """The last request is called back long before the last second of sending is over."""
    await run_load("--shape", "constant 1/s 3s", "--report", str(tmp_path), *bad_service())

    drain_seconds = read_run(tmp_path).service.drain_seconds
    assert drain_seconds is not None
    assert drain_seconds >= 0


async def test_a_slow_service_misses_its_threshold(bad_service: Callable[..., tuple[str, ...]]) -> None:
    """Exit 4 where callbacks are right and late."""
    code, said, err = await measure_load(
        *("--rate", "30/s", "--duration", "2s", "--threshold", "accept:p99 < 200ms"),
        *bad_service("--delay-seconds", "0.4"),
    )

    (threshold,) = said["thresholds"]
    assert code == 4, err
    assert (threshold["met"], said["ledger"]["ok"]) == (False, 60)
    assert threshold["value"] > 0.4
    assert "Not met: accept:p99 < 200ms" in err


async def test_a_generator_that_cannot_keep_up_says_so(bad_service: Callable[..., tuple[str, ...]]) -> None:
    """Exit 6: what was asked of it is more than any process sends, so nothing is said of the service."""
    code, said, err = await run_load(
        *("--rate", "100000/s", "--duration", "1s", "--max-outstanding", "50", "--settle-timeout", "20s"),
        *bad_service(),
    )

    assert code == 6, err
    assert said["validity"]["valid"] is False
    assert "--workers" in err


async def test_a_closed_loop_keeps_so_many_outstanding() -> None:
    """Each callback lets the next request be sent: two callers with three requests each, never more."""
    code, said, err = await measure_load("--shape", "closed callers=2 outstanding=3 3s")

    assert code == 0, err
    assert said["ledger"]["ok"] == said["ledger"]["accepted"] > 30
    assert said["service"]["peak_queue_depth"] <= 6


async def test_a_stall_parts_corrected_from_uncorrected_latency() -> None:
    """Who waited at the door of a service that stood still is counted from when it was due."""
    _, said, err = await run_load("--rate", "50/s", "--duration", "5s", "--fault", "service stall 2s at 2s")

    (fault,) = said["faults"]
    uncorrected, corrected = said["latency"]["e2e"], said["latency"]["e2e_corrected"]
    assert said["ledger"]["missing"] == 0, err
    assert fault["problem"] is None
    assert fault["ends"] - fault["begins"] >= 2
    # Two of five seconds' requests waited, a second on average.
    assert corrected["p90"] > 1
    assert corrected["p90"] > 2 * uncorrected["p90"]


async def test_a_kill_in_the_run_loses_nothing() -> None:
    """The service is killed and started again under load: what was in doubt is cleared up, none is lost."""
    code, said, err = await run_load(
        "--rate", "50/s", "--duration", "6s", "--fault", "service kill at 2s", "--fault", "broker cut at 4s"
    )

    assert said["ledger"]["missing"] == said["ledger"]["duplicate"] == said["ledger"]["orphan"] == 0, err
    assert said["ledger"]["ok"] == said["ledger"]["accepted"] > 100
    assert [mark["problem"] for mark in said["faults"]] == [None, None]
    assert said["unreachable"] > 0, "while it was away its door was shut"
    assert said["error_rate"] > 0
    assert code in {0, GENERATOR_LIMITED}


async def run_sweep(*words: str) -> tuple[int, list[dict[str, Any]], str]:
    code, out, err = await end(await start_load("simulate", "sweep", "--duration", "1s", *words))
    return code, [json.loads(line) for line in out.splitlines()], err


async def test_a_sweep_says_the_highest_rate_that_holds(bad_service: Callable[..., tuple[str, ...]]) -> None:
    """It doubles the rate until a step fails or there is no more to try."""
    where = bad_service()
    for _ in range(MEASURE_TIMES):
        code, (*steps, verdict), err = await run_sweep(
            "--from", "20/s", "--to", "50/s", "--threshold", "accept:p99 < 5s", *where
        )
        if all(step["validity"]["valid"] for step in steps):
            break

    assert code == 0, err
    assert [step["rate_per_second"] for step in steps] == [20, 40, 50]
    assert verdict == {"highest_per_second": 50, "failed_per_second": None}


async def test_a_sweep_in_which_nothing_holds_exits_4(bad_service: Callable[..., tuple[str, ...]]) -> None:
    """The service is too slow for any rate."""
    code, _, err = await run_sweep(
        "--from", "20/s", "--threshold", "accept:p99 < 200ms", *bad_service("--delay-seconds", "0.4")
    )

    assert code == 4
    assert "Not even 20/s meets accept:p99 < 200ms" in err


async def test_ctrl_c_ends_early_and_still_reports(tmp_path: Path) -> None:
    """Exit 130, and the report holds what was measured until then."""
    process = await start_load(
        "simulate", "load", "--rate", "30/s", "--duration", "10m", "--report", str(tmp_path)
    )
    assert process.stderr is not None
    said = (await asyncio.wait_for(process.stderr.readline(), HANG_SECONDS)).decode()
    process.send_signal(signal.SIGINT)
    code, out, _ = await end(process)

    assert "seed" in said
    assert code == 130
    assert json.loads(out)["ledger"]["missing"] == 0
    assert read_run(tmp_path).interrupted is True


async def test_a_second_ctrl_c_waits_for_nothing(bad_service: Callable[..., tuple[str, ...]]) -> None:
    """What is outstanding then is missing, and neither good nor bad: it was the run that cut it off."""
    where = bad_service("--lose", "1")
    process = await start_load("simulate", "load", "--rate", "30/s", "--duration", "10m", *where)

    async def some_are_outstanding() -> bool:
        async with open_client(where[1]) as client:
            return bool((await client.get("/admin/v1/snapshot")).json()["accepted"] > 10)

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
async def test_wrong_words_are_one_sentence_before_anything_is_started(
    words: tuple[str, ...], said: str
) -> None:
    """Exit 2; the sentence names what is wrong."""
    code, document, err = await run_load(*words)

    assert (code, document) == (2, {})
    assert said in err
