"""The fake provider as a process: its verdicts, its refusals, and how it starts and ends."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from simulator.essays import load_essays, pairs_path
from tests.waiting import HANG_SECONDS

Start = Callable[..., tuple[subprocess.Popen[str], str]]

SCHEMA = {
    "type": "object",
    "properties": {
        "winner": {"type": "string", "enum": ["essay_a", "essay_b"]},
        "justification": {"type": "string"},
        "confidence": {"type": "number"},
    },
    "required": ["winner", "justification", "confidence"],
    "additionalProperties": False,
}
PAIRS = [json.loads(line) for line in pairs_path().read_text(encoding="utf-8").splitlines()]


def run(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "simulator.provider", *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(timeout=HANG_SECONDS)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    """Starts providers on free ports; returns the process and the base URL."""
    processes: list[subprocess.Popen[str]] = []

    def start_one(*arguments: str) -> tuple[subprocess.Popen[str], str]:
        process = run("--port", "0", *arguments)
        processes.append(process)
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["ready"] is True
        assert ready["pid"] == process.pid
        return process, ready["base_urls"]["openai"]

    yield start_one
    for process in processes:
        end(process)


@pytest.fixture(scope="module")
def provider(start: Start) -> str:
    """Returns the base URL of a provider that several tests share."""
    return start("--seed", "7", "--latency-p50-ms", "0")[1]


def ask(pair: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": f"{pair['essay_a']}\n---\n{pair['essay_b']}"}],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "comparison", "strict": True, "schema": SCHEMA},
        },
        **changes,
    }


async def collect(base_url: str, requests: list[dict[str, Any]], concurrency: int) -> list[dict[str, Any]]:
    """Returns the bodies of the answers, in the order of the requests."""
    gate = asyncio.Semaphore(concurrency)
    limits = httpx.Limits(max_connections=concurrency)
    async with httpx.AsyncClient(
        limits=limits, headers={"authorization": "Bearer key"}, timeout=HANG_SECONDS
    ) as client:

        async def send(request: dict[str, Any]) -> dict[str, Any]:
            async with gate:
                answer = await client.post(f"{base_url}/chat/completions", json=request)
            answer.raise_for_status()
            return dict(answer.json())

        return list(await asyncio.gather(*(send(request) for request in requests)))


async def test_the_better_essay_wins_more_often(provider: str) -> None:
    """The share of right verdicts on the shipped pairs is near what their ranks promise."""
    ranks = {essay.id: essay.rank for essay in load_essays()}
    requests = [ask(pair, user=f"copy-{copy}") for copy in range(3) for pair in PAIRS]
    answers = await collect(provider, requests, concurrency=20)
    right = {True: 0, False: 0}
    for request, answer in zip(PAIRS * 3, answers, strict=True):
        winner = json.loads(answer["choices"][0]["message"]["content"])["winner"]
        names = request["metadata"]
        better = min(("essay_a", "essay_b"), key=lambda side: ranks[names[f"{side}_id"]])
        right[winner == better] += 1
    assert 0.70 < right[True] / len(requests) < 0.92


def test_refusals_have_openais_shape(provider: str) -> None:
    """401 without a key, 400 for invalid JSON, 404, 405, and 413 for a body over 4 MiB."""
    key = {"authorization": "Bearer key"}
    with httpx.Client(base_url=provider, timeout=HANG_SECONDS) as client:
        answers = {
            401: client.post("/chat/completions", json=ask(PAIRS[0])),
            400: client.post("/chat/completions", content=b"{", headers=key),
            404: client.post("/chat/completions", json=ask(PAIRS[0], model="gpt-9"), headers=key),
            405: client.get("/chat/completions", headers=key),
            413: client.post("/chat/completions", content=b" " * (5 * 1024 * 1024), headers=key),
        }
        unknown = client.get("/ghosts", headers=key)
        healthy = client.get(provider.removesuffix("/v1") + "/healthz")
    assert {status: answer.status_code for status, answer in answers.items()} == {
        each: each for each in answers
    }
    for answer in (*answers.values(), unknown):
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert unknown.status_code == 404
    assert healthy.json()["status"] == "ok"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(start: Start, number: signal.Signals) -> None:
    process, _ = start()
    process.send_signal(number)
    out, err = process.communicate(timeout=HANG_SECONDS)
    assert (process.returncode, out, err) == (0, "", "")


async def test_calls_under_way_are_answered_when_it_stops(start: Start) -> None:
    """SIGTERM cuts the simulated latency short; no call is broken off."""
    process, base_url = start("--latency-p50-ms", "60000")
    requests = [ask(pair) for pair in PAIRS[:10]]
    answering = asyncio.create_task(collect(base_url, requests, concurrency=10))
    async with asyncio.timeout(HANG_SECONDS), httpx.AsyncClient(timeout=HANG_SECONDS) as client:
        while (await client.get(base_url.removesuffix("/v1") + "/healthz")).json()["in_flight"] < len(
            requests
        ):
            pass
    process.send_signal(signal.SIGTERM)
    answers = await asyncio.wait_for(answering, HANG_SECONDS)
    assert len(answers) == len(requests)
    assert await asyncio.to_thread(process.wait, HANG_SECONDS) == 0


def test_it_ends_with_its_parent(start: Start) -> None:
    """With --exit-with-parent it watches standard input, and outlives it otherwise."""
    process, _ = start("--exit-with-parent")
    assert process.poll() is None
    assert process.communicate(timeout=HANG_SECONDS) == ("", "")
    assert process.returncode == 0
    process, base_url = start()
    assert process.stdin is not None
    process.stdin.close()
    for _ in range(3):
        assert httpx.get(base_url.removesuffix("/v1") + "/healthz", timeout=HANG_SECONDS).status_code == 200
    assert process.poll() is None


def test_a_taken_port_is_one_sentence_and_exit_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = run("--port", str(port))
        out, err = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 1
    assert out == ""
    assert err == (
        f"The fake provider cannot listen on 127.0.0.1:{port}: Address already in use. "
        "Choose another port, or 0 for any free one.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--scenario", "storm"), "choose one of: brownout, calm"),
        (("--latency-p50-ms", "-1"), "give 0 or more"),
        (("--latency-p50-ms", "nan"), "give 0 or more"),
        (("--port", "70000"), "from 0 to 65535"),
    ],
)
def test_wrong_usage_is_exit_2(arguments: tuple[str, ...], complaint: str) -> None:
    process = run(*arguments)
    out, err = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 2
    assert out == ""
    assert complaint in err
