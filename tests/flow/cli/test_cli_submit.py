"""`llmctl submit` over real HTTP and a real Kafka protocol."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

Run = Callable[..., Awaitable[Any]]
GOOD = {"user_prompt": "p", "essay_a": "a", "essay_b": "b"}


def as_lines(*bodies: Any) -> bytes:
    """JSON lines."""
    return b"".join(json.dumps(body).encode() + b"\n" for body in bodies)


async def test_one_comparison_is_handed_in_with_all_that_was_said(
    llmctl: Run, service: Any, tmp_path: Path
) -> None:
    """Essays come from files and stdin, everything else from options; the answer is one JSON line."""
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


async def test_refused_lines_do_not_stop_the_others(llmctl: Run, service: Any) -> None:
    """What the service refuses, and what is no JSON, is reported by its line; the rest goes on; code 1."""
    service.calls_back = False
    lines = as_lines(GOOD, {"user_prompt": "p"}) + b"no json\n\n" + as_lines(GOOD)
    ended = await llmctl("submit", "--file", "-", "--callback-topic", "t", "--url", service.url, stdin=lines)
    documents = {each["line"]: each for each in map(json.loads, ended.out.splitlines())}
    assert ended.code == 1
    assert {line: each["status"] for line, each in documents.items()} == {
        1: "queued",
        2: "refused",
        3: "refused",
        5: "queued",
    }
    assert documents[2]["error"]["error_code"] == "LLM_INVALID_PROMPT"
    assert "2 of 4 requests failed" in ended.err
    assert len(service.bodies) == 2


async def test_a_full_service_is_offered_the_line_again(llmctl: Run, service: Any) -> None:
    """A 503 with Retry-After is obeyed for lines of a file."""
    service.calls_back = False
    service.full_times = 3
    ended = await llmctl(
        "submit", "--file", "-", "--callback-topic", "t", "--url", service.url, stdin=as_lines(GOOD, GOOD)
    )
    assert (ended.code, len(service.bodies)) == (0, 2)


async def test_waiting_brings_every_result(
    llmctl: Run, service: Any, topic: str, bootstrap_servers: str
) -> None:
    """The callbacks of all lines are followed, also those faster than the answer; an error ends in code 1."""
    lines = as_lines(GOOD, GOOD | {"essay_b": "fail"}, GOOD)
    ended = await llmctl(
        *("submit", "--wait", "--file", "-", "--callback-topic", topic, "--url", service.url),
        *("--bootstrap-servers", bootstrap_servers),
        stdin=lines,
    )
    documents = {each["line"]: each for each in map(json.loads, ended.out.splitlines())}
    assert ended.code == 1
    assert [documents[line]["status"] for line in (1, 2, 3)] == ["success", "error", "success"]
    assert documents[1]["result"]["request_id"] == documents[1]["queue_id"]
    assert documents[2]["error"]["error_code"] == "LLM_PROVIDER_TIMEOUT"
    assert "line 2" in ended.err


async def test_waiting_in_vain_says_how_many_are_missing(
    llmctl: Run, service: Any, topic: str, bootstrap_servers: str
) -> None:
    """Without callbacks the time limit ends the wait with code 4, and the requests are shown as queued."""
    service.calls_back = False
    ended = await llmctl(
        *("submit", "--wait", "--timeout", "300ms", "--file", "-", "--callback-topic", topic),
        *("--url", service.url, "--bootstrap-servers", bootstrap_servers, "--output", "table"),
        stdin=as_lines(GOOD, GOOD),
    )
    assert ended.code == 4
    assert "2 of 2 callbacks are missing after 300ms" in ended.err
    assert ended.out.count("queued") == 2
    assert "\x1b" not in ended.out + ended.err


async def test_a_dry_run_sends_nothing(llmctl: Run, dead_port: int) -> None:
    """The contract is checked here, with no service at all."""
    ended = await llmctl(
        *(
            "submit",
            "--dry-run",
            "--file",
            "-",
            "--callback-topic",
            "t",
            "--url",
            f"http://127.0.0.1:{dead_port}",
        ),
        stdin=as_lines(GOOD, GOOD | {"essay_a": ""}),
    )
    assert ended.code == 1
    valid, refused = (json.loads(line) for line in ended.out.splitlines())
    assert (valid["status"], valid["body"], refused["status"]) == (
        "valid",
        GOOD | {"callback_topic": "t"},
        "refused",
    )
    assert valid["estimated_tokens"] > 300
    assert (valid["estimated_cost_usd"], refused["estimated_tokens"]) == (None, None)
    summary, verdict = ended.err.splitlines()
    assert "price and time unknown: No service answers at" in summary
    assert "1 of 2 requests failed, the first in line 2 (LLM_INVALID_REQUEST: essay_a" in verdict


async def test_a_dead_service_is_code_3(llmctl: Run, dead_port: int) -> None:
    """One sentence says where nobody answers and what to do."""
    ended = await llmctl(
        *("submit", "--file", "-", "--callback-topic", "t", "--url", f"http://127.0.0.1:{dead_port}"),
        stdin=as_lines(GOOD),
    )
    assert (ended.code, ended.out) == (3, "")
    (sentence,) = ended.err.splitlines()
    assert sentence.startswith(
        f"No service answers at http://127.0.0.1:{dead_port}; start one with `llmctl up`"
    )


async def test_a_dead_broker_is_noticed_before_anything_is_sent(
    llmctl: Run, service: Any, dead_port: int
) -> None:
    """Whoever wants to wait for callbacks does not submit what cannot be followed."""
    ended = await llmctl(
        *("submit", "--wait", "--file", "-", "--callback-topic", "t", "--url", service.url),
        *("--bootstrap-servers", f"127.0.0.1:{dead_port}", "--output", "json"),
        stdin=as_lines(GOOD),
    )
    assert (ended.code, service.bodies) == (3, [])
    assert json.loads(ended.err)["error"]["exit_code"] == 3


async def test_what_answers_but_is_no_service_is_said_so(llmctl: Run, service: Any) -> None:
    """A wrong path at a live server is no crash."""
    ended = await llmctl(
        "submit", "--file", "-", "--callback-topic", "t", "--url", service.url + "/x", stdin=as_lines(GOOD)
    )
    assert ended.code == 1
    assert "is not this service (HTTP 404)" in ended.err


async def test_every_line_has_a_key_of_its_own(llmctl: Run, service: Any) -> None:
    """The same text twice is two requests, and a 503 is answered with the same key."""
    service.calls_back = False
    service.full_times = 1
    ended = await llmctl(
        *("submit", "--file", "-", "--concurrency", "1", "--callback-topic", "t", "--url", service.url),
        stdin=as_lines(GOOD, GOOD),
    )
    assert (ended.code, len(service.bodies)) == (0, 2)
    first, again, second = service.keys
    assert first == again != second
    assert all(UUID(key).version == 5 for key in service.keys)
    await llmctl(
        *("submit", "--file", "-", "--callback-topic", "t", "--url", service.url),
        stdin=as_lines(GOOD),
    )
    assert len(set(service.keys)) == 3  # another run is another batch


@pytest.mark.parametrize("form", ["file", "one"])
async def test_a_lost_answer_is_asked_for_again(
    llmctl: Run, service: Any, topic: str, bootstrap_servers: str, form: str
) -> None:
    """The connection breaks after acceptance: the request is sent again under its key and accepted once."""
    service.lost_answers = 2
    one = ("--prompt", "p", "--essay-a", "-", "--essay-b", "/dev/null")
    ended = await llmctl(
        *("submit", "--wait", "--callback-topic", topic, "--url", service.url),
        *("--bootstrap-servers", bootstrap_servers),
        *(("--file", "-") if form == "file" else one),
        stdin=as_lines(GOOD),
    )
    (document,) = (json.loads(line) for line in ended.out.splitlines())
    assert (ended.code, document["status"], len(service.bodies)) == (0, "success", 1)
    assert len(service.keys) == 3
    assert len(set(service.keys)) == 1
    assert document["queue_id"] == service.accepted[service.keys[0]]["queue_id"]


async def test_a_service_that_loses_every_answer_is_given_up(llmctl: Run, service: Any) -> None:
    """Asking again has an end, and then it is said that nothing is known: code 3."""
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


async def test_a_conflict_is_a_refusal(llmctl: Run, service: Any) -> None:
    """A 409 is not tried again; it is reported as what it is."""
    service.conflicts = True
    ended = await llmctl(
        "submit", "--file", "-", "--callback-topic", "t", "--url", service.url, stdin=as_lines(GOOD)
    )
    document = json.loads(ended.out)
    assert (ended.code, document["status"], len(service.keys)) == (1, "refused", 1)
    assert document["error"]["error_code"] == "LLM_IDEMPOTENCY_CONFLICT"
