"""`llmctl submit --receipts`: nothing is sent twice, whatever ended the run before."""

import asyncio
import signal
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.flow.cli.conftest import GOOD, Run, as_lines, read_lines, start
from tests.waiting import HANG_SECONDS, until

pytestmark = [pytest.mark.usefixtures("embedded_broker")]


def read(path: Path) -> bytes:
    return path.read_bytes()


def tear(path: Path) -> None:
    """Cuts off the last receipt, as a crash does while it is being written."""
    path.write_bytes(path.read_bytes()[:-20])


@pytest.fixture
def receipts(tmp_path: Path) -> Path:
    return tmp_path / "receipts.jsonl"


@pytest.fixture
def submit(submit: Run, receipts: Path) -> Run:
    """Submits lines with receipts; options can follow."""
    return partial(submit, receipts=receipts)


async def test_a_receipt_is_what_the_service_said(submit: Run, service: Any, receipts: Path) -> None:
    service.calls_back = False
    before = datetime.now(UTC) - timedelta(seconds=1)
    ended = await submit(as_lines(GOOD) + b"\n" + as_lines(GOOD), "--concurrency", "1")
    assert (ended.code, ended.err) == (0, "")
    first, second = read_lines(read(receipts))
    assert list(first) == ["line", "queue_id", "correlation_id", "callback_topic", "accepted_at"]
    assert (first["line"], second["line"]) == (1, 3)
    for receipt, document in zip((first, second), read_lines(ended.out), strict=True):
        assert (
            receipt.items() >= {key: document[key] for key in ("line", "queue_id", "correlation_id")}.items()
        )
    assert first["callback_topic"] == "t"
    assert first["accepted_at"].endswith("Z")
    assert before < datetime.fromisoformat(first["accepted_at"]) <= datetime.now(UTC)


async def test_a_second_run_sends_the_rest(submit: Run, service: Any, receipts: Path) -> None:
    service.calls_back = False
    bad = {"user_prompt": "p"}
    assert (await submit(as_lines(GOOD, bad))).code == 1
    first = read(receipts)
    ended = await submit(as_lines(GOOD, GOOD | {"essay_a": "mended"}, GOOD))
    assert ended.code == 0
    assert sorted(each["line"] for each in read_lines(ended.out)) == [2, 3]
    assert "1 of 3 requests stand in" in ended.err
    assert read(receipts).startswith(first)
    assert len(service.bodies) == 3
    again = await submit(as_lines(GOOD, GOOD, GOOD))
    assert (again.code, again.out, len(service.bodies)) == (2, "", 3)
    assert "Line 2 is not what was accepted as line 2" in again.err


async def test_a_run_that_was_killed_before_its_first_receipt_goes_on(
    submit: Run, service: Any, receipts: Path
) -> None:
    service.calls_back = False
    service.silent_after = 0
    words = ("submit", "--file", "-", "--callback-topic", "t", "--url", service.url)
    options = ("--receipts", str(receipts), "--concurrency", "2")
    async with start(*words, *options, stdin=as_lines(GOOD, GOOD, GOOD)) as process:
        await until(lambda: len(service.bodies) == 2, "two requests")
        process.kill()
        await process.wait()
    assert read(receipts) == b""
    service.silent_after = None
    ended = await submit(as_lines(GOOD, GOOD, GOOD))
    assert ended.code == 0
    assert len(read_lines(read(receipts))) == len(service.bodies) == 3


async def test_an_interrupted_run_says_how_it_goes_on(submit: Run, service: Any, receipts: Path) -> None:
    service.calls_back = False
    service.silent_after = 3
    words = ("submit", "--file", "-", "--callback-topic", "t", "--url", service.url)
    options = ("--receipts", str(receipts), "--concurrency", "1")
    async with start(*words, *options, stdin=as_lines(*[GOOD] * 6)) as process:
        await until(lambda: len(service.bodies) == 4, "the fourth request")
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert process.returncode == 130
    assert err.decode().strip() == (
        "Interrupted; 3 of 6 requests are accepted and stand in the receipts; "
        "the same command again sends the rest, and none twice."
    )
    assert [each["line"] for each in read_lines(read(receipts))] == [1, 2, 3]
    service.silent_after = None
    assert (await submit(as_lines(*[GOOD] * 6))).code == 0
    assert len(service.bodies) == 6


async def test_a_full_disk_loses_no_receipt(submit: Run, service: Any, receipts: Path) -> None:
    service.calls_back = False
    command = f"exec {sys.executable} -m llmctl submit --file - --callback-topic t --url {service.url}"
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"ulimit -f 1 && {command} --receipts {receipts} --concurrency 1"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(HANG_SECONDS):
        _, err = await process.communicate(as_lines(*[GOOD] * 8))
    assert process.returncode == 1
    assert "cannot be written: File too large. 5 of 8 requests are accepted" in err.decode()
    assert len(service.bodies) == 6
    assert len(read(receipts)) == 1024
    ended = await submit(as_lines(*[GOOD] * 8))
    assert ended.code == 0
    assert len(read_lines(read(receipts))) == len(service.bodies) == 8


async def test_a_full_service_is_knocked_at_by_one(submit: Run, service: Any) -> None:
    service.calls_back = False
    service.full_times = 6
    service.retry_after = "0.1"
    ended = await submit(as_lines(*[GOOD] * 20), "--concurrency", "4")
    assert (ended.code, len(service.bodies)) == (0, 20)
    # The first four may be refused at once; then there are two refusals and an acceptance, 0.1 s apart.
    assert service.arrivals[6] - service.arrivals[0] >= 3 * 0.1


async def test_patience_has_an_end(submit: Run, service: Any, receipts: Path) -> None:
    service.calls_back = False
    service.full_after = 2
    service.retry_after = "0.1"
    # One at a time: a slow refusal ends the run, and would leave acceptances behind that were on their way.
    ended = await submit(as_lines(*[GOOD] * 5), "--patience", "500ms", "--concurrency", "1")
    assert ended.code == 1
    assert "The service has taken nothing for 500ms: refused: LLM_QUEUE_FULL" in ended.err
    assert "2 of 5 requests are accepted and stand in the receipts" in ended.err
    assert len(read_lines(read(receipts))) == 2


async def test_a_changed_line_that_was_accepted_is_a_conflict(
    submit: Run, service: Any, receipts: Path
) -> None:
    service.calls_back = False
    await submit(as_lines(GOOD))
    tear(receipts)
    service.conflicts = True
    ended = await submit(as_lines(GOOD | {"essay_a": "x"}))
    (document,) = read_lines(ended.out)
    assert (ended.code, document["status"], len(service.keys)) == (1, "refused", 2)
    assert document["error"]["error_code"] == "LLM_IDEMPOTENCY_CONFLICT"
    assert "put the line back to get its receipt" in document["error"]["message"]


async def test_a_later_run_follows_the_callbacks_of_the_earlier(
    submit: Run, service: Any, receipts: Path, topic: str
) -> None:
    await submit(as_lines(GOOD, GOOD | {"essay_a": "x"}), "--concurrency", "1", topic=topic)
    tear(receipts)
    ended = await submit(
        *(as_lines(GOOD, GOOD | {"essay_a": "x"}, GOOD), "--wait", "--timeout", "300s"), topic=topic
    )
    documents = {each["line"]: each for each in read_lines(ended.out)}
    assert (ended.code, len(service.bodies)) == (0, 3)
    assert "was torn and has been cut off" in ended.err
    assert "1 of 3 requests stand in" in ended.err
    assert {line: each["status"] for line, each in documents.items()} == dict.fromkeys((1, 2, 3), "success")
    assert all(each["result"]["request_id"] == each["queue_id"] for each in documents.values())
    assert len(read_lines(ended.out)) == 3
