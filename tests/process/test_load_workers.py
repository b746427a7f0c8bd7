"""Load workers as processes: one schedule for all of them, nothing lost on the way, and a clean end."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from service.contracts.requests import LLMComparisonRequest
from simulator.load.arrivals import iterate_arrivals
from simulator.load.dispatch import Begin, WorkerBatch, WorkerPlan, write_message
from simulator.load.histogram import Histogram
from simulator.load.shape import parse_shape
from simulator.load.submits import Submit, SubmitEnd
from simulator.load.workers import WorkerError, Workers
from tests.conftest import ROOT
from tests.waiting import HANG_SECONDS, until

LEAD_SECONDS = 0.2
PUNCTUAL_SECONDS = 0.1


class Door(BaseHTTPRequestHandler):
    """Accepts every request and records it; while `shut` is set, requests wait for `opened`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    heads: ClassVar[list[dict[str, str]]]
    bodies: ClassVar[list[bytes]]
    shut: ClassVar[threading.Event]
    opened: ClassVar[threading.Event]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.heads.append({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}})
        self.bodies.append(body)
        if self.shut.is_set():
            self.opened.wait(HANG_SECONDS)
        said = json.dumps({"queue_id": "of-" + self.headers["idempotency-key"]}).encode()
        self.send_response(202)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: Any) -> None:
        pass


class Doors(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512


@pytest.fixture
def door() -> Iterator[type[Door]]:
    Door.heads, Door.bodies = [], []
    Door.shut, Door.opened = threading.Event(), threading.Event()
    yield Door
    Door.opened.set()


@pytest.fixture
def url(door: type[Door]) -> Iterator[str]:
    with Doors(("127.0.0.1", 0), door) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        door.opened.set()
        server.shutdown()
        thread.join(HANG_SECONDS)


def make_plan(url: str, shape: str = "poisson 100/s 1s", **changes: Any) -> WorkerPlan:
    return WorkerPlan(url=url, run_id="run", callback_topics=("t.a", "t.b"), shape=shape, seed=7, **changes)


@asynccontextmanager
async def working(plan: WorkerPlan, count: int = 1) -> AsyncIterator[Workers]:
    """Workers that are never killed: a worker that does not end by itself hangs the test."""
    limits = {"ready_limit_seconds": HANG_SECONDS, "stop_limit_seconds": HANG_SECONDS}
    async with asyncio.timeout(HANG_SECONDS), Workers(plan, count, **limits) as workers:
        yield workers


async def listen(workers: Workers) -> list[WorkerBatch]:
    return [batch async for batch in workers.batches()]


def find_submits(batches: list[WorkerBatch]) -> list[Submit]:
    found = [submit for batch in batches for submit in batch.submits]
    return sorted(found, key=lambda submit: submit.number)


def is_running(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def read_command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


async def test_two_workers_send_each_arrival_once(url: str, door: type[Door]) -> None:
    """Together they keep the schedule of shape and seed; each sends every other request.

    Ctrl-C reaches a whole process group: workers have their own, so that open requests can finish.
    """
    plan = make_plan(url, token="secret")
    async with working(plan, 2) as workers:
        command_lines = [read_command_line(pid) for pid in workers.pids]
        groups = {os.getpgid(pid) for pid in workers.pids}
        begin = time.monotonic() + LEAD_SECONDS
        workers.begin(begin)
        batches = await listen(workers)
    submits = find_submits(batches)
    due = [begin + at for chunk in iterate_arrivals(parse_shape(plan.shape), plan.seed) for at in chunk]
    assert [submit.number for submit in submits] == list(range(len(due)))
    assert [submit.intended for submit in submits] == due
    assert all(submit.end is SubmitEnd.ACCEPTED for submit in submits)
    assert all(submit.sent is not None and submit.sent >= submit.intended for submit in submits)
    for batch in batches:
        assert all(submit.number % 2 == batch.worker for submit in batch.submits)
    check_door(door, submits)
    assert b"secret" not in b"".join(command_lines)
    assert os.getpgrp() not in groups


def check_door(door: type[Door], submits: list[Submit]) -> None:
    assert len(door.heads) == len(submits)
    came = {}
    for head, body in zip(door.heads, door.bodies, strict=True):
        request = LLMComparisonRequest.model_validate_json(body)
        came[f"of-{head['idempotency-key']}"] = (str(request.correlation_id), request.callback_topic)
        assert head["path"] == "/api/v1/comparison"
        assert head["content-type"] == "application/json"
        assert head["x-run-id"] == "run"
        assert head["authorization"] == "Bearer secret"
    assert came == {s.queue_id: (s.correlation_id, s.callback_topic) for s in submits}


async def test_a_worker_reports_its_own_state(url: str) -> None:
    """Each batch has lateness, CPU time and open requests; the last one says that it is the last."""
    async with working(make_plan(url)) as workers:
        workers.begin(time.monotonic() + LEAD_SECONDS)
        batches = await listen(workers)
    lateness = Histogram()
    for batch in batches:
        lateness.merge(batch.lateness)
    sent = [submit.sent - submit.intended for submit in find_submits(batches) if submit.sent is not None]
    assert lateness.count == len(sent) == batches[-1].pulse.sent
    assert lateness.greatest == max(sent)
    assert len(batches) > 1
    assert [batch.is_last for batch in batches] == [False] * (len(batches) - 1) + [True]
    cpu = [batch.pulse.cpu_seconds for batch in batches]
    assert cpu == sorted(cpu)
    assert 0 < cpu[0] < cpu[-1]
    assert batches[-1].pulse.open == batches[-1].pulse.unresolved == 0
    assert all(0 <= batch.pulse.loop_lag_seconds < HANG_SECONDS for batch in batches)
    assert any(batch.pulse.loop_lag_seconds > 0 for batch in batches)


@pytest.mark.long
async def test_a_worker_is_punctual(url: str) -> None:
    async with working(make_plan(url)) as workers:
        workers.begin(time.monotonic() + LEAD_SECONDS)
        submits = find_submits(await listen(workers))
    late = sorted(submit.sent - submit.intended for submit in submits if submit.sent is not None)
    assert late[len(late) // 2] < PUNCTUAL_SECONDS


async def test_a_closed_loop_takes_turns(url: str, door: type[Door]) -> None:
    """The workers take turns at sending released requests, whatever the sizes of the releases."""
    async with working(make_plan(url, "closed callers=3 1m"), 2) as workers:
        workers.begin(time.monotonic())
        released: dict[int, float] = {}
        for count in (1, 2, 5, 1, 1):
            at = time.monotonic()
            workers.release(count, at)
            released |= dict.fromkeys(range(len(released), len(released) + count), at)
        submits: list[Submit] = []
        async for batch in workers.batches():
            submits += batch.submits
            if len(submits) == 10:
                workers.stop(HANG_SECONDS)
    assert sorted((submit.number, submit.intended) for submit in submits) == sorted(released.items())
    assert len(door.heads) == 10


async def test_a_stop_ends_a_long_run_soon(url: str) -> None:
    async with working(make_plan(url, "constant 100/s 1h"), 2) as workers:
        workers.begin(begin := time.monotonic())
        batches = []
        stopped_at = None
        async for batch in workers.batches():
            batches.append(batch)
            if stopped_at is None and len(find_submits(batches)) >= 10:
                stopped_at = time.monotonic()
                workers.stop(HANG_SECONDS)
    submits = find_submits(batches)
    assert stopped_at is not None
    due = [submit for submit in submits if submit.intended <= stopped_at]
    assert [submit.number for submit in due] == list(range(len(due)))
    assert begin + len(due) / 100 >= stopped_at
    assert submits[-1].intended <= stopped_at + HANG_SECONDS / 2  # as late as a worker hears of it
    assert sum(batch.is_last for batch in batches) == 2


async def test_a_stop_gives_up_what_is_never_answered(url: str, door: type[Door]) -> None:
    door.shut.set()
    async with working(make_plan(url, "burst 3")) as workers:
        workers.begin(time.monotonic())
        await until(lambda: len(door.heads) == 3)
        workers.stop(0.1)
        submits = find_submits(await listen(workers))
    assert [submit.end for submit in submits] == [SubmitEnd.AMBIGUOUS] * 3


async def test_a_killed_worker_is_an_error_that_names_it(url: str) -> None:
    """Its batches are not lost; then the error comes, and the other workers end too."""
    async with working(make_plan(url, "constant 100/s 1h"), 3) as workers:
        workers.begin(time.monotonic())
        pids = workers.pids
        submits: list[Submit] = []

        async def listen_and_kill() -> None:
            async for batch in workers.batches():
                submits.extend(batch.submits)
                if batch.worker == 1 and batch.submits and is_running(pids[1]):
                    os.kill(pids[1], signal.SIGKILL)

        with pytest.raises(WorkerError, match=r"^Load worker 2 of 3 was killed by signal 9 before"):
            await listen_and_kill()
        assert any(submit.number % 3 == 1 for submit in submits)
    assert not any(map(is_running, pids))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": "trace /no/such/file.jsonl"}, "/no/such/file.jsonl"),
        ({"shape": "poison 100/s 1s"}, "did you mean 'poisson'"),
        ({"url": "localhost:8080"}, "is no URL"),
    ],
)
async def test_a_worker_that_cannot_start_says_why(changes: dict[str, str], words: str) -> None:
    plan = make_plan("http://127.0.0.1:1").model_copy(update=changes)
    with pytest.raises(WorkerError, match=r"^Load worker 1 of 2 ended with code 2") as caught:
        async with working(plan, 2):
            pytest.fail("it started")
    assert words in str(caught.value)


async def test_a_worker_that_breaks_says_how(url: str) -> None:
    async with working(make_plan(url, "constant 100/s 1h")) as workers:
        workers.begin(time.monotonic())
        workers.release(1, time.monotonic())
        with pytest.raises(WorkerError, match=r"^Load worker 1 of 1 ended with code 2") as caught:
            await listen(workers)
    assert "knows no release" in str(caught.value)


def test_a_load_needs_a_worker() -> None:
    with pytest.raises(ValueError, match="at least 1 worker"):
        Workers(make_plan("http://127.0.0.1:1"), 0)


async def test_leaving_early_leaves_no_worker_behind(url: str) -> None:
    """All end by themselves, with exit code 0, whether they had begun or not."""
    for begins in (False, True):
        async with working(make_plan(url, "constant 100/s 1h"), 2) as workers:
            pids = workers.pids
            assert all(map(is_running, pids))
            if begins:
                workers.begin(time.monotonic())
                async for batch in workers.batches():
                    if batch.submits:
                        break
        assert [child.process.returncode for child in workers._children] == [0, 0]


async def test_a_worker_ends_with_its_orders(url: str) -> None:
    """It exits with 0 when its standard input ends, also if its output is still read."""
    plan = make_plan(url, "constant 100/s 1h")
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "simulator.load.worker",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    async with asyncio.timeout(HANG_SECONDS):
        worker.stdin.write(write_message(plan))
        assert json.loads(await worker.stdout.readline()) == {"ready": True, "pid": worker.pid}
        worker.stdin.write(write_message(Begin(at=time.monotonic())))
        while not WorkerBatch.unpack(await worker.stdout.readline()).submits:
            continue
        worker.stdin.close()
        assert not any(WorkerBatch.unpack(line).is_last for line in (await worker.stdout.read()).splitlines())
        assert await worker.wait() == 0


PARENT = """
import asyncio, sys, time
from simulator.load.dispatch import WorkerPlan
from simulator.load.workers import Workers

async def main():
    plan = WorkerPlan.model_validate_json(sys.argv[1])
    async with Workers(plan, 2, stop_limit_seconds=300) as workers:
        print(*workers.pids, flush=True)
        workers.begin(time.monotonic())
        async for batch in workers.batches():
            pass

asyncio.run(main())
"""


def start_parent(plan: WorkerPlan) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PARENT, plan.model_dump_json()],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_workers_end_with_their_parent(url: str, door: type[Door], number: signal.Signals) -> None:
    """In the middle of a run; after SIGKILL nobody is left to end them."""
    with start_parent(make_plan(url, "constant 100/s 1h")) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        await until(lambda: len(door.heads) >= 10)
        assert all(map(is_running, pids))
        parent.send_signal(number)
        parent.wait(HANG_SECONDS)
    await until(lambda: not any(map(is_running, pids)), "the workers' end")
