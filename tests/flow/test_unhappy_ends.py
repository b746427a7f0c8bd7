"""Every way to end without a plain answer gives one callback with the right code, and counts what it cost."""

import asyncio
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from service.contracts.codec import open_envelope
from service.contracts.events import LLMComparisonResultV1
from tests.waiting import open_client

PATH = "/api/v1/comparison"
USAGE = {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010}
# gpt-4o-mini: 0.15 and 0.60 USD per million tokens.
COST = (1000 * 0.15 + 10 * 0.60) / 1_000_000

Reply = tuple[int, dict[str, str], bytes]


class Judge:
    """An HTTP server that answers every call as the test has set it."""

    def __init__(self) -> None:
        self.reply: Callable[[int], Reply] = lambda _: (500, {}, b"{}")
        self.calls = 0
        judge = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                judge.calls += 1
                status, headers, content = judge.reply(judge.calls)
                self.send_response(status)
                for name, value in {"content-type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"


@pytest.fixture
def judge() -> Iterator[Judge]:
    """A provider whose answers the test sets."""
    judge = Judge()
    thread = Thread(target=judge.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield judge
    judge.server.shutdown()
    thread.join()
    judge.server.server_close()


@pytest.fixture
def start(launcher: Any, judge: Judge, bootstrap_servers: str, tmp_path: Path) -> Callable[..., str]:
    """Starts a service that asks the scripted judge."""

    def start(**settings: str) -> str:
        child = launcher.start(
            "service",
            env={
                "LLM_PROVIDER_SERVICE_PORT": "0",
                "LLM_PROVIDER_SERVICE_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
                "LLM_PROVIDER_SERVICE_QUEUE_PATH": str(tmp_path / "queue.db"),
                "LLM_PROVIDER_SERVICE_OPENAI_API_KEY": "fake-key",
                "LLM_PROVIDER_SERVICE_OPENAI_BASE_URL": judge.url,
                **settings,
            },
        )
        return str(child.ready["url"])

    return start


def completion(content: Any, finish_reason: str = "stop") -> Reply:
    """A chat completion with this answer in it."""
    text = content if isinstance(content, str) else json.dumps(content)
    document = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": finish_reason,
            }
        ],
        "usage": USAGE,
    }
    return 200, {}, json.dumps(document).encode()


async def ask(url: str, body: dict[str, Any], topic: str, read_topic: Any) -> LLMComparisonResultV1:
    """Submits one request and a second that marks the end; the first one's only callback."""
    async with open_client(url) as client:
        accepted = (await client.post(PATH, json=body)).json()["queue_id"]
        records = await asyncio.to_thread(read_topic, topic, 1)
        await client.post(PATH, json=body | {"ttl_seconds": 1e-9})
        records = await asyncio.to_thread(read_topic, topic, 2)
    results = [open_envelope(record.value()).data for record in records]
    (result,) = [result for result in results if result.request_id == accepted]
    return result


async def test_answer_that_misses_the_schema_is_repeated_and_then_told(
    start: Callable[..., str], judge: Judge, body: dict[str, Any], topic: str, read_topic: Any
) -> None:
    """Three unusable answers: one error callback, with the tokens and the money of all three."""
    judge.reply = lambda _: completion({"winner": "both", "justification": "x", "confidence": 0.5})
    url = start(LLM_PROVIDER_SERVICE_MAX_ATTEMPTS="3")

    result = await ask(url, body, topic, read_topic)

    assert result.error_detail is not None
    assert result.error_detail.error_code == "LLM_INVALID_RESPONSE"
    assert judge.calls == 3
    assert result.token_usage.total_tokens == 3 * USAGE["total_tokens"]
    assert result.cost_estimate == pytest.approx(3 * COST)


async def test_justification_that_is_too_long_is_cut_and_not_lost(
    start: Callable[..., str], judge: Judge, body: dict[str, Any], topic: str, read_topic: Any
) -> None:
    """501 characters of justification give a success callback with 500 of them."""
    judge.reply = lambda _: completion({"winner": "essay_a", "justification": "ö" * 501, "confidence": 1})

    result = await ask(start(), body, topic, read_topic)

    assert result.is_success
    assert result.justification == "ö" * 500


async def test_provider_that_fails_five_times_gives_one_error_callback(
    start: Callable[..., str], judge: Judge, body: dict[str, Any], topic: str, read_topic: Any
) -> None:
    """Five failures are five attempts and one answer: the last provider error."""
    judge.reply = lambda _: (503, {"retry-after-ms": "1"}, b'{"error": {"message": "overloaded"}}')

    result = await ask(start(), body, topic, read_topic)

    assert result.error_detail is not None
    assert result.error_detail.error_code == "LLM_PROVIDER_UNAVAILABLE"
    assert result.error_detail.details["attempts"] == 5
    assert judge.calls == 5


async def test_success_after_a_failure_counts_both(
    start: Callable[..., str], judge: Judge, body: dict[str, Any], topic: str, read_topic: Any
) -> None:
    """An answer at the second attempt costs what both attempts have cost."""
    good = completion({"winner": "essay_b", "justification": "clear", "confidence": 0.9})
    judge.reply = lambda call: completion("no json") if call == 1 else good

    result = await ask(start(), body, topic, read_topic)

    assert result.winner == "essay_b"
    assert result.token_usage.total_tokens == 2 * USAGE["total_tokens"]
    assert result.cost_estimate == pytest.approx(2 * COST)


async def test_refused_key_ends_at_once_and_is_never_shown(
    start: Callable[..., str], judge: Judge, body: dict[str, Any], topic: str, read_topic: Any
) -> None:
    """A wrong key is the operator's affair: one attempt, one error callback without the key in it."""
    judge.reply = lambda _: (401, {}, b'{"error": {"message": "Incorrect API key provided: fake-key"}}')

    result = await ask(start(), body, topic, read_topic)

    assert result.error_detail is not None
    assert result.error_detail.error_code == "LLM_CONFIGURATION_ERROR"
    assert "fake-key" not in result.model_dump_json()
    assert judge.calls == 1
