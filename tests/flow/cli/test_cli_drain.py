"""`llmctl drain` where the service does what a real one rarely does: is silent, goes away, refuses."""

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.flow.cli.conftest import start
from tests.waiting import HANG_SECONDS, until

Run = Callable[..., Awaitable[Any]]


def status(state: str, **figures: int) -> dict[str, Any]:
    """How a drain stands, as the service tells it."""
    none = {"in_flight": 0, "outbox": 0, "queued": 0, "finished": 0}
    phase = "ready" if state == "none" else "draining"
    return {"phase": phase, "state": state, "started_at": None, "deadline": None, **none, **figures}


async def test_orders_as_told_and_waits_for_the_end(llmctl: Run, admin: Any) -> None:
    """One order with the limit and the token, then nothing but looking until it is done."""
    admin.statuses = [status("running", in_flight=2, queued=7), status("done", queued=7, finished=2)]
    ended = await llmctl("--url", admin.url, "--token", "secret", "drain", "--timeout", "2m")
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)["waited_seconds"] >= 0.25
    assert admin.calls == [
        ("POST /drain", {"timeout_seconds": 120.0, "until_empty": False}),
        ("GET /drain", None),
    ]
    assert set(admin.authorizations) == {"Bearer secret"}


async def test_a_silent_service_does_not_outlast_the_limit(llmctl: Run, admin: Any) -> None:
    """Whoever drains has a limit of their own, 5 s behind the service's: code 4 and what was last said."""
    admin.statuses = [status("running", in_flight=2)]
    admin.silent_after = 2
    ended = await llmctl("drain", "--timeout", "10ms", "--url", admin.url)
    assert ended.code == 4
    document = json.loads(ended.out)
    assert (document["state"], document["remaining_in_flight"]) == ("timeout", 2)
    assert document["waited_seconds"] >= 5.0


async def test_taken_back_by_another_is_not_drained(llmctl: Run, admin: Any) -> None:
    """Somebody resumed, or the service was started again: code 1, and no document that says otherwise."""
    admin.statuses = [status("running", in_flight=2), status("none")]
    ended = await llmctl("drain", "--url", admin.url)
    assert (ended.code, ended.out) == (1, "")
    assert "was taken back, or the service was started again: it is ready" in ended.err


@pytest.mark.parametrize("code", [401, 403, 503])
@pytest.mark.parametrize("words", [(), ("--resume",)])
async def test_a_refusal_is_the_services_own_sentence(
    llmctl: Run, admin: Any, code: int, words: tuple[str, ...]
) -> None:
    """Code 1, and nothing on stdout."""
    admin.refusal = (code, "This is not for you.")
    ended = await llmctl("drain", *words, "--url", admin.url, "--output", "json")
    assert (ended.code, ended.out) == (1, "")
    assert "This is not for you." in json.loads(ended.err)["error"]["message"]


async def test_a_service_that_goes_away_is_code_3(llmctl: Run, admin: Any) -> None:
    """What was last known of it is told."""
    admin.statuses = [status("running", in_flight=2, outbox=1, queued=9, finished=4)]
    admin.breaks_after = 2
    ended = await llmctl("drain", "--url", admin.url)
    assert (ended.code, ended.out) == (3, "")
    assert "went away while draining; it last said: 4 finished, 2 still in flight, 1 callback " in ended.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interruption_leaves_it_draining(admin: Any, number: signal.Signals) -> None:
    """A signal ends the waiting, not the drain: 130, what was last said, and how to take it back."""
    admin.statuses = [status("running", in_flight=2)]
    async with start("drain", "--url", admin.url) as process:
        await until(lambda: len(admin.calls) > 2, "it to wait")
        process.send_signal(number)
        async with asyncio.timeout(HANG_SECONDS):
            out, err = await process.communicate()
    assert process.returncode == 130
    assert json.loads(out)["state"] == "draining"
    (sentence,) = err.decode().splitlines()
    assert sentence.startswith("Interrupted, but the drain goes on: ")
    assert sentence.endswith("`llmctl drain --resume` takes it back.")


async def test_an_interruption_before_the_answer_says_so(admin: Any) -> None:
    """The order is on its way and may have arrived: that is said, and nothing is claimed."""
    admin.silent_after = 0
    async with start("drain", "--url", admin.url) as process:
        await until(lambda: admin.silences, "the order")
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(HANG_SECONDS):
            out, err = await process.communicate()
    assert (process.returncode, out) == (130, b"")
    assert b"the drain may go on" in err


@pytest.mark.parametrize(("answer", "code", "calls"), [(b"y\n", 0, 1), (b"n\n", 1, 0), (b"\n", 1, 0)])
async def test_production_obeys_the_answer(
    admin: Any, config_file: Path, terminal: tuple[int, int], answer: bytes, code: int, calls: int
) -> None:
    """On a terminal the question names what is drained; everything but a yes leaves it alone."""
    text = f'current = "live"\n[contexts.live]\nurl = "{admin.url}"\nenvironment = "prod"\n'
    await asyncio.to_thread(config_file.write_text, text)
    admin.statuses = [status("done")]
    ours, theirs = terminal
    async with start("drain", terminal=theirs) as process:
        said = b""
        async with asyncio.timeout(HANG_SECONDS):
            while b"[y/N]" not in said:
                said += await asyncio.to_thread(os.read, ours, 4096)
            assert admin.url.encode() in said
            assert admin.calls == []
            os.write(ours, answer)
            out, _ = await process.communicate()
    assert (process.returncode, len(admin.calls)) == (code, calls)
    assert (json.loads(out)["state"] == "drained") if calls else (out.strip() == b"")
