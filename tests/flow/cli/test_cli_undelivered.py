"""`llmctl undelivered` against a stand-in for the service: pages, refusals, questions, hostile words."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.flow.cli.conftest import start
from tests.waiting import HANG_SECONDS

Run = Callable[..., Awaitable[Any]]


def make_item(number: int, topic: str = "results", reason: str = "MESSAGE_TOO_LARGE") -> dict[str, Any]:
    """An undelivered callback as the service tells it."""
    return {
        "queue_id": f"0f8fad5b-d9cb-469f-a165-{number:012d}",
        "correlation_id": "11111111-d9cb-469f-a165-000000000000",
        "topic": topic,
        "reason": reason,
        "message": f"This is what {reason} means.",
        "is_error": False,
        "size_bytes": 1300,
        "accepted_at": "2026-01-02T03:04:05+00:00",
        "parked_at": "2026-01-02T03:04:06+00:00",
    }


@dataclass
class Parking:
    """Answers the two routes as the service does, from a list."""

    url: str = ""
    items: list[dict[str, Any]] = field(default_factory=list)
    queries: list[dict[str, str]] = field(default_factory=list)
    orders: list[dict[str, Any]] = field(default_factory=list)
    authorizations: set[str | None] = field(default_factory=set)
    refusal: tuple[int, str] | None = None

    async def list_(self, request: Request) -> Response:
        """`GET /admin/v1/undelivered`; a sequence is a place in the list."""
        query = dict(request.query_params)
        self.queries.append(query)
        self.authorizations.add(request.headers.get("authorization"))
        if self.refusal is not None:
            return self._refuse(*self.refusal)
        found = [item for item in self.items if query.get("topic") in (None, item["topic"])]
        after, end = int(query["after"]), int(query["after"]) + int(query["limit"])
        following = end if end < len(found) else None
        return JSONResponse({"total": len(found), "items": found[after:end], "next": following})

    async def resend(self, request: Request) -> Response:
        """`POST /admin/v1/undelivered/resend`."""
        order = await request.json()
        self.orders.append(order)
        if self.refusal is not None:
            return self._refuse(*self.refusal)
        known = [item["queue_id"] for item in self.items]
        wanted = order.get("queue_ids", known)
        parked = [each for each in wanted if each in known]
        return JSONResponse(
            {"resent": len(parked), "not_parked": [each for each in wanted if each not in known]}, 202
        )

    def _refuse(self, status: int, message: str) -> Response:
        return JSONResponse({"error": {"error_code": "LLM_X", "message": message}}, status)


@pytest.fixture
async def parking() -> AsyncIterator[Parking]:
    """The stand-in, over real HTTP."""
    stub = Parking()
    app = Starlette(
        routes=[
            Route("/admin/v1/undelivered", stub.list_),
            Route("/admin/v1/undelivered/resend", stub.resend, methods=["POST"]),
        ]
    )
    config = uvicorn.Config(app, port=0, log_level="critical", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    async with asyncio.timeout(HANG_SECONDS):
        await server.startup()
    serving = asyncio.create_task(server.main_loop())
    try:
        stub.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        yield stub
    finally:
        server.should_exit = True
        await serving
        await server.shutdown()


async def test_a_pipe_gets_one_line_for_each_of_all_pages(llmctl: Run, parking: Parking) -> None:
    """Every item as the service tells it, over several pages; stderr says how many and what to do."""
    parking.items = [make_item(number) for number in range(450)]
    ended = await llmctl("--token", "secret", "undelivered", "list", "--limit", "1000", "--url", parking.url)
    assert ended.code == 0
    assert [json.loads(line) for line in ended.out.splitlines()] == parking.items
    assert len(parking.queries) == 3
    assert parking.authorizations == {"Bearer secret"}
    assert "450 callbacks are undelivered" in ended.err
    assert ended.err.count("This is what MESSAGE_TOO_LARGE means.") == 1
    assert "`llmctl undelivered resend QUEUE_ID…`" in ended.err


async def test_a_limit_over_several_pages_is_kept_and_said(llmctl: Run, parking: Parking) -> None:
    """As many as asked for and no more, of the topic that was asked for."""
    parking.items = [make_item(number, topic) for number in range(250) for topic in ("a", "b")]
    ended = await llmctl("undelivered", "list", "--topic", "b", "--limit", "230", "--url", parking.url)
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert (ended.code, len(lines), {line["topic"] for line in lines}) == (0, 230, {"b"})
    assert [query["limit"] for query in parking.queries] == ["200", "30"]
    assert "250 callbacks for b are undelivered, 230 of them shown" in ended.err


async def test_nothing_undelivered_is_said_and_no_failure(llmctl: Run, parking: Parking) -> None:
    """An empty list is code 0, with nothing on stdout."""
    ended = await llmctl("undelivered", "list", "--url", parking.url)
    assert (ended.code, ended.out, ended.err) == (0, "", "No callback is undelivered.\n")


async def test_a_table_keeps_ids_whole_and_foreign_words_harmless(llmctl: Run, parking: Parking) -> None:
    """In 80 columns every id can be copied, and neither table nor advice steers the terminal."""
    parking.items = [make_item(1, "team-blue.essays.v1", "EVIL\x1b[31m"), make_item(2, "a\u202eb")]
    ended = await llmctl(
        "undelivered", "list", "--output", "table", "--url", parking.url, env={"COLUMNS": "80"}
    )
    assert ended.code == 0
    for item in parking.items:
        assert item["queue_id"] in ended.out
    assert all(len(line) <= 80 for line in ended.out.splitlines())
    assert not {"\x1b", "\u202e"} & set(ended.out + ended.err)
    assert "1.3 KiB" in ended.out


async def test_named_ids_are_sent_again(llmctl: Run, parking: Parking) -> None:
    """One order with the ids, each once."""
    parking.items = [make_item(number) for number in range(3)]
    wanted = [item["queue_id"] for item in parking.items[:2]]
    ended = await llmctl("undelivered", "resend", *wanted, wanted[0], "--url", parking.url)
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out) == {"resent": 2, "not_parked": []}
    assert parking.orders == [{"queue_ids": wanted}]


async def test_more_ids_than_one_order_takes_are_sent_in_several(llmctl: Run, parking: Parking) -> None:
    """The service takes a thousand at once; the figures are those of all."""
    parking.items = [make_item(number) for number in range(1500)]
    ended = await llmctl(
        "undelivered", "resend", *(item["queue_id"] for item in parking.items), "--url", parking.url
    )
    assert (ended.code, json.loads(ended.out)["resent"]) == (0, 1500)
    assert [len(order["queue_ids"]) for order in parking.orders] == [1000, 500]


async def test_an_id_that_is_not_parked_is_code_1_and_named(llmctl: Run, parking: Parking) -> None:
    """The others are sent again all the same, and the figures say so."""
    parking.items = [make_item(1)]
    ended = await llmctl("undelivered", "resend", "nope", parking.items[0]["queue_id"], "--url", parking.url)
    assert ended.code == 1
    assert json.loads(ended.out) == {"resent": 1, "not_parked": ["nope"]}
    assert "Not undelivered, so not sent again: nope." in ended.err


@pytest.mark.parametrize("words", [(), ("some-id", "--all")])
async def test_resend_wants_either_ids_or_all(llmctl: Run, parking: Parking, words: tuple[str, ...]) -> None:
    """Neither and both are wrong usage, and nothing is asked of the service."""
    ended = await llmctl("undelivered", "resend", *words, "--url", parking.url)
    assert (ended.code, ended.out, parking.orders) == (2, "", [])
    assert "either their queue ids, or --all" in ended.err


@pytest.mark.parametrize("words", [("list",), ("resend", "--all")])
async def test_a_dead_service_is_code_3(llmctl: Run, dead_port: int, words: tuple[str, ...]) -> None:
    """One sentence that says where nobody answers."""
    ended = await llmctl("undelivered", *words, "--url", f"http://127.0.0.1:{dead_port}")
    assert (ended.code, ended.out) == (3, "")
    assert f"No service answers at http://127.0.0.1:{dead_port}" in ended.err


@pytest.mark.parametrize("words", [("list",), ("resend", "--all")])
async def test_a_refusal_is_the_services_own_sentence(
    llmctl: Run, parking: Parking, words: tuple[str, ...]
) -> None:
    """Code 1, and nothing on stdout."""
    parking.refusal = (401, "This is not for you.")
    ended = await llmctl("undelivered", *words, "--url", parking.url)
    assert (ended.code, ended.out) == (1, "")
    assert "This is not for you." in ended.err


@pytest.fixture
async def production(parking: Parking, config_file: Path) -> Parking:
    """The stand-in as a context that is production."""
    text = f'current = "live"\n[contexts.live]\nurl = "{parking.url}"\nenvironment = "prod"\n'
    await asyncio.to_thread(config_file.write_text, text)
    parking.items = [make_item(1)]
    return parking


async def test_all_of_production_needs_a_yes(llmctl: Run, production: Parking) -> None:
    """Where nobody can be asked it wants --yes; named ids and the list want nothing."""
    refused = await llmctl("undelivered", "resend", "--all")
    assert (refused.code, production.orders) == (2, [])
    assert "say --yes" in refused.err
    for words in (("--all", "--yes"), (production.items[0]["queue_id"],)):
        assert (await llmctl("undelivered", "resend", *words)).code == 0
    assert production.orders == [{"all": True}, {"queue_ids": [production.items[0]["queue_id"]]}]


@pytest.mark.parametrize(("answer", "code", "orders"), [(b"y\n", 0, 1), (b"n\n", 1, 0), (b"\n", 1, 0)])
async def test_production_obeys_the_answer(
    production: Parking, terminal: tuple[int, int], answer: bytes, code: int, orders: int
) -> None:
    """On a terminal the question names the service; everything but a yes sends nothing."""
    ours, theirs = terminal
    async with start("undelivered", "resend", "--all", terminal=theirs) as process:
        said = b""
        async with asyncio.timeout(HANG_SECONDS):
            while b"[y/N]" not in said:
                said += await asyncio.to_thread(os.read, ours, 4096)
            assert production.url.encode() in said
            assert production.orders == []
            os.write(ours, answer)
            await process.communicate()
    assert (process.returncode, len(production.orders)) == (code, orders)
