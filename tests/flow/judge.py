"""A provider in the test's own process: the test sets its replies, and can hold them back."""

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event
from typing import Any

from tests.waiting import HANG_SECONDS

USAGE = {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010}

MARK = b"HUGE"

Reply = tuple[int, dict[str, str], bytes]


def completion(content: Any, finish_reason: str = "stop") -> Reply:
    """Makes a chat completion with this content."""
    text = content if isinstance(content, str) else json.dumps(content)
    message = {"role": "assistant", "content": text}
    document = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": USAGE,
    }
    return 200, {}, json.dumps(document).encode()


class Judge:
    """An HTTP server that sends `reply(number of the call)` as soon as the gate is open."""

    def __init__(self) -> None:
        good = completion({"winner": "essay_a", "justification": "clear", "confidence": 0.9})
        self.reply: Callable[[int], Reply] = lambda _: good
        self.marked: Reply | None = None
        """The reply to requests that contain `MARK`."""
        self.marked_calls = 0
        self.calls = 0
        self.gate = Event()
        self.gate.set()
        judge = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if judge.marked is not None and MARK in body:
                    judge.marked_calls += 1
                    status, headers, content = judge.marked
                else:
                    judge.calls += 1
                    status, headers, content = judge.reply(judge.calls)
                judge.gate.wait(HANG_SECONDS)
                try:
                    self.send_response(status)
                    for name, value in {"content-type": "application/json", **headers}.items():
                        self.send_header(name, value)
                    self.send_header("content-length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except OSError:
                    self.close_connection = True  # the call was cancelled

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
