"""The sender: on time, over real sockets, and honest about how each request ended."""

import asyncio
import itertools
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from service.contracts.enums import LLMProviderType
from service.contracts.requests import LLMComparisonRequest
from simulator.load.bodies import MAX_NUMBER, BodyOptions, EssayBodies
from simulator.load.connection import Answered, Broken, Outcome, Unreachable
from simulator.load.dispatch import MAX_SUBMITS_PER_LINE, Pulse, WorkerBatch
from simulator.load.histogram import Histogram
from simulator.load.ledger import Accepted, Rejected
from simulator.load.outcomes import judge_outcome
from simulator.load.sender import Sender, SendLimits
from simulator.load.submits import Submit, SubmitEnd
from simulator.load.transport import Poster, PostLimits, Target
from simulator.load.turns import Arrivals, Releases, Schedule
from tests.waiting import HANG_SECONDS, until

ANSWER_TIMEOUT_SECONDS = 100.0
"""Nothing reaches it by itself: `skip_time` brings it about."""

# A key pair for tests alone: it names localhost and nobody trusts it unless told to.
TEST_CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBlDCCATugAwIBAgIUfsWwDKifzAc+w+CtPp6XtsPc6oAwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNTE0MjA0OVoYDzIxMjYxMTAx
MTQyMDQ5WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAATtkP4md6ZmGKtTJBrt6P2NBxwOcMMAlqafVF/ZWDnvZDuZfL9pZacM
ywsQhfjB0ZsWKas+M0GrrrniAd/eC+40o2kwZzAdBgNVHQ4EFgQUcOsYeKD0AOFS
eMLXL35rs0OMKF8wHwYDVR0jBBgwFoAUcOsYeKD0AOFSeMLXL35rs0OMKF8wDwYD
VR0TAQH/BAUwAwEB/zAUBgNVHREEDTALgglsb2NhbGhvc3QwCgYIKoZIzj0EAwID
RwAwRAIgYbyNviffGFVabJ9whp2qw8LPfuV3mb5d0OEZ6QVLnekCIFu/GLYALAY4
JrJ1fXxsJjHQ8ylChhfPHaT2GVkQBLPx
-----END CERTIFICATE-----
"""
TEST_KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg8InBxl1adXnuQVhk
o9cnGkFAxmvo9sJWzRCMnZ9tHgChRANCAATtkP4md6ZmGKtTJBrt6P2NBxwOcMMA
lqafVF/ZWDnvZDuZfL9pZacMywsQhfjB0ZsWKas+M0GrrrniAd/eC+40
-----END PRIVATE KEY-----
"""


@dataclass(frozen=True)
class Asked:
    head: bytes
    body: bytes
    connection: int

    @property
    def key(self) -> str:
        return next(
            line.partition(b": ")[2].decode()
            for line in self.head.split(b"\r\n")
            if line.startswith(b"idempotency-key: ")
        )


@dataclass
class Server:
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event)


Reply = Callable[[Server, Asked, asyncio.StreamWriter], Awaitable[bytes | None]]
"""What to write to a request; None ends the connection."""


def answer(status: int = 202, body: bytes | None = None, *lines: bytes) -> bytes:
    content = b'{"queue_id": "q-1"}' if body is None else body
    head = [b"HTTP/1.1 %d Said" % status, *lines, b"content-length: %d" % len(content)]
    return b"\r\n".join([*head, b"", content])


async def accept(server: Server, asked: Asked, _: asyncio.StreamWriter) -> bytes:
    return answer(body=json.dumps({"queue_id": f"q-{asked.key}"}).encode())


async def hang(server: Server, asked: Asked, _: asyncio.StreamWriter) -> None:
    await server.released.wait()


async def hang_then_accept(server: Server, asked: Asked, writer: asyncio.StreamWriter) -> bytes:
    await server.released.wait()
    return await accept(server, asked, writer)


async def close(server: Server, asked: Asked, _: asyncio.StreamWriter) -> None:
    return None


def say(*answers: bytes) -> Reply:
    async def reply(server: Server, asked: Asked, _: asyncio.StreamWriter) -> bytes:
        return answers[min(len(server.asked), len(answers)) - 1]

    return reply


@asynccontextmanager
async def serving(reply: Reply, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server on a free port; each connection is read request by request."""
    server = Server()
    writers: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        connection = server.connections
        writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
                asked = Asked(head, await reader.readexactly(length), connection)
                server.asked.append(asked)
                said = await reply(server, asked, writer)
                if said is None:
                    return
                writer.write(said)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    listener = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls, backlog=1000)
    port = listener.sockets[0].getsockname()[1]
    server.url = f"http://127.0.0.1:{port}/" if tls is None else f"https://localhost:{port}/"
    try:
        async with asyncio.timeout(HANG_SECONDS):
            yield server
    finally:
        server.released.set()
        for writer in writers:
            writer.transport.abort()
        listener.close()
        await listener.wait_closed()


@asynccontextmanager
async def posting(
    url: str, max_connections: int = 10, max_answer_bytes: int = 65_536
) -> AsyncIterator[Poster]:
    limits = PostLimits(max_connections, ANSWER_TIMEOUT_SECONDS, HANG_SECONDS, max_answer_bytes)
    poster = Poster(Target.parse(url), limits, {"x-run-id": "run"})
    try:
        yield poster
    finally:
        await poster.close()


def post(poster: Poster, body: bytes = b"{}", number: int = 0) -> "asyncio.Future[Outcome]":
    ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    poster.post(b"idempotency-key: run-%d\r\n" % number, body, ended.set_result)
    return ended


async def test_a_request_is_whole_and_its_answer_too() -> None:
    async with serving(say(answer(503, b"full", b"Retry-After: 7"))) as server, posting(server.url) as poster:
        assert await post(poster, b'{"a": 1}') == Answered(503, b"full", 7.0)
    [asked] = server.asked
    lines = asked.head.split(b"\r\n")
    assert lines[0] == b"POST / HTTP/1.1"
    assert f"host: {server.url[7:-1]}".encode() in lines
    assert {b"x-run-id: run", b"idempotency-key: run-0", b"content-length: 8"} <= set(lines)
    assert asked.body == b'{"a": 1}'


async def test_connections_are_kept_and_the_last_one_used_comes_first() -> None:
    ended: list[int] = []
    async with serving(hang_then_accept) as server, posting(server.url) as poster:
        posts = [post(poster, number=number) for number in range(3)]
        for number, each in enumerate(posts):
            each.add_done_callback(lambda _, number=number: ended.append(number))
        await until(lambda: len(server.asked) == 3)
        server.released.set()
        await asyncio.gather(*posts)
        [last] = [asked.connection for asked in server.asked if asked.key == f"run-{ended[-1]}"]
        for _ in range(5):
            await post(poster)
        assert server.connections == 3
        assert {asked.connection for asked in server.asked[3:]} == {last}


async def test_no_more_connections_than_allowed() -> None:
    async with serving(accept) as server, posting(server.url, max_connections=2) as poster:
        outcomes = await asyncio.gather(*(post(poster) for _ in range(20)))
    assert all(isinstance(outcome, Answered) for outcome in outcomes)
    assert server.connections <= 2


async def reset(server: Server, asked: Asked, writer: asyncio.StreamWriter) -> None:
    wire = writer.get_extra_info("socket")
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def half_close(server: Server, asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write_eof()
    await server.released.wait()


UPGRADE = b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        pytest.param(close, "closed before the answer was begun", id="closes before answering"),
        pytest.param(half_close, "closed before the answer was begun", id="half-closes before answering"),
        pytest.param(reset, "broke before the answer was begun", id="resets"),
        pytest.param(say(b"\x16\x03\x01garbage\r\n\r\n"), "no valid HTTP", id="garbage"),
        pytest.param(say(answer(200, b"x" * 70_000)), "larger than 65536 bytes", id="huge body"),
        pytest.param(say(b"HTTP/1.1 200 OK\r\na: " + b"x" * 70_000), "larger than 65536", id="huge head"),
        pytest.param(say(UPGRADE), "no valid HTTP", id="another protocol"),
    ],
)
async def test_a_request_without_a_whole_answer_is_broken(reply: Reply, reason: str) -> None:
    """It may have been accepted, and the transport says so and sends nothing again by itself."""
    async with serving(reply) as server, posting(server.url) as poster:
        outcome = await post(poster)
        assert isinstance(outcome, Broken)
        assert reason in outcome.reason
        assert len(server.asked) == 1


@pytest.mark.parametrize("reply", [hang, say(answer()[:-3])], ids=["hangs", "stalls in the body"])
async def test_an_answer_that_takes_too_long_is_broken(
    reply: Reply, skip_time: Callable[[float], None]
) -> None:
    async with serving(reply) as server, posting(server.url) as poster:
        ended = post(poster)
        await until(lambda: server.asked)
        skip_time(ANSWER_TIMEOUT_SECONDS)
        assert await ended == Broken("no answer within 100 s")
        assert len(server.asked) == 1


CUT_OFF = Broken("the connection closed before the answer was complete")


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        (b"HTTP/1.1 202 Said\r\ncontent-length: 9\r\n\r\nshort", CUT_OFF),
        (b"HTTP/1.1 202 Said\r\ntransfer-encoding: chunked\r\n\r\n9\r\nshort", CUT_OFF),
        (b"HTTP/1.1 202 Said\r\n\r\nall of it", Answered(202, b"all of it")),
    ],
    ids=["content-length", "chunked", "no length"],
)
async def test_an_answer_without_a_length_ends_with_the_connection(said: bytes, outcome: Outcome) -> None:
    """As RFC 9112, 6.3 has it."""

    async def write_and_close(server: Server, asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(said)

    async with serving(write_and_close) as server, posting(server.url) as poster:
        assert await post(poster) == outcome


CHUNKED = b"HTTP/1.1 202 Said\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"HTTP/1.1 102 Processing\r\n\r\n" + answer(202, b"ab"), id="an interim answer first"),
        pytest.param(CHUNKED, id="chunked"),
        pytest.param(answer(202, b"ab", b"connection: close"), id="not to be reused"),
        pytest.param(answer(202, b"ab") + answer(500, b"surplus"), id="a second answer behind it"),
        pytest.param(answer(202, b"ab") + b"HTTP/1.1 500 Sur", id="half a second answer behind it"),
        pytest.param(answer(202, b"ab") + b"rubbish\r\n\r\n", id="rubbish behind it"),
        pytest.param(answer(202, b"ab") + b"\0", id="a zero behind it"),
        pytest.param(answer(202, b"ab", b"connection: close") + b"rubbish", id="rubbish after the last"),
    ],
)
async def test_unusual_answers_are_read_right(said: bytes) -> None:
    async with serving(say(said, answer(202, b"next"))) as server, posting(server.url) as poster:
        assert await post(poster) == Answered(202, b"ab")
        assert await post(poster) == Answered(202, b"next")


async def test_a_connection_that_closed_while_idle_is_not_used() -> None:
    """A close is noticed even before the loop handles it, and costs no request."""
    rounds = 20
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(rounds):
                wire, _ = listener.accept()
                with wire:
                    wire.recv(65_536)
                    wire.sendall(answer())

        serving_thread = threading.Thread(target=serve)
        serving_thread.start()
        async with posting(f"http://127.0.0.1:{listener.getsockname()[1]}") as poster:
            for _ in range(rounds):
                assert isinstance(await post(poster), Answered)
                for idle in poster._idle:
                    assert idle._poll.poll(1000 * HANG_SECONDS), "the close did not come"
        serving_thread.join(HANG_SECONDS)


async def test_the_time_limit_of_a_request_is_its_own(skip_time: Callable[[float], None]) -> None:
    async with serving(hang_then_accept) as server, posting(server.url) as poster:
        server.released.set()
        assert isinstance(await post(poster), Answered)
        server.released.clear()
        skip_time(ANSWER_TIMEOUT_SECONDS / 2)
        second = post(poster)
        await until(lambda: len(server.asked) == 2)
        skip_time(ANSWER_TIMEOUT_SECONDS / 2)  # now the limit of the first is over
        await asyncio.sleep(0.01)
        server.released.set()
        assert isinstance(await second, Answered)
        assert server.connections == 1


async def test_waiting_too_long_for_a_connection_is_unreachable(skip_time: Callable[[float], None]) -> None:
    async with serving(hang) as server, posting(server.url, max_connections=1) as poster:
        first, second = post(poster), post(poster)
        await until(lambda: server.asked)
        skip_time(ANSWER_TIMEOUT_SECONDS)
        assert await second == Unreachable("no connection within 100 s")
        assert await first == Broken("no answer within 100 s")
        assert len(server.asked) == 1


async def test_a_broken_connection_makes_room_for_those_that_wait() -> None:
    async with serving(close) as server, posting(server.url, max_connections=1) as poster:
        outcomes = await asyncio.gather(*(post(poster) for _ in range(5)))
    assert all(isinstance(outcome, Broken) for outcome in outcomes)
    assert server.connections == 5


async def test_closing_ends_what_is_under_way() -> None:
    async with serving(hang) as server, posting(server.url, max_connections=1) as poster:
        first, second = post(poster), post(poster)
        await until(lambda: server.asked)
        await poster.close()
        assert isinstance(await first, Broken)
        assert isinstance(await second, Unreachable)
        assert isinstance(await post(poster), Unreachable)


async def test_https_trusts_what_the_system_trusts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pair.pem").write_text(TEST_KEY + TEST_CERTIFICATE)
    (tmp_path / "trusted.pem").write_text(TEST_CERTIFICATE)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "pair.pem")
    async with serving(accept, tls) as server:
        async with posting(server.url) as poster:
            assert isinstance(await post(poster), Unreachable)
        assert server.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
        async with posting(server.url) as poster:
            for _ in range(3):
                assert isinstance(await post(poster), Answered)
        assert len({asked.connection for asked in server.asked}) == 1


@pytest.mark.parametrize(
    ("url", "target", "authority"),
    [
        ("http://localhost:8080/a/b?c", Target("localhost", 8080, "/a/b?c", tls=False), "localhost:8080"),
        ("https://example.org", Target("example.org", 443, "/", tls=True), "example.org"),
        ("http://[::1]:81", Target("::1", 81, "/", tls=False), "[::1]:81"),
    ],
)
def test_a_target_is_read_from_its_url(url: str, target: Target, authority: str) -> None:
    assert Target.parse(url) == target
    assert target.authority == authority


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://a", "http://", "http://a:x", "http://a/\r\nb"])
def test_what_is_not_a_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"is no URL; write for example http://127\.0\.0\.1:8080"):
        Target.parse(url)


async def test_a_header_with_a_line_break_is_refused() -> None:
    """A token from a file with a newline would otherwise end the head."""
    with pytest.raises(ValueError, match="'authorization' may hold printable ASCII only"):
        Poster(Target.parse("http://a"), PostLimits(1), {"authorization": "Bearer a\r\nb"})


def make_bodies(**options: Any) -> EssayBodies:
    return EssayBodies(BodyOptions(**{"run_id": "run", "callback_topics": ("t.a", "t.b"), **options}))


def test_bodies_are_valid_distinct_and_the_same_each_time() -> None:
    bodies = make_bodies()
    built = [bodies.build(number) for number in range(100)]
    assert built == [make_bodies().build(number) for number in range(100)]
    assert len({body.content for body in built}) == len({body.headers for body in built}) == 100
    for number, body in enumerate(built):
        request = LLMComparisonRequest.model_validate_json(body.content)
        assert request.metadata["run_id"] == "run"
        assert request.metadata["number"] == number
        assert request.callback_topic == body.callback_topic == ("t.a", "t.b")[number % 2]
        assert request.correlation_id == UUID(body.correlation_id)
        assert request.essay_a != request.essay_b
        assert body.headers == f"idempotency-key: run-{number}\r\n".encode()
    pairs = {json.loads(body.content)["metadata"]["pair_id"] for body in built}
    assert len(pairs) == 28
    other = make_bodies(provider_override=LLMProviderType.ANTHROPIC).build(3)
    overrides = LLMComparisonRequest.model_validate_json(other.content).llm_config_overrides
    assert overrides is not None
    assert overrides.provider_override is LLMProviderType.ANTHROPIC


@given(st.integers(0, MAX_NUMBER), st.text("abc.-_9", min_size=1, max_size=64))
def test_correlation_ids_are_uuids_of_version_4(number: int, run_id: str) -> None:
    made = UUID(make_bodies(run_id=run_id).build(number).correlation_id)
    assert made.version == 4
    assert made.int & MAX_NUMBER == number


def test_bodies_need_a_topic_and_a_run_id_that_can_be_a_header() -> None:
    for run_id in ("", "a b", "a\r\nb", "ä", "x" * 65):
        with pytest.raises(ValueError, match="is no run id"):
            make_bodies(run_id=run_id)
    with pytest.raises(ValueError, match="at least one callback topic"):
        make_bodies(callback_topics=())


@given(
    st.lists(st.lists(st.floats(0, 1e6), min_size=1, max_size=9), max_size=9),
    st.integers(1, 5),
    st.floats(0, 1e6),
)
def test_workers_share_a_schedule_without_loss(pieces: list[list[float]], workers: int, begin: float) -> None:
    moments = sorted(moment for piece in pieces for moment in piece)
    chunks, place = [], 0
    for piece in pieces:
        chunks.append(moments[place : place + len(piece)])
        place += len(piece)
    taken: dict[int, float] = {}
    for worker in range(workers):
        schedule = Schedule(chunks, begin, worker, workers)
        while (due := schedule.next_due()) is not None:
            number = schedule.take()
            assert number % workers == worker
            assert number not in taken
            taken[number] = due
    assert [taken[number] for number in range(len(taken))] == [begin + moment for moment in moments]


def test_workers_number_what_is_released_in_turn() -> None:
    releases = Releases(1, 3)
    releases.add(3, 5.0)
    assert [releases.take() for _ in range(3)] == [1, 4, 7]
    assert releases.next_due() is None


OVERLOADED = b'{"error": {"error_code": "LLM_QUEUE_FULL"}}'


@pytest.mark.parametrize(
    ("outcome", "first", "in_doubt"),
    [
        (Answered(202, b'{"queue_id": "q"}'), "accepted", "accepted"),
        (Answered(202, b"{}"), "ambiguous", "ambiguous"),
        (Answered(202, b"no json"), "ambiguous", "ambiguous"),
        (Answered(202, b'["queue_id"]'), "ambiguous", "ambiguous"),
        (Answered(200, b'{"queue_id": "q"}'), "rejected", "rejected"),
        (Answered(422, OVERLOADED), "rejected", "rejected"),
        (Answered(409, b""), "rejected", "rejected"),
        (Answered(401, b""), "rejected", "ambiguous"),
        (Answered(429, b""), "rejected", "ambiguous"),
        (Answered(500, b""), "rejected", "ambiguous"),
        (Answered(503, OVERLOADED, 5.0), "rejected", "ambiguous"),
        (Answered(502, b"<html>"), "ambiguous", "ambiguous"),
        (Answered(504, b""), "ambiguous", "ambiguous"),
        (Broken("closed"), "ambiguous", "ambiguous"),
        (Unreachable("refused"), "unreachable", "ambiguous"),
    ],
)
def test_what_an_outcome_means(outcome: Outcome, first: str, in_doubt: str) -> None:
    """A refusal clears the doubt about an earlier attempt only if that must have been refused too."""
    assert judge_outcome(outcome, doubtful=False).end == first
    assert judge_outcome(outcome, doubtful=True).end == in_doubt


def test_an_outcome_keeps_what_reports_tell() -> None:
    assert judge_outcome(Answered(202, b'{"queue_id": "q"}'), doubtful=False).queue_id == "q"
    refused = judge_outcome(Answered(503, OVERLOADED, 5.0), doubtful=False)
    assert (refused.status, refused.error_code) == (503, "LLM_QUEUE_FULL")
    assert judge_outcome(Answered(503, OVERLOADED, 5.0), doubtful=True).retry_after_seconds == 5.0
    assert judge_outcome(Broken("closed"), doubtful=False).reason == "closed"


def make_submit(number: int = 0, end: SubmitEnd = SubmitEnd.ACCEPTED, **changes: Any) -> Submit:
    correlation_id = str(UUID(int=5))
    answered = {"queue_id": "q", "status": 202, **changes}
    return Submit(number, end, 1.0, 1.1, 1.2, 1, False, correlation_id, "t", **answered)


def test_the_ledger_is_told_what_is_owed_and_what_is_forbidden() -> None:
    """An accepted request owes a callback from the moment of its 202, a rejected one must have none."""
    assert make_submit().to_fact() == Accepted("q", UUID(int=5), "t", 1.2)
    rejected = make_submit(end=SubmitEnd.REJECTED, status=503, error_code="LLM_QUEUE_FULL")
    assert rejected.to_fact() == Rejected(503, "LLM_QUEUE_FULL")
    for end in (SubmitEnd.AMBIGUOUS, SubmitEnd.UNREACHABLE, SubmitEnd.SKIPPED):
        assert make_submit(end=end).to_fact() is None


@given(st.integers(0, 2 * MAX_SUBMITS_PER_LINE + 1), st.lists(st.floats(0, 9), max_size=5), st.booleans())
def test_a_batch_survives_the_pipe(count: int, lateness: list[float], is_last: bool) -> None:
    histogram = Histogram()
    for seconds in lateness:
        histogram.record(seconds)
    submits = tuple(make_submit(number, list(SubmitEnd)[number % 5]) for number in range(count))
    pulse = Pulse(3, 2, 100, 1.5, 0.25)
    batch = WorkerBatch(1, 99.5, submits, histogram, pulse, is_last)
    read = [WorkerBatch.unpack(line) for line in batch.pack()]
    merged = Histogram()
    for each in read:
        merged.merge(each.lateness)
        assert (each.worker, each.at, each.pulse) == (1, 99.5, pulse)
        assert len(each.submits) <= MAX_SUBMITS_PER_LINE
    assert tuple(submit for each in read for submit in each.submits) == submits
    assert merged == histogram
    assert [each.is_last for each in read] == [False] * (len(read) - 1) + [is_last]


@dataclass
class Run:
    sender: Sender
    submits: list[Submit]

    def count(self, end: SubmitEnd) -> int:
        return sum(submit.end is end for submit in self.submits)


@asynccontextmanager
async def sending(
    url: str,
    arrivals: Arrivals,
    *,
    max_outstanding: int = 100,
    max_connections: int = 100,
    resolve_limit_seconds: float = HANG_SECONDS,
) -> AsyncIterator[Run]:
    async with posting(url, max_connections) as poster:
        submits: list[Submit] = []
        limit = SendLimits(max_outstanding, resolve_limit_seconds)
        yield Run(Sender(poster, make_bodies(), arrivals, submits.append, limit), submits)


def every(gap_seconds: float, count: int, *, ahead_seconds: float = 0.02) -> Schedule:
    moments = [number * gap_seconds for number in range(count)]
    return Schedule([moments], time.monotonic() + ahead_seconds)


async def send_by_schedule() -> list[float]:
    """Sends 100 requests at 2 ms; returns how late each was, in ascending order."""
    async with serving(accept) as server, sending(server.url, every(0.002, 100)) as run:
        await run.sender.run()
        assert run.count(SubmitEnd.ACCEPTED) == run.sender.sent == len(server.asked) == 100
        assert run.sender.open == run.sender.unresolved == 0
    by_number = sorted(run.submits, key=lambda submit: submit.number)
    assert [submit.number for submit in by_number] == list(range(100))
    gaps = [later.intended - earlier.intended for earlier, later in itertools.pairwise(by_number)]
    assert gaps == pytest.approx([0.002] * 99)
    late, expected = [], Histogram()
    for submit in run.submits:
        body = make_bodies().build(submit.number)
        assert submit.queue_id == f"q-run-{submit.number}"
        assert (submit.correlation_id, submit.callback_topic) == (body.correlation_id, body.callback_topic)
        assert submit.sent is not None
        assert submit.intended <= submit.sent <= submit.ended
        late.append(submit.sent - submit.intended)
        expected.record(late[-1])
    assert run.sender.take_lateness() == expected
    return sorted(late)


RunLoop = Callable[[Coroutine[Any, Any, list[float]]], list[float]]
# uvloop is the loop of the workers; its timers round to milliseconds.
each_loop = pytest.mark.parametrize("run_loop", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


@each_loop
def test_each_request_is_sent_once_and_never_early(run_loop: RunLoop) -> None:
    run_loop(send_by_schedule())


@pytest.mark.long
@each_loop
def test_half_of_the_sends_are_late_by_less_than_0_1_s(run_loop: RunLoop) -> None:
    """Can only be measured: on an idle machine a send is late by a millisecond or two."""
    assert run_loop(send_by_schedule())[50] < 0.1


async def test_answers_do_not_pace_the_sends() -> None:
    async with serving(hang) as server, sending(server.url, every(0.005, 50)) as run:
        running = asyncio.create_task(run.sender.run())
        await until(lambda: len(server.asked) == 50)
        assert run.submits == []
        assert run.sender.open == 50
        run.sender.stop(time.monotonic(), time.monotonic())
        await running


async def test_what_is_late_is_sent_late_and_says_so() -> None:
    async with serving(accept) as server, sending(server.url, every(0.01, 80, ahead_seconds=-5.0)) as run:
        await run.sender.run()
        assert run.count(SubmitEnd.ACCEPTED) == 80
        lateness = run.sender.take_lateness()
        assert lateness.count == 80
        assert lateness.least >= 5.0 - 80 * 0.01


async def test_answers_are_read_in_the_middle_of_a_burst() -> None:
    burst = every(0.0, 20_000, ahead_seconds=0.0)
    async with (
        serving(accept) as server,
        sending(server.url, burst, max_outstanding=20_000, max_connections=1) as run,
    ):
        running = asyncio.create_task(run.sender.run())
        await until(lambda: run.submits)
        run.sender.stop(-inf, time.monotonic() + HANG_SECONDS)  # what is left of the burst is not sent
        await running
    assert run.count(SubmitEnd.ACCEPTED) == run.sender.sent < 20_000


async def test_what_the_guard_keeps_back_is_counted() -> None:
    async with serving(hang) as server, sending(server.url, every(0.001, 10), max_outstanding=3) as run:
        running = asyncio.create_task(run.sender.run())
        await until(lambda: run.count(SubmitEnd.SKIPPED) == 7 and len(server.asked) == 3)
        assert run.sender.open == run.sender.sent == 3
        skipped = [submit for submit in run.submits if submit.end is SubmitEnd.SKIPPED]
        assert [(submit.number, submit.sent, submit.attempts) for submit in skipped] == [
            (number, None, 0) for number in range(3, 10)
        ]
        run.sender.stop(time.monotonic(), time.monotonic())
        await running
        assert run.count(SubmitEnd.AMBIGUOUS) == 3
    assert len(server.asked) == 3


async def test_an_unclear_request_is_cleared_up_by_the_same_key() -> None:
    async def accept_but_answer_later(
        server: Server, asked: Asked, writer: asyncio.StreamWriter
    ) -> bytes | None:
        is_first = sum(each.key == asked.key for each in server.asked) == 1
        return None if is_first else await accept(server, asked, writer)

    async with serving(accept_but_answer_later) as server, sending(server.url, every(0.001, 3)) as run:
        await run.sender.run()
    assert sorted(submit.number for submit in run.submits) == [0, 1, 2]
    for submit in run.submits:
        assert submit.end is SubmitEnd.ACCEPTED
        assert submit.was_ambiguous
        assert submit.attempts == 2
        assert submit.sent is not None
        assert submit.ended - submit.sent > 0.1
        first, second = (asked for asked in server.asked if asked.key == f"run-{submit.number}")
        assert first.body == second.body == make_bodies().build(submit.number).content
    assert run.sender.sent == 3
    assert run.sender.take_lateness().count == 3


async def test_an_unclear_request_that_stays_so_is_given_up() -> None:
    """It is sent again within its limit, here for the one wait of 0.25 s, then it is ambiguous."""
    async with (
        serving(close) as server,
        sending(server.url, every(0.0, 1), resolve_limit_seconds=0.35) as run,
    ):
        await run.sender.run()
    [submit] = run.submits
    assert submit.end is SubmitEnd.AMBIGUOUS
    assert submit.was_ambiguous
    assert submit.attempts == len(server.asked) == 2
    assert submit.reason == "the connection closed before the answer was begun"


async def test_a_full_queue_does_not_clear_a_doubt_but_a_bad_request_does() -> None:
    """503 only says when to come again; 422 would have been the first answer too."""
    full = answer(503, OVERLOADED, b"retry-after: 1")
    bad = answer(422, b'{"error": {"error_code": "LLM_INVALID_PROMPT"}}')

    async def reply(server: Server, asked: Asked, _: asyncio.StreamWriter) -> bytes | None:
        return {1: None, 2: full}.get(len(server.asked), bad)

    async with serving(reply) as server, sending(server.url, every(0.0, 1)) as run:
        await run.sender.run()
    [submit] = run.submits
    assert (submit.end, submit.attempts, submit.error_code) == (SubmitEnd.REJECTED, 3, "LLM_INVALID_PROMPT")
    assert submit.was_ambiguous
    assert submit.sent is not None
    assert submit.ended - submit.sent >= 1.0


async def test_a_refused_request_is_not_sent_again() -> None:
    async with (
        serving(say(answer(503, OVERLOADED, b"Retry-After: 1"))) as server,
        sending(server.url, every(0.001, 5)) as run,
    ):
        await run.sender.run()
    assert [(submit.end, submit.status, submit.error_code) for submit in run.submits] == [
        (SubmitEnd.REJECTED, 503, "LLM_QUEUE_FULL")
    ] * 5
    assert len(server.asked) == 5
    assert not any(submit.was_ambiguous for submit in run.submits)


async def test_a_service_that_is_not_there_is_unreachable() -> None:
    with socket.socket() as taken:  # nobody listens on its port, nor can take it
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with asyncio.timeout(HANG_SECONDS), sending(url, every(0.0, 15), max_connections=10) as run:
            await run.sender.run()
    assert [(submit.end, submit.attempts) for submit in run.submits] == [(SubmitEnd.UNREACHABLE, 1)] * 15


async def test_a_stop_lets_open_requests_end() -> None:
    schedule = Schedule([[0.0, 0.0, 0.0, 1000.0]], time.monotonic())
    async with serving(hang_then_accept) as server, sending(server.url, schedule) as run:
        running = asyncio.create_task(run.sender.run())
        await until(lambda: len(server.asked) == 3)
        run.sender.stop(time.monotonic(), time.monotonic() + HANG_SECONDS)
        assert not running.done()
        server.released.set()
        await running
        assert run.count(SubmitEnd.ACCEPTED) == len(run.submits) == 3


async def test_a_stop_gives_up_at_last() -> None:
    async def reply(server: Server, asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.key == "run-0":
            await hang(server, asked, writer)

    async with serving(reply) as server, sending(server.url, every(0.0, 2)) as run:
        running = asyncio.create_task(run.sender.run())
        await until(lambda: run.sender.unresolved == 1 and run.sender.open == 1)
        run.sender.stop(time.monotonic(), time.monotonic() + 0.1)
        await running
    assert sorted((submit.number, submit.end, submit.was_ambiguous) for submit in run.submits) == [
        (0, SubmitEnd.AMBIGUOUS, True),
        (1, SubmitEnd.AMBIGUOUS, True),
    ]


async def test_a_closed_loop_sends_what_is_released() -> None:
    releases = Releases()
    async with serving(accept) as server, sending(server.url, releases) as run:
        running = asyncio.create_task(run.sender.run())
        for count in (1, 2, 5):
            before = len(run.submits)
            at = time.monotonic()
            releases.add(count, at)
            run.sender.wake()
            await until(lambda wanted=before + count: len(run.submits) == wanted)
            assert {submit.intended for submit in run.submits[before:]} == {at}
        assert not running.done()
        run.sender.stop(time.monotonic(), time.monotonic() + HANG_SECONDS)
        await running
    assert sorted(submit.number for submit in run.submits) == list(range(8))
