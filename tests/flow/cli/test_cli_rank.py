"""`llmctl rank`: the shipped essays, judged through a real service, come out in their order."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from scipy.stats import kendalltau

from simulator.essays import load_essays, pairs_path
from tests.flow.cli.conftest import Run
from tests.flow.conftest import Body, make_env
from tests.waiting import HANG_SECONDS

pytestmark = pytest.mark.usefixtures("on_kafka")
ROUNDS = 8
PAIRS = [json.loads(line) for line in pairs_path().read_text(encoding="utf-8").splitlines()]
ASSIGNMENTS = {essay.id: essay.prompt_id for essay in load_essays()}
RANKS = {essay.id: essay.rank for essay in load_essays()}
SUBMITS_AT_ONCE = 8
HOSTILE = "\x1b]0;owned\x07\u202e"


@dataclass(frozen=True)
class Judged:
    """A topic on which every pair was judged in each round, and the lines of `tail-callbacks` for it."""

    topic: str
    lines: list[dict[str, Any]]
    """Of real traffic, in no order."""


def make_bodies(topic: str) -> Iterator[dict[str, Any]]:
    """The wording differs from round to round: the judge answers the same prompt the same way."""
    for number in range(ROUNDS):
        for pair in PAIRS:
            yield pair | {
                "user_prompt": f"{pair['user_prompt']} (Round {number}.)",
                "metadata": pair["metadata"] | {"round": number},
                "callback_topic": topic,
            }


@pytest.fixture(scope="module")
def judged(
    session_launcher: Any,
    embedded_broker: Any,
    bootstrap_servers: str,
    create_topic: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Judged:
    topic = f"rank-{uuid4()}"
    asyncio.run(create_topic(topic, 3))
    provider = session_launcher.start("simulator.provider", "--port", "0", "--latency-p50-ms", "5")
    settings = {"OPENAI_API_KEY": "fake-key", "OPENAI_BASE_URL": provider.ready["base_urls"]["openai"]}
    env = make_env(bootstrap_servers, tmp_path_factory.mktemp("rank"), **settings)
    child = session_launcher.start("service", env=env)
    bodies = list(make_bodies(topic))
    with httpx.Client(base_url=child.ready["url"], trust_env=False, timeout=HANG_SECONDS) as client:

        def submit(body: Body, headers: dict[str, str] | None = None) -> None:
            answer = client.post("/api/v1/comparison", json=body, headers=headers)
            assert answer.status_code == 202, answer.text

        submit(bodies[0], {"X-Run-ID": "run-9"})
        with ThreadPoolExecutor(SUBMITS_AT_ONCE) as pool:
            list(pool.map(submit, bodies))
    words = ("--from-beginning", "--count", str(len(bodies)), "--timeout", f"{HANG_SECONDS}s")
    done = subprocess.run(
        [sys.executable, "-m", "llmctl", "tail-callbacks", topic, *words],
        env={**os.environ, "LLMCTL_BOOTSTRAP_SERVERS": bootstrap_servers, "LLMCTL_CONFIG": os.devnull},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS + 20,
        check=True,
    )
    return Judged(topic, [json.loads(line) for line in done.stdout.splitlines()])


def measure_tau(document: dict[str, Any]) -> float:
    """Returns Kendall's tau between strength and known rank within each assignment, on average."""
    taus = []
    for assignment in set(ASSIGNMENTS.values()):
        texts = [each for each in document["texts"] if ASSIGNMENTS[each["text"]] == assignment]
        known = [-RANKS[each["text"]] for each in texts]
        taus.append(float(kendalltau([each["strength"] for each in texts], known).statistic))
    return sum(taus) / len(taus)


async def test_the_order_comes_near_the_known_one_and_nearer_with_more_rounds(
    llmctl: Run, judged: Judged
) -> None:
    documents = []
    for rounds in (1, ROUNDS):
        words = ("rank", judged.topic, "--where", f"meta.round<{rounds}")
        ended = await llmctl(*words)
        assert ended.code == 0, ended.err
        documents.append(json.loads(ended.out))
    first, last = documents
    assert [each["comparisons"] for each in documents] == [len(PAIRS), len(PAIRS) * ROUNDS]
    assert 0 < measure_tau(first) < measure_tau(last)
    assert measure_tau(last) > 0.6
    errors = [sum(each["standard_error"] for each in document["texts"]) for document in documents]
    assert errors[1] < errors[0] / 1.5
    assert all(group["reliability"] > 0.6 for group in last["groups"])


async def test_what_stands_on_the_topic_is_described_whole(llmctl: Run, judged: Judged) -> None:
    ended = await llmctl("rank", judged.topic, "--next", "3")
    document = json.loads(ended.out)
    assert ended.code == 0
    assert set(document) == {"texts", "groups", "comparisons", "next_pairs", "prior_sd", "left_out"}
    assert {each["text"] for each in document["texts"]} == set(RANKS)
    assert sum(each["won"] for each in document["texts"]) == len(PAIRS) * ROUNDS == document["comparisons"]
    assert document["left_out"] == dict.fromkeys(document["left_out"], 0) | {"other_run": 1}
    assert len(document["groups"]) == 2
    assert "No comparison connects the 2 groups" in ended.err
    assert len(document["next_pairs"]) == 3
    for pair in document["next_pairs"]:
        assert ASSIGNMENTS[pair["first"]] == ASSIGNMENTS[pair["second"]]
        assert 0 < pair["chance"] < 1
        assert pair["gain"] > 0
    across = await llmctl("rank", judged.topic, "--across", "--all-runs")
    best = json.loads(across.out)["next_pairs"][0]
    assert ASSIGNMENTS[best["first"]] != ASSIGNMENTS[best["second"]]
    assert json.loads(across.out)["comparisons"] == len(PAIRS) * ROUNDS + 1


async def test_a_file_says_the_same_as_the_topic(llmctl: Run, judged: Judged, tmp_path: Path) -> None:
    path = tmp_path / "callbacks.jsonl"
    lines = [json.dumps(each) for each in judged.lines]
    path.write_text("\n".join([*lines, *lines[:5], "no JSON at all"]))
    from_topic = await llmctl("rank", judged.topic)
    from_file = await llmctl("rank", "--file", str(path))
    expected, found = json.loads(from_topic.out), json.loads(from_file.out)
    assert found["left_out"] == expected["left_out"] | {"other_run": 0, "duplicate": 5, "no_callback": 1}
    assert {**found, "left_out": 0} == {**expected, "left_out": 0}
    assert f"(line {len(lines) + 6}: the line is not JSON)" in from_file.err
    table = await llmctl("rank", "--file", "-", "--output", "table", stdin=path.read_bytes())
    assert table.code == 0
    assert "Pairs worth asking next" in table.out
    assert "112 comparisons of 7 texts · reliability" in table.out


async def test_names_from_outside_cannot_steer_the_terminal(llmctl: Run, judged: Judged) -> None:
    lines = []
    for each in judged.lines[:20]:
        metadata = each["envelope"]["data"]["request_metadata"]
        names = {"left": metadata["essay_a_id"] + HOSTILE, "right": metadata["essay_b_id"] + HOSTILE}
        data = each["envelope"]["data"] | {"request_metadata": names}
        lines.append(json.dumps(each | {"envelope": each["envelope"] | {"data": data}}))
    stdin = "\n".join(lines).encode()
    words = ("rank", "--file", "-", "--names", "left,right")
    table = await llmctl(*words, "--output", "table", stdin=stdin)
    assert table.code == 0
    assert "\u241b]0;owned" in table.out
    assert not {"\x1b", "\x07", "\u202e"} & set(table.out + table.err)
    document = await llmctl(*words, stdin=stdin)
    assert document.out.isascii()
    assert all(each["text"].endswith(HOSTILE) for each in json.loads(document.out)["texts"])
    nameless = await llmctl("rank", "--file", "-", stdin=stdin)
    assert (nameless.code, nameless.out) == (2, "")
    assert "20 callbacks do not name both texts under essay_a_id and essay_b_id" in nameless.err
    assert "the first has left, right" in nameless.err


async def test_where_there_is_nothing_to_rank_it_is_said(llmctl: Run, topic: str) -> None:
    ended = await llmctl("rank", topic)
    assert (ended.code, ended.out) == (1, "")
    assert f"There is no callback in the topic {topic}" in ended.err
