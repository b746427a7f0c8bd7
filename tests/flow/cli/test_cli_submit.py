"""`llmctl submit` over real HTTP and a real Kafka protocol."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.flow.cli.conftest import GOOD, Run, as_lines, read_lines


async def test_one_comparison_is_handed_in_with_all_that_was_said(
    llmctl: Run, service: Any, tmp_path: Path
) -> None:
    service.calls_back = False
    (tmp_path / "a.txt").write_text("essay ä", encoding="utf-8")
    ended = await llmctl(
        *("--url", service.url, "--token", "secret", "submit", "--prompt", "p", "--callback-topic", "t"),
        *("--essay-a", str(tmp_path / "a.txt"), "--essay-b", "-", "--priority", "4", "--ttl", "90s"),
        *("--metadata", "k=v=w", "--provider", "openai", "--model", "gpt-4o"),
        stdin="essay ü".encode(),
    )
    assert (ended.code, ended.err) == (0, "")
    document = json.loads(ended.out)
    assert set(document) == {"queue_id", "correlation_id", "line", "status", "error"}
    assert (document["status"], document["line"], document["error"]) == ("queued", 1, None)
    assert service.authorizations == ["Bearer secret"]
    assert service.bodies == [
        {
            "user_prompt": "p",
            "essay_a": "essay ä",
            "essay_b": "essay ü",
            "callback_topic": "t",
            "priority": 4,
            "ttl_seconds": 90.0,
            "metadata": {"k": "v=w"},
            "llm_config_overrides": {"provider_override": "openai", "model_override": "gpt-4o"},
        }
    ]


async def test_refused_lines_do_not_stop_the_others(submit: Run, service: Any) -> None:
    service.calls_back = False
    ended = await submit(as_lines(GOOD, {"user_prompt": "p"}) + b"no json\n\n" + as_lines(GOOD))
    documents = {each["line"]: each for each in read_lines(ended.out)}
    assert ended.code == 1
    statuses = {line: each["status"] for line, each in documents.items()}
    assert statuses == {1: "queued", 2: "refused", 3: "refused", 5: "queued"}
    assert documents[2]["error"]["error_code"] == "LLM_INVALID_PROMPT"
    assert "2 of 4 requests failed" in ended.err
    assert len(service.bodies) == 2


async def test_waiting_brings_every_result(submit: Run, topic: str) -> None:
    lines = as_lines(GOOD, GOOD | {"essay_b": "fail"}, GOOD)
    ended = await submit(lines, "--wait", topic=topic)
    documents = {each["line"]: each for each in read_lines(ended.out)}
    assert ended.code == 1
    assert [documents[line]["status"] for line in (1, 2, 3)] == ["success", "error", "success"]
    assert documents[1]["result"]["request_id"] == documents[1]["queue_id"]
    assert documents[2]["error"]["error_code"] == "LLM_PROVIDER_TIMEOUT"
    assert "line 2" in ended.err


async def test_waiting_in_vain_says_how_many_are_missing(submit: Run, service: Any, topic: str) -> None:
    service.calls_back = False
    words = ("--wait", "--timeout", "300ms", "--output", "table")
    ended = await submit(as_lines(GOOD, GOOD), *words, topic=topic)
    assert ended.code == 4
    assert "2 of 2 callbacks are missing after 300ms" in ended.err
    assert ended.out.count("queued") == 2
    assert "\x1b" not in ended.out + ended.err


async def test_a_dry_run_sends_nothing(llmctl: Run, dead_port: int) -> None:
    url = f"http://127.0.0.1:{dead_port}"
    ended = await llmctl(
        *("submit", "--dry-run", "--file", "-", "--callback-topic", "t", "--url", url),
        stdin=as_lines(GOOD, GOOD | {"essay_a": ""}),
    )
    assert ended.code == 1
    valid, refused = read_lines(ended.out)
    assert (valid["status"], refused["status"]) == ("valid", "refused")
    assert valid["body"] == GOOD | {"callback_topic": "t"}
    assert valid["estimated_tokens"] > 300
    assert (valid["estimated_cost_usd"], refused["estimated_tokens"]) == (None, None)
    summary, verdict = ended.err.splitlines()
    assert "price and time unknown: No service answers at" in summary
    assert "1 of 2 requests failed, the first in line 2 (LLM_INVALID_REQUEST: essay_a" in verdict


async def test_a_dead_service_is_code_3(llmctl: Run, dead_port: int) -> None:
    url = f"http://127.0.0.1:{dead_port}"
    words = ("submit", "--file", "-", "--callback-topic", "t", "--url", url)
    ended = await llmctl(*words, stdin=as_lines(GOOD))
    assert (ended.code, ended.out) == (3, "")
    (sentence,) = ended.err.splitlines()
    assert sentence.startswith(f"No service answers at {url}; start one with `llmctl up`")


async def test_a_dead_broker_is_noticed_before_anything_is_sent(
    submit: Run, service: Any, dead_port: int
) -> None:
    words = ("--wait", "--bootstrap-servers", f"127.0.0.1:{dead_port}", "--output", "json")
    ended = await submit(as_lines(GOOD), *words)
    assert (ended.code, service.bodies) == (3, [])
    assert json.loads(ended.err)["error"]["exit_code"] == 3


async def test_a_server_that_is_not_this_service_is_named(submit: Run, service: Any) -> None:
    service.url += "/x"
    ended = await submit(as_lines(GOOD))
    assert ended.code == 1
    assert "is not this service (HTTP 404)" in ended.err


async def test_every_line_has_a_key_of_its_own(submit: Run, service: Any) -> None:
    service.calls_back = False
    service.full_times = 1
    ended = await submit(as_lines(GOOD, GOOD), "--concurrency", "1")
    assert (ended.code, len(service.bodies)) == (0, 2)
    first, again, second = service.keys
    assert first == again != second
    assert all(UUID(key).version == 5 for key in service.keys)
    await submit(as_lines(GOOD))
    assert len(set(service.keys)) == 3  # another run is another batch


async def test_a_lost_answer_is_asked_for_again(submit: Run, service: Any, topic: str) -> None:
    service.lost_answers = 2
    ended = await submit(as_lines(GOOD), "--wait", "--timeout", "300s", topic=topic)
    (document,) = read_lines(ended.out)
    assert (ended.code, document["status"], len(service.bodies)) == (0, "success", 1)
    assert len(service.keys) == 3
    assert len(set(service.keys)) == 1
    assert document["queue_id"] == service.accepted[service.keys[0]]["queue_id"]


async def test_a_service_that_loses_every_answer_is_given_up(llmctl: Run, service: Any) -> None:
    service.lost_answers = 10_000
    service.calls_back = False
    ended = await llmctl(
        *("submit", "--prompt", "p", "--essay-a", "-", "--essay-b", "/dev/null"),
        *("--callback-topic", "t", "--url", service.url),
        stdin=b"a",
    )
    assert (ended.code, ended.out) == (3, "")
    assert "whether that request was accepted is unknown" in ended.err
    assert (len(set(service.keys)), len(service.bodies)) == (1, 1)
