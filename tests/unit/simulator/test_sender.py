"""The sender: on time, over real sockets, and honest about how each request ended."""

import asyncio
import itertools
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
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

PUNCTUAL_SECONDS = 0.1
"""What a busy machine may add; without a stall a send is late by a millisecond or two."""

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


# --- a server that does as it is told


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

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
    """What came, and by how many connections."""

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


async def close(server: Server, asked: Asked, _: asyncio.StreamWriter) -> None:
    return None


def say(*answers: bytes) -> Reply:
    """These answers in turn, the last one for ever."""

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

    listener = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
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
async def posting(url: str, **limits: Any) -> AsyncIterator[Poster]:
    poster = Poster(Target.parse(url), PostLimits(**{"max_connections": 10, **limits}), {"x-run-id": "run"})
    try:
        yield poster
    finally:
        await poster.close()


def post(poster: Poster, body: bytes = b"{}", number: int = 0) -> "asyncio.Future[Outcome]":
    ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    poster.post(b"idempotency-key: run-%d\r\n" % number, body, ended.set_result)
    return ended


# --- the transport


async def test_a_request_is_whole_and_its_answer_too() -> None:
    """Line, headers and body arrive as they were given; status, body and Retry-After come back."""
    async with serving(say(answer(503, b"full", b"Retry-After: 7"))) as server, posting(server.url) as poster:
        assert await post(poster, b'{"a": 1}') == Answered(503, b"full", 7.0)
    [asked] = server.asked
    lines = asked.head.split(b"\r\n")
    assert lines[0] == b"POST / HTTP/1.1"
    assert f"host: {server.url[7:-1]}".encode() in lines
    assert {b"x-run-id: run", b"idempotency-key: run-0", b"content-length: 8"} <= set(lines)
    assert asked.body == b'{"a": 1}'


async def test_connections_are_kept_and_the_last_one_used_comes_first() -> None:
    """As many are opened as there are requests at once; then the one that was free last goes first."""
    async with serving(accept) as server, posting(server.url) as poster:
        await asyncio.gather(*(post(poster) for _ in range(3)))
        assert server.connections == 3
        last = server.asked[-1].connection
        for _ in range(5):
            await post(poster)
        assert server.connections == 3
        assert len({asked.connection for asked in server.asked[3:]}) == 1
        assert server.asked[3].connection == last


async def test_no_more_connections_than_allowed() -> None:
    """Beyond the limit requests wait for one that becomes free."""
    async with serving(accept) as server, posting(server.url, max_connections=2) as poster:
        outcomes = await asyncio.gather(*(post(poster) for _ in range(20)))
    assert all(isinstance(outcome, Answered) for outcome in outcomes)
    assert server.connections == 2


async def reset(server: Server, asked: Asked, writer: asyncio.StreamWriter) -> None:
    wire = writer.get_extra_info("socket")
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def half_close(server: Server, asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write_eof()
    await server.released.wait()


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        pytest.param(close, "closed before the answer was begun", id="closes before answering"),
        pytest.param(half_close, "closed before the answer was begun", id="half-closes before answering"),
        pytest.param(reset, "broke before the answer was begun", id="resets"),
        pytest.param(hang, "no answer within 0.3 s", id="hangs"),
        pytest.param(say(b"\x16\x03\x01garbage\r\n\r\n"), "no valid HTTP", id="garbage"),
        pytest.param(say(answer()[:-3]), "no answer within 0.3 s", id="stalls in the body"),
        pytest.param(say(answer(200, b"x" * 70_000)), "larger than 65536 bytes", id="huge body"),
        pytest.param(say(b"HTTP/1.1 200 OK\r\na: " + b"x" * 70_000), "larger than 65536", id="huge head"),
        pytest.param(
            say(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
            "no valid HTTP",
            id="another protocol",
        ),
    ],
)
async def test_a_request_without_a_whole_answer_is_broken_and_never_repeated(
    reply: Reply, reason: str
) -> None:
    """It may have been accepted, and the transport says so and sends nothing again by itself."""
    async with (
        serving(reply) as server,
        posting(server.url, answer_timeout_seconds=0.3, max_answer_bytes=65_536) as poster,
    ):
        outcome = await post(poster)
        assert isinstance(outcome, Broken)
        assert reason in outcome.reason
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"HTTP/1.1 202 Said\r\ncontent-length: 9\r\n\r\nshort", id="counted"),
        pytest.param(b"HTTP/1.1 202 Said\r\ntransfer-encoding: chunked\r\n\r\n9\r\nshort", id="chunked"),
    ],
)
async def test_an_answer_that_is_cut_off_is_broken(said: bytes) -> None:
    """A close in the middle of a body whose length was told is no end of it."""

    async def cut(server: Server, asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(said)

    async with serving(cut) as server, posting(server.url) as poster:
        assert await post(poster) == Broken("the connection closed before the answer was complete")


async def test_an_answer_may_end_with_the_connection() -> None:
    """Without a told length the close is the end (RFC 9112, 6.3)."""

    async def end(server: Server, asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 202 Said\r\n\r\nall of it")

    async with serving(end) as server, posting(server.url) as poster:
        assert await post(poster) == Answered(202, b"all of it")


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"HTTP/1.1 102 Processing\r\n\r\n" + answer(202, b"ab"), id="an interim answer first"),
        pytest.param(
            b"HTTP/1.1 202 Said\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n",
            id="chunked",
        ),
        pytest.param(answer(202, b"ab", b"connection: close"), id="not to be reused"),
        pytest.param(answer(202, b"ab") + answer(500, b"surplus"), id="a second answer behind it"),
        pytest.param(
            answer(202, b"ab") + b"HTTP/1.1 500 Sur", id="the beginning of a second answer behind it"
        ),
        pytest.param(answer(202, b"ab") + b"rubbish\r\n\r\n", id="rubbish behind it"),
        pytest.param(answer(202, b"ab") + b"\0", id="a zero behind it"),
        pytest.param(answer(202, b"ab", b"connection: close") + b"rubbish", id="rubbish after the last"),
    ],
)
async def test_unusual_answers_are_read_right(said: bytes) -> None:
    """The answer is what it is, and the next request gets its own and no other's."""
    async with serving(say(said, answer(202, b"next"))) as server, posting(server.url) as poster:
        assert await post(poster) == Answered(202, b"ab")
        assert await post(poster) == Answered(202, b"next")


async def test_a_connection_that_closed_while_idle_is_not_used() -> None:
    """A close that the loop has not come round to yet is seen all the same, and costs no request."""
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


async def test_the_time_limit_of_a_request_is_its_own() -> None:
    """It ends with its answer and disturbs none of those that follow on the same connection."""
    async with serving(accept) as server, posting(server.url, answer_timeout_seconds=1.0) as poster:
        end = time.monotonic() + 1.2  # beyond the limit of the first
        while time.monotonic() < end:
            assert isinstance(await post(poster), Answered)
        assert server.connections == 1


async def test_a_refused_connection_is_unreachable() -> None:
    """Nothing was sent, and it says so; later requests try anew."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with posting(f"http://127.0.0.1:{taken.getsockname()[1]}") as poster:
            outcomes = await asyncio.gather(*(post(poster) for _ in range(15)))
    assert all(isinstance(outcome, Unreachable) for outcome in outcomes)


async def test_waiting_too_long_for_a_connection_is_unreachable() -> None:
    """A request that never got a connection was not sent, and the one that holds it up is not disturbed."""
    async with (
        serving(hang) as server,
        posting(server.url, max_connections=1, answer_timeout_seconds=0.3) as poster,
    ):
        first, second = post(poster), post(poster)
        assert await second == Unreachable("no connection within 0.3 s")
        assert await first == Broken("no answer within 0.3 s")
        assert len(server.asked) == 1


async def test_a_broken_connection_makes_room_for_those_that_wait() -> None:
    """With one connection allowed, each request gets a new one after the last one closed."""
    async with serving(close) as server, posting(server.url, max_connections=1) as poster:
        outcomes = await asyncio.gather(*(post(poster) for _ in range(5)))
    assert all(isinstance(outcome, Broken) for outcome in outcomes)
    assert server.connections == 5


async def test_closing_ends_what_is_under_way() -> None:
    """What was sent is broken, what waited was never sent, and nothing hangs."""
    async with serving(hang) as server, posting(server.url, max_connections=1) as poster:
        first, second = post(poster), post(poster)
        await until(lambda: server.asked)
        await poster.close()
        assert isinstance(await first, Broken)
        assert isinstance(await second, Unreachable)
        assert isinstance(await post(poster), Unreachable)


async def test_https_trusts_what_the_system_trusts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown certificate keeps the request from being sent; one of the system's lets it through."""
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
    """Scheme, host, port and path, and how the Host header names it."""
    assert Target.parse(url) == target
    assert target.authority == authority


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://a", "http://", "http://a:x", "http://a/\r\nb"])
def test_what_is_no_url_is_refused(url: str) -> None:
    """One sentence says what to write."""
    with pytest.raises(ValueError, match=r"is no URL; write for example http://127\.0\.0\.1:8080"):
        Target.parse(url)


async def test_a_header_with_a_line_break_is_refused() -> None:
    """A token from a file with a newline would otherwise end the head."""
    with pytest.raises(ValueError, match="'authorization' may hold printable ASCII only"):
        Poster(Target.parse("http://a"), PostLimits(1), {"authorization": "Bearer a\r\nb"})


# --- the bodies


def make_bodies(**options: Any) -> EssayBodies:
    return EssayBodies(BodyOptions(**{"run_id": "run", "callback_topics": ("t.a", "t.b"), **options}))


def test_bodies_are_valid_distinct_and_the_same_each_time() -> None:
    """Each is a request by the contract that names its run and number; asked again it is the same bytes."""
    bodies = make_bodies()
    built = [bodies.build(number) for number in range(200)]
    assert built == [make_bodies().build(number) for number in range(200)]
    assert len({body.content for body in built}) == 200
    assert len({body.headers for body in built}) == 200
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


@given(st.integers(0, MAX_NUMBER), st.text("abc.-_9", min_size=1, max_size=64))
def test_correlation_ids_are_uuids_of_version_4(number: int, run_id: str) -> None:
    """Whatever the run and the number."""
    made = UUID(make_bodies(run_id=run_id).build(number).correlation_id)
    assert made.version == 4
    assert made.int & MAX_NUMBER == number


def test_overrides_go_into_each_body() -> None:
    """As the contract names them."""
    bodies = make_bodies(provider_override=LLMProviderType.ANTHROPIC)
    request = LLMComparisonRequest.model_validate_json(bodies.build(3).content)
    assert request.llm_config_overrides is not None
    assert request.llm_config_overrides.provider_override is LLMProviderType.ANTHROPIC


@pytest.mark.parametrize("run_id", ["", "a b", "a\r\nb", "ä", "x" * 65])
def test_a_run_id_that_is_no_header_is_refused(run_id: str) -> None:
    """The service reads 64 characters of a small alphabet."""
    with pytest.raises(ValueError, match="is no run id"):
        make_bodies(run_id=run_id)


def test_bodies_need_a_topic() -> None:
    """There is no default."""
    with pytest.raises(ValueError, match="at least one callback topic"):
        make_bodies(callback_topics=())


# --- turns


@given(
    st.lists(st.lists(st.floats(0, 1e6), min_size=1, max_size=9), max_size=9),
    st.integers(1, 5),
    st.floats(0, 1e6),
)
def test_workers_share_a_schedule_without_loss(pieces: list[list[float]], workers: int, begin: float) -> None:
    """However it is cut into chunks, each arrival belongs to exactly one worker, at its own moment."""
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
    """The second of three has every third number from 1 on."""
    releases = Releases(1, 3)
    releases.add(3, 5.0)
    assert [releases.take() for _ in range(3)] == [1, 4, 7]
    assert releases.next_due() is None


# --- what outcomes mean


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
    """A refusal clears the doubt about an earlier attempt only where that must have been refused too."""
    assert judge_outcome(outcome, doubtful=False).end == first
    assert judge_outcome(outcome, doubtful=True).end == in_doubt


def test_an_outcome_keeps_what_reports_tell() -> None:
    """The queue id, the error code, the reason and how long to wait."""
    assert judge_outcome(Answered(202, b'{"queue_id": "q"}'), doubtful=False).queue_id == "q"
    refused = judge_outcome(Answered(503, OVERLOADED, 5.0), doubtful=False)
    assert (refused.status, refused.error_code) == (503, "LLM_QUEUE_FULL")
    assert judge_outcome(Answered(503, OVERLOADED, 5.0), doubtful=True).retry_after_seconds == 5.0
    assert judge_outcome(Broken("closed"), doubtful=False).reason == "closed"


# --- the records


def make_submit(number: int = 0, end: SubmitEnd = SubmitEnd.ACCEPTED, **changes: Any) -> Submit:
    fields: dict[str, Any] = {
        "intended": 1.0,
        "sent": 1.1,
        "ended": 1.2,
        "attempts": 1,
        "was_ambiguous": False,
        "correlation_id": str(UUID(int=5)),
        "callback_topic": "t",
        "queue_id": "q",
        "status": 202,
    }
    return Submit(number, end, **{**fields, **changes})


def test_the_ledger_is_told_what_is_owed_and_what_is_forbidden() -> None:
    """An accepted request owes a callback from the moment of its 202, a rejected one must have none."""
    assert make_submit().to_fact() == Accepted("q", UUID(int=5), "t", 1.2)
    rejected = make_submit(end=SubmitEnd.REJECTED, status=503, error_code="LLM_QUEUE_FULL")
    assert rejected.to_fact() == Rejected(503, "LLM_QUEUE_FULL")
    for end in (SubmitEnd.AMBIGUOUS, SubmitEnd.UNREACHABLE, SubmitEnd.SKIPPED):
        assert make_submit(end=end).to_fact() is None


@given(st.integers(0, 2 * MAX_SUBMITS_PER_LINE + 1), st.lists(st.floats(0, 9), max_size=5), st.booleans())
def test_a_batch_survives_the_pipe(count: int, lateness: list[float], is_last: bool) -> None:
    """Whatever its size: each submit comes once and in order, the histogram once, the end at the end."""
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


# --- the sender


@dataclass
class Run:
    """A sender at work, and what it recorded."""

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
    resolve_limit_seconds: float = HANG_SECONDS,
    **limits: Any,
) -> AsyncIterator[Run]:
    async with posting(url, max_connections=max_outstanding, **limits) as poster:
        submits: list[Submit] = []
        limit = SendLimits(max_outstanding, resolve_limit_seconds)
        yield Run(Sender(poster, make_bodies(), arrivals, submits.append, limit), submits)


def every(gap_seconds: float, count: int, *, ahead_seconds: float = 0.02) -> Schedule:
    moments = [number * gap_seconds for number in range(count)]
    return Schedule([moments], time.monotonic() + ahead_seconds)


def check_schedule(submits: Sequence[Submit], lateness: Histogram) -> None:
    assert sorted(submit.number for submit in submits) == list(range(200))
    sent_late = [submit.sent - submit.intended for submit in submits if submit.sent is not None]
    assert min(sent_late) >= 0
    assert sorted(sent_late)[100] < PUNCTUAL_SECONDS
    expected = Histogram()
    for seconds in sent_late:
        expected.record(seconds)
    assert lateness == expected


async def test_the_schedule_is_kept() -> None:
    """Each request goes out once, never early, soon after it is due, and its lateness is recorded."""
    async with serving(accept) as server:
        schedule = every(0.002, 200)
        async with sending(server.url, schedule) as run:
            await run.sender.run()
            check_schedule(run.submits, run.sender.take_lateness())
        assert run.count(SubmitEnd.ACCEPTED) == run.sender.sent == len(server.asked) == 200
        assert run.sender.open == run.sender.unresolved == 0
    by_number = sorted(run.submits, key=lambda submit: submit.number)
    gaps = [later.intended - earlier.intended for earlier, later in itertools.pairwise(by_number)]
    assert gaps == pytest.approx([0.002] * 199)
    for submit in run.submits:
        body = make_bodies().build(submit.number)
        assert submit.queue_id == f"q-run-{submit.number}"
        assert (submit.correlation_id, submit.callback_topic) == (body.correlation_id, body.callback_topic)
        assert submit.sent is not None
        assert submit.intended <= submit.sent <= submit.ended


def test_the_schedule_is_kept_on_uvloop() -> None:
    """The loop that the workers run on, whose timers round to milliseconds."""

    async def run_once() -> None:
        async with serving(accept) as server, sending(server.url, every(0.002, 200)) as run:
            await run.sender.run()
            check_schedule(run.submits, run.sender.take_lateness())

    uvloop.run(run_once())


async def test_answers_do_not_pace_the_sends() -> None:
    """While nothing at all is answered, everything still goes out when it is due: the loop is open."""
    async with serving(hang) as server, sending(server.url, every(0.005, 50), max_outstanding=50) as run:
        running = asyncio.create_task(run.sender.run())
        await until(lambda: len(server.asked) == 50)
        assert run.submits == []
        assert run.sender.open == 50
        assert run.sender.take_lateness().percentile(0.5) < PUNCTUAL_SECONDS
        run.sender.stop(time.monotonic(), time.monotonic())
        await running


async def test_what_is_late_is_sent_late_and_says_so() -> None:
    """A schedule that began long ago is sent at once, all of it, and lateness counts from what was due."""
    async with serving(accept) as server, sending(server.url, every(0.01, 80, ahead_seconds=-5.0)) as run:
        await run.sender.run()
        assert run.count(SubmitEnd.ACCEPTED) == 80
        lateness = run.sender.take_lateness()
        assert lateness.count == 80
        assert lateness.least >= 5.0 - 80 * 0.01


async def test_answers_are_read_in_the_middle_of_a_burst() -> None:
    """A burst does not hold up the answers to its own beginning."""
    async with serving(accept) as server, sending(server.url, every(0.0, 2000), max_outstanding=2000) as run:
        await run.sender.run()
        last_sent = max(submit.sent or 0.0 for submit in run.submits)
        assert min(submit.ended for submit in run.submits) < last_sent


async def test_what_the_guard_keeps_back_is_counted() -> None:
    """With three requests open and unanswered, the rest is skipped, and each of them is on record."""
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


async def accept_but_say_nothing_first(
    server: Server, asked: Asked, writer: asyncio.StreamWriter
) -> bytes | None:
    """Accepts each request, and answers only the second time that it comes."""
    if sum(each.key == asked.key for each in server.asked) == 1:
        return None
    return await accept(server, asked, writer)


async def test_an_unclear_request_is_cleared_up_by_the_same_key() -> None:
    """The very same request goes out again after a while; it was ambiguous and is accepted."""
    async with serving(accept_but_say_nothing_first) as server, sending(server.url, every(0.001, 3)) as run:
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
    """Within its limit it is sent again and again, then it is ambiguous, with the reason."""
    async with (
        serving(close) as server,
        sending(server.url, every(0.0, 1), resolve_limit_seconds=0.8) as run,
    ):
        await run.sender.run()
    [submit] = run.submits
    assert submit.end is SubmitEnd.AMBIGUOUS
    assert submit.was_ambiguous
    assert submit.attempts == len(server.asked) > 1
    assert submit.reason == "the connection closed before the answer was begun"
    assert submit.sent is not None
    assert submit.ended - submit.sent < 2.0


async def test_a_full_queue_does_not_clear_a_doubt_but_a_bad_request_does() -> None:
    """503 says nothing of the first attempt; 422 would have been said the first time too."""
    refusals = (answer(503, OVERLOADED), answer(422, b'{"error": {"error_code": "LLM_INVALID_PROMPT"}}'))

    async def reply(server: Server, asked: Asked, _: asyncio.StreamWriter) -> bytes | None:
        return None if len(server.asked) == 1 else refusals[len(server.asked) - 2]

    async with serving(reply) as server, sending(server.url, every(0.0, 1)) as run:
        await run.sender.run()
    [submit] = run.submits
    assert (submit.end, submit.attempts, submit.error_code) == (SubmitEnd.REJECTED, 3, "LLM_INVALID_PROMPT")
    assert submit.was_ambiguous


async def test_a_service_that_asks_for_time_gets_it() -> None:
    """An unclear request is not sent again before the time that Retry-After names."""

    async def reply(server: Server, asked: Asked, _: asyncio.StreamWriter) -> bytes | None:
        return {1: None, 2: answer(503, OVERLOADED, b"retry-after: 2")}.get(len(server.asked), answer())

    async with serving(reply) as server, sending(server.url, every(0.0, 1)) as run:
        await run.sender.run()
    [submit] = run.submits
    assert (submit.end, submit.attempts) == (SubmitEnd.ACCEPTED, 3)
    assert submit.sent is not None
    assert submit.ended - submit.sent >= 2.0


async def test_a_refused_request_is_not_sent_again() -> None:
    """A refusal is a result: status and code are on record, whatever Retry-After says."""
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
    """Nothing was sent, so nothing is in doubt and nothing is tried again."""
    async with serving(accept) as server:
        gone = server.url
    async with asyncio.timeout(HANG_SECONDS), sending(gone, every(0.001, 5)) as run:
        await run.sender.run()
    assert [(submit.end, submit.attempts) for submit in run.submits] == [(SubmitEnd.UNREACHABLE, 1)] * 5


async def test_a_stop_lets_open_requests_end() -> None:
    """What is due after it is never sent; what is open gets its answer."""
    async with serving(hang_then_accept) as server, sending(server.url, every(0.02, 1000)) as run:
        running = asyncio.create_task(run.sender.run())
        await until(lambda: len(server.asked) >= 3)
        run.sender.stop(time.monotonic(), time.monotonic() + 5.0)
        assert not running.done()
        server.released.set()
        await running
        assert 3 <= run.count(SubmitEnd.ACCEPTED) == len(run.submits) < 500


async def hang_then_accept(server: Server, asked: Asked, writer: asyncio.StreamWriter) -> bytes:
    await server.released.wait()
    return await accept(server, asked, writer)


async def test_a_stop_gives_up_at_last() -> None:
    """At the end of its time what is open is ambiguous, and so is what waits to be sent again."""

    async def reply(server: Server, asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.key == "run-0":
            await hang(server, asked, writer)

    async with serving(reply) as server, sending(server.url, every(0.0, 2), resolve_limit_seconds=60) as run:
        running = asyncio.create_task(run.sender.run())
        await until(lambda: run.sender.unresolved == 1 and run.sender.open == 1)
        run.sender.stop(time.monotonic(), time.monotonic() + 0.1)
        await running
    assert sorted((submit.number, submit.end, submit.was_ambiguous) for submit in run.submits) == [
        (0, SubmitEnd.AMBIGUOUS, True),
        (1, SubmitEnd.AMBIGUOUS, True),
    ]


async def test_a_closed_loop_sends_what_is_released() -> None:
    """Each release is due at its moment; the loop waits for more until it is stopped."""
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
        run.sender.stop(time.monotonic(), time.monotonic() + 5.0)
        await running
    assert sorted(submit.number for submit in run.submits) == list(range(8))
