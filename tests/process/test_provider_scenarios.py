"""The fake provider's scenarios over real sockets: faults happen when and as often as the scenario says."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Launcher
from tests.waiting import HANG_SECONDS, open_client, until

CALM = '[latency]\nresponse = "0ms"\n'
Provide = Callable[..., str]


@pytest.fixture
def provide(launcher: Launcher, tmp_path: Path) -> Provide:
    """Starts a provider with a scenario, given as TOML or as a preset's name; returns its root URL."""

    def start(scenario: str, *arguments: str) -> str:
        if "\n" in scenario:
            path = tmp_path / "scenario.toml"
            path.write_text(scenario)
            scenario = str(path)
        child = launcher.start("simulator.provider", "--port", "0", "--scenario", scenario, *arguments)
        return str(child.ready["base_urls"]["openai"]).removesuffix("/v1")

    return start


def ask(number: int = 0) -> dict[str, Any]:
    return {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": f"Request {number}: answer in JSON."}],
        "response_format": {"type": "json_object"},
    }


def client(url: str, **options: Any) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=200)
    return open_client(url, headers={"authorization": "Bearer key"}, limits=limits, **options)


async def post(caller: httpx.AsyncClient, number: int = 0, **headers: str) -> httpx.Response:
    return await caller.post("/v1/chat/completions", json=ask(number), headers=headers)


async def look(caller: httpx.AsyncClient, number: int, attempt: int = 0) -> str:
    """Returns what one call ends with: an error's status, the answer's text, or a broken connection."""
    try:
        answer = await post(caller, number, **{"x-stainless-retry-count": str(attempt)})
        body = answer.json()
    except (httpx.TransportError, json.JSONDecodeError):
        return "broken"  # which exception it is depends on when the end of the connection is noticed
    if answer.status_code != 200:
        return f"{answer.status_code} {body['error']['message']} {answer.headers['x-request-id']}"
    choice = body["choices"][0]
    took_ms = answer.headers["openai-processing-ms"]
    return f"{choice['finish_reason']} {choice['message']['content']} {body['id']} {body['usage']} {took_ms}"


async def read_journal(url: str) -> list[dict[str, Any]]:
    async with open_client(url) as control:
        answer = await control.get("/_sim/journal")
        return [json.loads(line) for line in answer.text.splitlines()]


FAULTS = (
    "http_429", "http_500", "http_529", "quota_exhausted", "malformed", "truncated", "schema_breaking",
    "empty", "refusal", "safety", "reset", "reset_in_body", "ambiguous",
)  # fmt: skip
FAULTY = (
    '[latency]\nresponse = "p50=2ms p99=20ms"\n[faults]\n'
    + "".join(f'{name} = "6%"\n' for name in FAULTS)
    + 'retry_after = "1s"\n'
)


async def test_the_same_seed_goes_wrong_alike_at_any_concurrency_in_any_process(provide: Provide) -> None:
    """One process gets call after call, another 200 at a time and in reverse order."""
    requests = [(number, attempt) for number in range(80) for attempt in range(2)]

    async def run(url: str, order: list[tuple[int, int]], concurrency: int) -> list[str]:
        gate = asyncio.Semaphore(concurrency)
        async with client(url) as caller:

            async def one(request: tuple[int, int]) -> str:
                async with gate:
                    return await look(caller, *request)

            return list(await asyncio.gather(*(one(request) for request in order)))

    async def tell_fates(url: str) -> set[tuple[str, int, str]]:
        return {(each["request_id"], each["attempt"], each["outcome"]) for each in await read_journal(url)}

    one_by_one, at_once = provide(FAULTY, "--seed", "3"), provide(FAULTY, "--seed", "3")
    first = await run(one_by_one, requests, 1)
    second = await run(at_once, requests[::-1], 200)
    other = await run(provide(FAULTY, "--seed", "4"), requests, 200)
    fates = await tell_fates(one_by_one)
    assert first == second[::-1]
    assert first != other
    assert len(fates) == len(requests)
    assert fates == await tell_fates(at_once)
    assert {outcome for _, _, outcome in fates} == {"ok", *FAULTS}


async def test_broken_connections_are_reset_and_billed_when_the_work_was_done(provide: Provide) -> None:
    """Before any work, before the first byte of the answer, and in the middle of the answer."""
    url = provide(CALM)
    outcomes = {}
    async with client(url) as caller, open_client(url) as control:
        for number, fault in enumerate(("reset", "ambiguous", "reset_in_body")):
            changed = await control.patch("/_sim/scenario", json={"faults": {fault: 1.0}, "timeline": None})
            assert changed.status_code == 200
            try:
                async with caller.stream("POST", "/v1/chat/completions", json=ask(number)) as answer:
                    begun = answer.status_code
                    await answer.aread()
                    outcomes[fault] = "answered"
            except httpx.ReadError:
                outcomes[fault] = f"reset after {begun}" if fault == "reset_in_body" else "reset"
            await control.patch("/_sim/scenario", json={"faults": None})
    assert outcomes == {"reset": "reset", "ambiguous": "reset", "reset_in_body": "reset after 200"}
    entries = {entry["outcome"]: entry for entry in await read_journal(url)}
    assert {name: (entry["billed"], entry["status"]) for name, entry in entries.items()} == {
        "reset": (False, None), "ambiguous": (True, None), "reset_in_body": (True, 200),
    }  # fmt: skip
    assert entries["ambiguous"]["completion_tokens"] > 0


async def test_a_hanging_call_is_held_until_its_caller_leaves(provide: Provide) -> None:
    """The journal says that the caller gave up, and no call stays under way."""
    url = provide(CALM + "[faults]\nhang = 1.0\n")
    async with client(url) as caller:
        caller.timeout = httpx.Timeout(HANG_SECONDS, read=0.3)
        with pytest.raises(httpx.ReadTimeout):
            await post(caller)
    async with open_client(url) as control:

        async def is_over() -> bool:
            status = (await control.get("/_sim")).json()
            return bool(status["outcomes"] == {"abandoned": 1} and status["in_flight"] == 0)

        await until(is_over, what="the end of the hanging call")
    assert [entry["billed"] for entry in await read_journal(url)] == [False]


async def test_a_drip_takes_as_long_as_its_bytes(provide: Provide) -> None:
    url = provide("time_scale = 0.1\n" + CALM + "[faults]\ndrip = 1.0\ndrip_bytes_per_second = 50\n")
    async with client(url) as caller:
        began = time.monotonic()
        answer = await post(caller)
        seconds = time.monotonic() - began
    size = int(answer.headers["content-length"])
    assert len(answer.content) == size
    assert seconds > size / 500 * 0.9
    assert [entry["outcome"] for entry in await read_journal(url)] == ["ok"]


@pytest.mark.long
@pytest.mark.parametrize("fault", ["reset", "http_503", "hang"])
async def test_an_outage_begins_and_ends_when_the_timeline_says(provide: Provide, fault: str) -> None:
    """Ten times as fast: up, down for every call and connection, and up again."""
    url = provide(
        f'time_scale = 0.1\n{CALM}[[timeline]]\nat = "10s"\nfor = "40s"\nset = {{ outage = "{fault}" }}\n'
    )
    seen: list[tuple[float, float, bool]] = []
    async with client(url, timeout=1) as caller, open_client(url) as control:

        async def find_moment() -> float:
            return float((await control.get("/_sim")).json()["seconds_passed"])

        async def is_up_again() -> bool:
            began = await find_moment()
            try:
                worked = (await post(caller, len(seen))).status_code == 200
                worked = worked and (await caller.get("/v1/models")).status_code == 200
            except httpx.TransportError:
                worked = False
            seen.append((began, await find_moment(), worked))
            return began > 50 and worked

        await until(is_up_again, "the end of the outage")
    during = [worked for began, ended, worked in seen if began > 10 and ended < 50]
    assert during
    assert not any(during)
    assert all(worked for _, ended, worked in seen if ended < 10)


async def test_the_first_attempts_fail_for_callers_that_count_and_for_those_that_do_not(
    provide: Provide,
) -> None:
    """Attempts are counted by the SDK's header, by our service's id, or by equal bodies."""
    url = provide(CALM + '[retries]\nfail_first = 2\nfail_with = "http_500"\n')
    async with client(url) as caller:
        told = [(await post(caller, 1, **{"x-stainless-retry-count": str(n)})).status_code for n in range(4)]
        named = [
            (await post(caller, 2, **{"x-client-request-id": f"a-{n}"})).status_code for n in range(1, 5)
        ]
        silent = [(await post(caller, 3)).status_code for _ in range(4)]
    assert told == named == silent == [500, 500, 200, 200]


@pytest.mark.long
async def test_rate_limits_grant_their_rate_and_tell_the_truth(provide: Provide) -> None:
    """A caller that obeys Retry-After gets the rate within 5 %, and no violation is counted."""
    url = provide(f"time_scale = 0.1\n{CALM}[limits]\nrpm = 600\nburst_requests = 20\n")
    granted: list[float] = []
    remaining: list[int] = []
    began = time.monotonic()
    async with client(url) as caller:
        number = 0
        while len(granted) < 220:
            answer = await post(caller, number)
            number += 1
            if answer.status_code == 200:
                granted.append(time.monotonic())
                remaining.append(int(answer.headers["x-ratelimit-remaining-requests"]))
                assert answer.headers["x-ratelimit-limit-requests"] == "600"
            else:
                assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limit_exceeded")
                await asyncio.sleep(int(answer.headers["retry-after-ms"]) / 1000)
        obedience = (await caller.get("/_sim/obedience")).json()
    # The burst of 20 at once, and 100 a real second.
    assert len(granted) <= 20 + 105 * (granted[-1] - began)
    rate = (len(granted) - 21) / (granted[-1] - granted[20])
    assert rate > 20  # a caller that asks one after the other loses some to its own slowness
    assert remaining[0] == 19
    assert min(remaining) == 0
    assert obedience["violations"] == 0


async def test_hasty_callers_are_counted(provide: Provide) -> None:
    """Calls before Retry-After is over, and a request that is answered twice."""
    url = provide(CALM + '[limits]\nrpm = 1\nburst_requests = 1\nretry_after = "seconds"\n')
    async with client(url) as caller:
        assert (await post(caller, 1)).status_code == 200
        refusal = await post(caller, 2)
        assert refusal.status_code == 429
        assert 0 < int(refusal.headers["retry-after"]) <= 60

        async def is_blamed() -> bool:
            await post(caller, 3, **{"x-client-request-id": "hasty-1"})
            report = (await caller.get("/_sim/obedience")).json()
            return bool(
                report["before_retry_after"]["count"] and "hasty" in report["before_retry_after"]["examples"]
            )

        await until(is_blamed, what="the blame")
        await caller.patch("/_sim/scenario", json={"limits": None})
        assert (await post(caller, 1)).status_code == 200
        assert (await caller.get("/_sim/obedience")).json()["paid_twice"]["count"] == 1


async def test_little_capacity_overflows(provide: Provide) -> None:
    """With four slots and a queue of four, two of ten calls are refused."""
    url = provide('[latency]\nresponse = "1h"\n[capacity]\nslots = 4\nqueue = 4\noverflow = "http_503"\n')
    async with client(url) as caller:
        calls = [asyncio.create_task(post(caller, number)) for number in range(10)]
        # The first refusal comes when the eight others have their places.
        await until(lambda: sum(call.done() for call in calls) == 2, "two refusals")
        refused = [call for call in calls if call.done()]
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    assert [call.result().status_code for call in refused] == [503, 503]


async def test_a_running_scenario_is_changed_at_once_or_not_at_all(provide: Provide) -> None:
    """Replaced, patched, or refused with one sentence; the journal has each outcome and no text."""
    url = provide(CALM)
    async with client(url) as caller:
        assert (await post(caller, 1)).status_code == 200
        put = await caller.put("/_sim/scenario", json={"preset": "poison"})
        assert put.json()["name"] == "poison"
        toml = await caller.put(
            "/_sim/scenario", content='outage = "http_529"\n[latency]\nresponse = "0ms"\n'
        )
        assert toml.status_code == 200
        assert (await post(caller, 2)).status_code == 529
        wrong = await caller.patch("/_sim/scenario", json={"outage": None, "faults": {"reset": 7}})
        assert wrong.status_code == 422
        assert wrong.json()["error"]["message"].startswith(
            "The changed scenario: faults.reset: 7 is no share;"
        )
        assert (await post(caller, 3)).status_code == 529
        assert (await caller.patch("/_sim/scenario", json={"outage": None})).status_code == 200
        assert (await post(caller, 4)).status_code == 200
        for body in (b"{", b"[]", b'{"preset": "../calm.toml"}', b'{"preset": 3}'):
            refused = await caller.put(
                "/_sim/scenario", content=body, headers={"content-type": "application/json"}
            )
            assert refused.status_code == 422
        journal = await read_journal(url)
        assert [(entry["outcome"], entry["status"]) for entry in journal] == [
            ("ok", 200), ("http_529", 529), ("http_529", 529), ("ok", 200),
        ]  # fmt: skip
        assert "Request" not in json.dumps(journal)
        assert "Bearer" not in json.dumps(journal)
        later = await caller.get("/_sim/journal", params={"after": "3"})
        assert [json.loads(line)["number"] for line in later.text.splitlines()] == [4]
        assert (await caller.delete("/_sim/journal")).status_code == 204
        assert (await caller.get("/_sim")).json()["calls"] == 0


def test_a_wrong_file_is_one_sentence_and_exit_2(launcher: Launcher, tmp_path: Path) -> None:
    path = tmp_path / "storm.toml"
    path.write_text("[limits]\nrpms = 3\n")
    done = subprocess.run(
        [sys.executable, "-m", "simulator.provider", "--scenario", str(path)],
        capture_output=True, text=True, timeout=HANG_SECONDS, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"{path}, line 2: limits.rpms: there is no such key; allowed are rpm, tpm, burst_requests, "
        "burst_tokens, retry_after.\n"
    )
