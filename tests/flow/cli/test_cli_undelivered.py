"""`llmctl undelivered` against a stand-in for the service: pages, refusals, questions, hostile words."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.flow.cli.conftest import Answer, Run
from tests.flow.serving import serve


def make_item(number: int, topic: str = "results", reason: str = "MESSAGE_TOO_LARGE") -> dict[str, Any]:
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
        """`after` is an index of the list."""
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
    stub = Parking()
    routes = [
        Route("/admin/v1/undelivered", stub.list_),
        Route("/admin/v1/undelivered/resend", stub.resend, methods=["POST"]),
    ]
    async with serve(Starlette(routes=routes)) as stub.url:
        yield stub


async def test_a_pipe_gets_one_line_for_each_of_all_pages(llmctl: Run, parking: Parking) -> None:
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
    parking.items = [make_item(number, topic) for number in range(250) for topic in ("a", "b")]
    ended = await llmctl("undelivered", "list", "--topic", "b", "--limit", "230", "--url", parking.url)
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert (ended.code, len(lines), {line["topic"] for line in lines}) == (0, 230, {"b"})
    assert [query["limit"] for query in parking.queries] == ["200", "30"]
    assert "250 callbacks for b are undelivered, 230 of them shown" in ended.err


async def test_nothing_undelivered_is_said_and_no_failure(llmctl: Run, parking: Parking) -> None:
    ended = await llmctl("undelivered", "list", "--url", parking.url)
    assert (ended.code, ended.out, ended.err) == (0, "", "No callback is undelivered.\n")


async def test_a_table_keeps_ids_whole_and_foreign_words_harmless(llmctl: Run, parking: Parking) -> None:
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


async def test_named_ids_are_sent_again_once(llmctl: Run, parking: Parking) -> None:
    parking.items = [make_item(number) for number in range(3)]
    wanted = [item["queue_id"] for item in parking.items[:2]]
    ended = await llmctl("undelivered", "resend", *wanted, wanted[0], "--url", parking.url)
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out) == {"resent": 2, "not_parked": []}
    assert parking.orders == [{"queue_ids": wanted}]
    partly = await llmctl("undelivered", "resend", "nope", wanted[0], "--url", parking.url)
    assert (partly.code, json.loads(partly.out)) == (1, {"resent": 1, "not_parked": ["nope"]})
    assert "Not undelivered, so not sent again: nope." in partly.err


async def test_more_ids_than_one_order_takes_are_sent_in_several(llmctl: Run, parking: Parking) -> None:
    parking.items = [make_item(number) for number in range(1500)]
    ended = await llmctl(
        "undelivered", "resend", *(item["queue_id"] for item in parking.items), "--url", parking.url
    )
    assert (ended.code, json.loads(ended.out)["resent"]) == (0, 1500)
    assert [len(order["queue_ids"]) for order in parking.orders] == [1000, 500]


@pytest.mark.parametrize("words", [("list",), ("resend", "--all")])
async def test_a_refusal_is_the_services_own_sentence(
    llmctl: Run, parking: Parking, words: tuple[str, ...]
) -> None:
    parking.refusal = (401, "This is not for you.")
    ended = await llmctl("undelivered", *words, "--url", parking.url)
    assert (ended.code, ended.out) == (1, "")
    assert "This is not for you." in ended.err


@pytest.fixture
def production(parking: Parking, use_production: Callable[[str], None]) -> Parking:
    use_production(parking.url)
    parking.items = [make_item(1)]
    return parking


async def test_all_of_production_needs_a_yes(llmctl: Run, production: Parking) -> None:
    refused = await llmctl("undelivered", "resend", "--all")
    assert (refused.code, production.orders) == (2, [])
    assert "say --yes" in refused.err
    for words in (("--all", "--yes"), (production.items[0]["queue_id"],)):
        assert (await llmctl("undelivered", "resend", *words)).code == 0
    assert production.orders == [{"all": True}, {"queue_ids": [production.items[0]["queue_id"]]}]


@pytest.mark.parametrize(("answer", "code", "orders"), [(b"y\n", 0, 1), (b"n\n", 1, 0), (b"\n", 1, 0)])
async def test_production_obeys_the_answer(
    production: Parking, answer_question: Answer, answer: bytes, code: int, orders: int
) -> None:
    asked, ended = await answer_question(answer, "undelivered", "resend", "--all")
    assert production.url in asked
    assert (ended.code, len(production.orders)) == (code, orders)
