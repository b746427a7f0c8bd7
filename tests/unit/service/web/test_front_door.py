"""The way in: submissions go to their endpoint, the rest to the application, a defect is told and logged."""

from typing import Any

import orjson
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from service.web.front_door import FrontDoor


class Caller:
    def __init__(self, path: str, method: str = "POST") -> None:
        self.scope: Scope = {"type": "http", "method": method, "path": path, "headers": []}
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def ask(self, door: FrontDoor) -> int:
        await door(self.scope, self.receive, self.send)
        return int(self.sent[0]["status"])


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    await Response(status_code=299)(scope, receive, send)


def door(submit: Any) -> FrontDoor:
    return FrontDoor(application, submit)


async def accept(_: Request) -> Response:
    return Response(status_code=202)


async def fail(_: Request) -> Response:
    raise RuntimeError("the essay says: secret")


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/api/v1/comparison", "POST", 202),
        ("/api/v1/comparison", "GET", 299),
        ("/api/v1/comparison/", "POST", 299),
        ("/readyz", "POST", 299),
    ],
)
async def test_only_submissions_skip_the_application(path: str, method: str, status: int) -> None:
    assert await Caller(path, method).ask(door(accept)) == status


async def test_defect_is_a_500_and_raised_for_the_log() -> None:
    caller = Caller("/api/v1/comparison")
    with pytest.raises(RuntimeError):
        await caller.ask(door(fail))

    start, body = caller.sent
    assert start["status"] == 500
    assert orjson.loads(body["body"])["error"]["error_code"] == "LLM_INTERNAL_ERROR"
    assert b"secret" not in body["body"]
