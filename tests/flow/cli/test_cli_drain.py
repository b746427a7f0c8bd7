"""`llmctl drain` where the service does what a real one rarely does: is silent, goes away, refuses."""

import asyncio
import json
import signal
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

from llmctl.client.operators import DrainStatus
from llmctl.jobs import draining
from tests.flow.cli.conftest import Answer, Run, RunHere, start
from tests.waiting import HANG_SECONDS, until


def status(state: str, **figures: int) -> dict[str, Any]:
    none = {"in_flight": 0, "outbox": 0, "queued": 0, "finished": 0}
    phase = "ready" if state == "none" else "draining"
    return {"phase": phase, "state": state, "started_at": None, "deadline": None, **none, **figures}


async def test_orders_as_told_and_waits_for_the_end(llmctl: Run, admin: Any) -> None:
    admin.statuses = [status("running", in_flight=2, queued=7), status("done", queued=7, finished=2)]
    ended = await llmctl("--url", admin.url, "--token", "secret", "drain", "--timeout", "2m")
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)["waited_seconds"] >= 0.25
    assert admin.calls == [
        ("POST /drain", {"timeout_seconds": 120.0, "until_empty": False}),
        ("GET /drain", None),
    ]
    assert set(admin.authorizations) == {"Bearer secret"}


class SilentOperator:
    """Takes the order, and answers nothing afterwards."""

    async def start_drain(self, *_: Any, **__: Any) -> DrainStatus:
        return DrainStatus("draining", "running", in_flight=2, outbox=0, queued=0, finished=0)

    async def read_drain(self) -> DrainStatus:
        await asyncio.Event().wait()
        raise AssertionError


def test_a_silent_service_does_not_outlast_the_limit(
    llmctl_here: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command has a limit of its own, a little behind the service's."""
    monkeypatch.setattr(draining, "open_operator", lambda *_: nullcontext(SilentOperator()))
    monkeypatch.setattr(draining, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(draining, "GRACE_SECONDS", 0.1)
    ended = llmctl_here("drain", "--timeout", "100ms", "--output", "json")
    document = json.loads(ended.out)
    assert (ended.code, document["state"], document["remaining_in_flight"]) == (4, "timeout", 2)
    assert document["waited_seconds"] >= 0.2


async def test_taken_back_by_another_is_not_drained(llmctl: Run, admin: Any) -> None:
    admin.statuses = [status("running", in_flight=2), status("none")]
    ended = await llmctl("drain", "--url", admin.url)
    assert (ended.code, ended.out) == (1, "")
    assert "was taken back, or the service was started again: it is ready" in ended.err


@pytest.mark.parametrize("code", [401, 403, 503])
@pytest.mark.parametrize("words", [(), ("--resume",)])
async def test_a_refusal_is_the_services_own_sentence(
    llmctl: Run, admin: Any, code: int, words: tuple[str, ...]
) -> None:
    admin.refusal = (code, "This is not for you.")
    ended = await llmctl("drain", *words, "--url", admin.url, "--output", "json")
    assert (ended.code, ended.out) == (1, "")
    assert "This is not for you." in json.loads(ended.err)["error"]["message"]


async def test_a_service_that_goes_away_is_code_3(llmctl: Run, admin: Any) -> None:
    admin.statuses = [status("running", in_flight=2, outbox=1, queued=9, finished=4)]
    admin.breaks_after = 2
    ended = await llmctl("drain", "--url", admin.url)
    assert (ended.code, ended.out) == (3, "")
    assert "went away while draining; it last said: 4 finished, 2 still in flight, 1 callback " in ended.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interruption_leaves_it_draining(admin: Any, number: signal.Signals) -> None:
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
    admin.silent_after = 0
    async with start("drain", "--url", admin.url) as process:
        await until(lambda: admin.silences, "the order")
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(HANG_SECONDS):
            out, err = await process.communicate()
    assert (process.returncode, out) == (130, b"")
    assert b"the drain may go on" in err


@pytest.fixture
def production(admin: Any, use_production: Callable[[str], None]) -> Any:
    use_production(admin.url)
    admin.statuses = [status("done")]
    return admin


async def test_production_is_drained_only_with_a_yes(llmctl: Run, production: Any) -> None:
    refused = await llmctl("drain")
    assert (refused.code, production.calls) == (2, [])
    assert "--yes" in refused.err
    sure = await llmctl("drain", "--yes")
    assert (sure.code, json.loads(sure.out)["state"]) == (0, "drained")


@pytest.mark.parametrize(("answer", "code", "calls"), [(b"y\n", 0, 1), (b"n\n", 1, 0), (b"\n", 1, 0)])
async def test_production_obeys_the_answer(
    production: Any, answer_question: Answer, answer: bytes, code: int, calls: int
) -> None:
    asked, ended = await answer_question(answer, "drain")
    assert production.url in asked
    assert (ended.code, len(production.calls)) == (code, calls)
    assert (json.loads(ended.out)["state"] == "drained") if calls else (ended.out.strip() == "")
