"""`llmctl submit --swap-check` and `--dry-run` against a running service: mock judge, embedded broker."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.flow.cli.conftest import Run, as_lines, read_lines

pytestmark = [pytest.mark.usefixtures("embedded_broker")]


def make_lines(count: int, **more: Any) -> bytes:
    bodies = [
        {
            "user_prompt": "Which is better?",
            "essay_a": f"The first text of pair {number}.",
            "essay_b": f"The second text of pair {number}.",
            "metadata": {"essay_a_id": f"first-{number}", "essay_b_id": f"second-{number}"},
        }
        | more
        for number in range(count)
    ]
    return as_lines(*bodies)


def name_winner(result: dict[str, Any]) -> str:
    return str(result["request_metadata"][f"{result['winner']}_id"])


async def test_each_pair_is_judged_both_ways(
    llmctl: Run, service_url: str, topic: str, read_topic: Any, tmp_path: Path
) -> None:
    lines = make_lines(20)
    words = [
        *("submit", "--file", "-", "--callback-topic", topic, "--url", service_url, "--swap-check"),
        *("--receipts", str(tmp_path / "receipts")),
    ]
    ended = await llmctl(*words, "--wait", "--timeout", "300s", stdin=lines)
    assert (ended.code, ended.err) == (0, "")
    *documents, report = read_lines(ended.out)
    assert len(documents) == 40
    assert sorted((each["line"], each["swapped"]) for each in documents) == [
        (line, swapped) for line in range(1, 21) for swapped in (False, True)
    ]

    pairs: dict[str, list[dict[str, Any]]] = {}
    for record in read_topic(topic, 40):
        result = json.loads(record.value())["data"]
        pairs.setdefault(result["request_metadata"]["swap_check"]["pair"], []).append(result)
    assert [len(pair) for pair in pairs.values()] == [2] * 20
    for one, other in pairs.values():
        marks = [each["request_metadata"]["swap_check"]["swapped"] for each in (one, other)]
        assert sorted(marks) == [False, True]
        names = [each["request_metadata"]["essay_a_id"] for each in (one, other)]
        assert {name.partition("-")[0] for name in names} == {"first", "second"}
    flips = sum(name_winner(one) != name_winner(other) for one, other in pairs.values())
    first_wins = sum(each["winner"] == "essay_a" for pair in pairs.values() for each in pair)
    (model,) = report["swap_check"]
    assert (model["provider"], model["model"], model["pairs"]) == ("mock", "mock-judge", 20)
    assert (model["flips"], model["flip_rate"]) == (flips, flips / 20)
    assert model["first_position_share"] == first_wins / 40
    assert 0 < flips < 20  # else the figures would prove nothing
    assert report["pairs_left_out"] == 0

    again = await llmctl(*words, "--wait", "--timeout", "300s", stdin=lines)
    assert again.code == 0
    assert "40 of 40 requests stand in" in again.err
    assert read_lines(again.out)[-1] == report
    read_topic(topic, 40)

    unheard = await llmctl(*words, "--output", "table", stdin=lines)
    assert (unheard.code, unheard.out) == (0, "")
    assert "--wait reports it with the same receipts" in unheard.err


async def test_a_dry_run_shows_what_the_service_would_get(llmctl: Run, service_url: str) -> None:
    lines = make_lines(3) + make_lines(1, llm_config_overrides={"provider_override": "openai"})
    ended = await llmctl(
        *("submit", "--dry-run", "--file", "-", "--callback-topic", "t", "--url", service_url), stdin=lines
    )
    assert ended.code == 0
    free, *_, paid = read_lines(ended.out)
    assert [each["status"] for each in read_lines(ended.out)] == ["valid"] * 4
    assert free["body"] == json.loads(lines.splitlines()[0]) | {"callback_topic": "t"}
    assert free["estimated_tokens"] == paid["estimated_tokens"] > 300
    assert free["estimated_cost_usd"] is None  # the mock has no price
    assert 0 < paid["estimated_cost_usd"] < 0.01
    (summary,) = ended.err.splitlines()
    assert summary.startswith(f"4 requests, about {4 * paid['estimated_tokens']:,} tokens, about $0.00")
    assert "without 3 of unknown price" in summary


async def test_a_dry_run_leaves_out_what_was_accepted(
    llmctl: Run, service_url: str, topic: str, tmp_path: Path
) -> None:
    words = [
        *("submit", "--file", "-", "--callback-topic", topic, "--url", service_url),
        *("--receipts", str(tmp_path / "receipts")),
    ]
    assert (await llmctl(*words, stdin=make_lines(1))).code == 0
    ended = await llmctl(*words, "--dry-run", "--output", "table", stdin=make_lines(2))
    assert ended.code == 0
    assert ended.out.startswith("line 2, valid, about ")
    assert '"essay_a": "The first text of pair 1."' in ended.out
    assert "pair 0" not in ended.out
    assert "1 requests have a receipt and would be left out." in ended.err
