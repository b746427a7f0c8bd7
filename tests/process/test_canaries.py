"""Marked essays, prompts, keys and tokens go the whole way; none of them stands where it must not."""

import asyncio
import json
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.conftest import ROOT, Launcher
from tests.process.conftest import PATH, configure_service
from tests.process.load import SharedLedger, TopicWatch
from tests.waiting import HANG_SECONDS, open_client, until

ESSAY, PROMPT, SYSTEM, ANSWER = (f"CANARY-{kind}-4711" for kind in ("essay", "prompt", "system", "answer"))
KEY, TOKEN, ADMIN = "sk-CANARY-key-4711", "CANARY-token-4711", "CANARY-admin-4711"
CANARIES = (ESSAY, PROMPT, SYSTEM, ANSWER, KEY, TOKEN, ADMIN)


class Judge(BaseHTTPRequestHandler):
    """Answers well and badly in turn, each time with a canary in its words."""

    protocol_version = "HTTP/1.1"
    calls = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        Judge.calls += 1
        judgement = json.dumps({"winner": "essay_a", "justification": ANSWER, "confidence": 0.5})
        replies = [
            (200, {"choices": [{"message": {"content": judgement}, "finish_reason": "stop"}]}),
            (200, {"choices": [{"message": {"content": f"no JSON {ANSWER}"}, "finish_reason": "stop"}]}),
            (500, {"error": {"message": ANSWER, "code": "server_error"}}),
            (401, {"error": {"message": f"Incorrect API key provided: {KEY}", "code": "invalid_api_key"}}),
            (400, {"error": {"message": f"bad {ESSAY}", "code": "bad_request"}}),
        ]
        status, document = replies[Judge.calls % len(replies)]
        body = json.dumps({**document, "model": "gpt-4o-mini", "usage": {}}).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def judge() -> Any:
    """Returns the provider's base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Judge)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


async def test_no_marked_text_stands_where_it_must_not(
    launcher: Launcher, bootstrap_servers: str, topic: str, judge: str, tmp_path: Path
) -> None:
    """Logs, metrics, snapshots, refusals, the process list and the output of the command line: no hit."""
    settings = {
        "OPENAI_API_KEY": KEY,
        "API_TOKENS": f"team:{TOKEN}",
        "ADMIN_TOKEN": ADMIN,
        "MAX_ATTEMPTS": "2",
    }
    environment = configure_service(bootstrap_servers, tmp_path, judge, **settings)
    # Nobody listens there: had the service taken its proxy from the environment, no call would get through.
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"), "http://127.0.0.1:9")
    service = launcher.start("service", env={**environment, **proxies})
    url, ledger = service.ready["url"], SharedLedger()
    seen: dict[str, str] = {}
    async with open_client(url) as client:
        caller = {"Authorization": f"Bearer {TOKEN}"}
        operator = {"Authorization": f"Bearer {ADMIN}"}
        body = {
            "user_prompt": PROMPT,
            "essay_a": ESSAY,
            "essay_b": f"b {ESSAY}",
            "callback_topic": topic,
            "llm_config_overrides": {"system_prompt_override": SYSTEM},
        }
        with TopicWatch(bootstrap_servers, [topic], ledger) as watch:
            for _ in range(15):
                assert (await client.post(PATH, json=body, headers=caller)).status_code == 202
            await until(lambda: watch.records == 15, what="callbacks")
        for number, wrong in enumerate(
            (
                {**body, "priority": ESSAY},
                {**body, ESSAY: 1},
                {**body, "essay_b": ""},
                {**body, "metadata": {ESSAY: "x" * 20_000}},
                [ESSAY],
            )
        ):
            refused = await client.post(PATH, json=wrong, headers=caller)
            assert refused.status_code in {413, 422}
            # A name that the caller invented is told back to it, and to nobody else.
            if number != 1:
                seen[f"refusal {number}"] = refused.text
        seen["no JSON"] = (await client.post(PATH, content=f"{{{ESSAY}".encode(), headers=caller)).text
        seen["strange token"] = (
            await client.post(PATH, json=body, headers={"Authorization": f"Bearer x{TOKEN}"})
        ).text
        for path in ("/metrics", "/admin/v1/snapshot", "/api/v1/providers", "/readyz", "/openapi.json"):
            headers = caller if path.startswith("/api") else operator
            seen[path] = (await client.get(path, headers=headers)).text
    seen["process list"] = read_command(service.process.pid)
    for words in (("config", "show"), ("monitor", "--once", "--output", "json"), ("providers", "list")):
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "llmctl", *words],
            env={
                "PATH": "",
                "PYTHONPATH": str(ROOT),
                "LLMCTL_URL": url,
                "LLMCTL_TOKEN": ADMIN,
                "HOME": str(tmp_path),
            },
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            check=False,
        )
        seen[" ".join(words)] = done.stdout + done.stderr
    service.stop()
    seen["log"] = service.log.read_text()

    hits = {place: [canary for canary in CANARIES if canary in text] for place, text in seen.items()}
    assert {place: found for place, found in hits.items() if found} == {}
    assert "request answered" in seen["log"]
    assert "request failed" in seen["log"]
    assert len(seen) > 12


def read_command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()
