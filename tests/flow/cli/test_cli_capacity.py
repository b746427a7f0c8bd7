"""`llmctl simulate capacity` as its users have it: tables for people, one document in a pipe."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.flow.cli.conftest import Ended, RunHere

FEW = ("--requests", "2000")


Ask = Callable[..., Ended]


@pytest.fixture
def ask(llmctl_here: RunHere) -> Ask:
    return partial(llmctl_here, "simulate", "capacity")


def read(ended: Ended) -> dict[str, Any]:
    (line,) = ended.out.splitlines()
    return dict(json.loads(line))


def test_a_pipe_gets_one_document_with_everything(ask: Ask) -> None:
    ended = ask("--rate", "36000/h", "--rpm", "1200", "--replicas", "2", *FEW)
    assert (ended.code, ended.err) == (0, "")
    document = read(ended)
    unset = dict.fromkeys(("shape", "latency", "provider_concurrency", "tpm", "partitions"))
    assert document["question"] == unset | {
        "rate": 10.0,
        "scenario": "realistic",
        "rpm": 1200.0,
        "failure_rate": 0.0,
        "prompt_tokens": 1446,
        "answer_tokens": 54,
        "usd_per_call": pytest.approx(0.0002493),
        "replicas": 2,
        "concurrency": 1000,
        "cpu_seconds_per_request": 0.0015,
        "attempts": 5,
    }
    assert (document["stable"], document["bottleneck"]) == (True, "provider_requests")
    assert document["largest_rate"] == pytest.approx(20.0)
    resources = [each["name"] for each in document["resources"]]
    assert resources == ["provider_requests", "service_calls", "service_cpu"]
    assert document["latency"]["end_to_end"]["p50"] == pytest.approx(1.6, rel=0.05)
    assert document["day"]["requests"] == pytest.approx(864_000)
    assert document["day"]["usd"] == pytest.approx(864_000 * 0.0002493)
    assert document["run"]["requests"] == 2000


def test_every_option_has_its_effect(ask: Ask) -> None:
    document = read(
        ask(
            *("--shape", "constant 10/s 20s; burst 20", "--latency", "p50=300ms p99=1s", "--rpm", "6000"),
            *("--provider-concurrency", "7", "--tpm", "90000", "--failure-rate", "2.5%", "--attempts", "3"),
            *("--prompt-tokens", "100", "--answer-tokens", "20", "--usd-per-call", "0.01"),
            *("--replicas", "3", "--partitions", "2", "--concurrency", "40", "--cpu-per-request", "3ms"),
            *("--requests", "3000", "--seed", "9", "--output", "json"),
        )
    )
    asked = document["question"]
    assert (asked["shape"], asked["latency"]) == ("constant 10/s 20s; burst 20", "p50=300ms p99=1s")
    assert asked["scenario"] is None
    assert (asked["provider_concurrency"], asked["rpm"], asked["tpm"]) == (7, 6000, 90_000)
    assert (asked["failure_rate"], asked["attempts"]) == (0.025, 3)
    assert (asked["prompt_tokens"], asked["answer_tokens"], asked["usd_per_call"]) == (100, 20, 0.01)
    assert (asked["replicas"], asked["partitions"], asked["concurrency"]) == (3, 2, 40)
    assert asked["cpu_seconds_per_request"] == 0.003
    assert (document["run"]["requests"], document["run"]["seed"]) == (220, 9)
    limits = {each["name"]: each["limit"] for each in document["resources"]}
    assert limits == {
        "provider_calls": 7,
        "provider_requests": 6000,
        "provider_tokens": 90_000,
        "service_calls": 80,
        "service_cpu": 3,
    }
    assert document["latency"]["provider"]["p50"] == pytest.approx(0.3, rel=0.1)


def test_a_scenario_brings_its_limits_and_what_is_left_out_is_said(ask: Ask) -> None:
    document = read(ask("--rate", "5/s", "--scenario", "chaos", "--rpm", "600", "--model", "gpt-4o", *FEW))
    assert document["question"]["rpm"] == 600
    assert document["question"]["failure_rate"] == pytest.approx(0.12)
    assert document["question"]["usd_per_call"] == pytest.approx(1446 * 2.5e-6 + 54 * 10e-6)
    assert document["question"]["provider_concurrency"] == 100
    assert "timeline" in document["notes"][0]
    calmer = read(ask("--rate", "5/s", "--scenario", "chaos", "--failure-rate", "0.01", *FEW))
    assert (calmer["question"]["failure_rate"], calmer["question"]["rpm"]) == (0.01, 6000)


@pytest.mark.parametrize("columns", [80, 140])
def test_people_get_tables_that_fit(ask: Ask, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    ended = ask("--rate", "50/s", "--scenario", "chaos", "--output", "table", *FEW)
    assert ended.code == 0
    assert ended.out.startswith("Stable at 50.0/s (180,000 an hour). The bottleneck, provider's requests a")
    _verdict, *tables = ended.out.splitlines()  # in a pipe the verdict is not wrapped
    assert tables
    assert all(len(line.rstrip()) <= columns for line in tables)
    assert "…" not in ended.out
    for word in (
        "queue wait",
        "end to end",
        "p99.9",
        "service's CPU",
        "deep on average",
        "4,320,000 requests",
    ):
        assert word in ended.out
    assert "2,000 requests in" in ended.out
    assert "after 200 to" in ended.out
    assert "95%" in ended.out
    assert ended.err.startswith("The scenario's timeline is left out")
    assert "\x1b" not in ended.out


def test_too_much_is_said_at_once(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    ended = ask("--rate", "30/s", "--rpm", "600", "--output", "table", *FEW)
    assert ended.code == 0
    assert ended.out.startswith("NOT stable at 30.0/s (108,000 an hour): the queue grows by 20.0/s. ")
    assert "grow with it" in ended.out
    assert "95%" not in ended.out


def test_a_burst_has_no_day_and_no_rate(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ended = ask("--shape", "burst 500", "--rpm", "600", "--output", "table")
    assert ended.out.startswith("One burst. The bottleneck, provider's requests a minute, carries 10.0/s.")
    assert "all is done 5" in ended.out
    assert "a day" not in ended.out


def test_a_recorded_load_can_be_planned_for(ask: Ask, tmp_path: Path) -> None:
    trace = tmp_path / "requests.jsonl"
    trace.write_text("".join(f'{{"t": {number}}}\n' for number in range(101)))
    document = read(ask("--shape", f"trace {trace} speed=10"))
    assert document["run"]["requests"] == 101
    assert document["run"]["seconds"] == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Say how much arrives: either --rate"),
        (("--rate", "1/s", "--shape", "1/s 1s"), "Say how much arrives: either --rate"),
        (("--rate", "many"), "'many' is no rate"),
        (("--shape", "poison 1/s 1s"), "--shape: stage 1 (poison 1/s 1s): 'poison' is no kind of stage"),
        (("--shape", "closed callers=3 1m"), "is a closed loop"),
        (("--shape", "trace nowhere.jsonl"), "--shape: the trace nowhere.jsonl cannot be read"),
        (("--shape", "1000/s 1h"), "The shape comes to 3,600,000 requests"),
        (("--rate", "1/s", "--latency", "p50=1s"), "--latency: 'p50=1s' is no distribution"),
        (
            ("--rate", "1/s", "--latency", "1s", "--scenario", "calm"),
            "give --latency or --scenario, not both",
        ),
        (("--rate", "1/s", "--scenario", "calmer"), "There is no scenario 'calmer'"),
        (("--rate", "1/s", "--model", "gpt-4o-min"), "take for example gpt-4o-mini"),
        (("--rate", "1/s", "--model", "gpt-4o", "--usd-per-call", "1"), "give --model or --usd-per-call"),
        (("--rate", "1/s", "--failure-rate", "1"), "'1' is no share of less than all"),
        (("--rate", "1/s", "--failure-rate", "nan"), "'nan' is no share of less than all"),
        (("--rate", "1/s", "--latency", "0ms", "--cpu-per-request", "0ms"), "Nothing limits such a system"),
        (("--rate", "1/s", "--cpu-per-request", "fast"), "'fast' is no duration"),
        (("--rate", "1/s", "--rpm", "inf"), "Invalid value for '--rpm'"),
        (("--rate", "1/s", "--usd-per-call", "nan"), "Invalid value for '--usd-per-call'"),
        (("--rate", "1/s", "--replicas", "0"), "Invalid value for '--replicas'"),
    ],
)
def test_wrong_usage_is_code_2_and_one_sentence(ask: Ask, words: tuple[str, ...], said: str) -> None:
    ended = ask(*words)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert ended.err.count("\n") == 1
