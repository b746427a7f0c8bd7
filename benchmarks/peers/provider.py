"""A provider that costs next to nothing: OpenAI's shape, the same bytes 50 ms after each request.

python -m benchmarks.peers.provider [--latency-ms 200]
"""

import asyncio
import json
import os

import orjson
import uvloop

from benchmarks.peers.process import bind, end_with_parent, read_option
from benchmarks.transports import ANSWER_LATENCY_SECONDS, Stub

MODEL = "gpt-4o-mini"
JUDGEMENT = {"winner": "essay_a", "justification": "It argues from evidence. " * 12, "confidence": 0.8}
BODY = orjson.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": json.dumps(JUDGEMENT)},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 900, "completion_tokens": 90, "total_tokens": 990},
    }
)
ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_1\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY)
)


class Provider(Stub):
    """Answers as a chat completion does."""

    latency_seconds = float(read_option("--latency-ms", ANSWER_LATENCY_SECONDS * 1000)) / 1000

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(ANSWER)


async def serve() -> None:
    """Serves until it is ended."""
    with bind() as listener:
        server = await asyncio.get_running_loop().create_server(Provider, sock=listener)
        ready = {
            "base_url": f"http://127.0.0.1:{listener.getsockname()[1]}/v1",
            "latency_seconds": Provider.latency_seconds,
            "pid": os.getpid(),
        }
        print(json.dumps(ready), flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    end_with_parent()
    uvloop.run(serve())
