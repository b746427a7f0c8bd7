"""OpenAI's adapter on its transport against real sockets: everything a provider's connection can do to us."""

import asyncio
import gzip
import json
import os
import resource
import socket
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import httpx
import pytest
import uvloop

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import ProviderFailure
from service.core.outcome import ProviderReply
from service.core.records import ProviderCall
from service.providers.catalogue import CATALOGUE
from service.providers.exchange import MAX_ANSWER_BYTES
from service.providers.openai import OpenAI
from service.providers.remote import RemoteProvider
from service.providers.transport import open_transport
from tests.waiting import HANG_SECONDS

KEY = "sk-canary-7f3a91"
CONTENT = '{"winner":"essay_a","justification":"Clearer.","confidence":0.9}'
BODY = json.dumps(
    {
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"message": {"content": CONTENT}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5},
    }
).encode()
# A key pair for tests alone: it names localhost and nobody trusts it unless told to.
TEST_CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUcjyyWnJOfpDn6zPXdxF0Y/N27wgwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNDAwMDAwM1oYDzIxMjYxMDMx
MDAwMDAzWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAARxfT/bFl2fz8tWJWwaVZ57J3AqJviAisdoI693DNaxBqVfjunFQedT
YmMjW4WZmiG1mwTQOVXy6r5odA23PmP5o28wbTAdBgNVHQ4EFgQUv/uBXNv9DU9u
d7JGYTEPiQFwkZAwHwYDVR0jBBgwFoAUv/uBXNv9DU9ud7JGYTEPiQFwkZAwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIhAL9rqLF27sQqcLwrIJ3jtlAHWGXM4vgO7IBo9xHLIWY6AiBf
DD8JfqJZzpwXlpdXqr8n6I+NswiQZR8AmpbhANSoIg==
-----END CERTIFICATE-----
"""
TEST_KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgafKovey090mYn0w6
V1Z8pm9ktjsdBikHnzo+adFlfpOhRANCAARxfT/bFl2fz8tWJWwaVZ57J3AqJviA
isdoI693DNaxBqVfjunFQedTYmMjW4WZmiG1mwTQOVXy6r5odA23PmP5
-----END PRIVATE KEY-----
"""


@dataclass
class Peer:
    """One connection as the server sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    server: "Server"

    async def read_request(self) -> bytes:
        """Reads one request whole; its head is kept by the server."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        body = await self.reader.readexactly(length)
        self.server.heads.append(head)
        self.server.asked.set()
        return body

    async def send(self, *parts: bytes) -> None:
        """Sends bytes as they are."""
        self.writer.write(b"".join(parts))
        await self.writer.drain()

    async def answer(self, body: bytes = BODY, *headers: bytes, status: bytes = b"200 OK") -> None:
        """Sends one complete answer."""
        lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers, b"", b""]
        await self.send(b"\r\n".join(lines), body)


Script = Callable[[Peer], Awaitable[None]]


@dataclass
class Server:
    """A server that does to every connection what its script says."""

    script: Script
    url: str = ""
    heads: list[bytes] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a request has been read."""
    connections: int = 0
    under_way: set[asyncio.Task[None] | None] = field(default_factory=set)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a connection is over and closed on both sides."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Runs the script on a new connection."""
        self.connections += 1
        self.under_way.add(asyncio.current_task())
        try:
            await self.script(Peer(reader, writer, self))
            writer.close()
            await writer.wait_closed()
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()
        finally:
            self.under_way.discard(asyncio.current_task())
            self.ended.set()


@asynccontextmanager
async def serving(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server on a free port of this machine."""
    server = Server(script)
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0, ssl=tls, backlog=1024)
    port = listener.sockets[0].getsockname()[1]
    server.url = f"http://127.0.0.1:{port}/v1" if tls is None else f"https://localhost:{port}/v1"
    try:
        yield server
    finally:
        listener.close()
        left = {task for task in server.under_way if task is not None}
        if left:
            _, hanging = await asyncio.wait(left, timeout=5)
            assert not hanging, "a connection was left open"


@asynccontextmanager
async def asking(
    url: str,
    *,
    max_connections: int = 300,
    connect_timeout_seconds: float = 2.0,
    connection_wait_seconds: float = 2.0,
    trusted_certificates_pem: tuple[str, ...] = (),
) -> AsyncIterator[RemoteProvider]:
    """A provider on the transport that the service uses."""
    provider = RemoteProvider(
        OpenAI(api_key=KEY, base_url=url),
        default_model="gpt-4o-mini",
        catalogue=CATALOGUE,
        transport=open_transport(
            max_connections=max_connections,
            connect_timeout_seconds=connect_timeout_seconds,
            connection_wait_seconds=connection_wait_seconds,
            trusted_certificates_pem=trusted_certificates_pem,
        ),
    )
    try:
        yield provider
    finally:
        await provider.close()


async def ask(provider: RemoteProvider, timeout_seconds: float = 5.0) -> ProviderReply:
    return await provider.compare(
        ProviderCall(
            system_prompt="Judge.",
            user_prompt="essay " * 1000,
            model="gpt-4o-mini",
            temperature=None,
            max_tokens=None,
            timeout_seconds=timeout_seconds,
            queue_id="q-1",
            correlation_id=UUID(int=1),
            attempt=1,
        )
    )


async def fail(provider: RemoteProvider, timeout_seconds: float = 5.0) -> ProviderFailure:
    with pytest.raises(ProviderFailure) as caught:
        await ask(provider, timeout_seconds)
    assert KEY not in repr(caught.value)
    return caught.value


async def answer_forever(peer: Peer) -> None:
    while True:
        await peer.read_request()
        await peer.answer()


async def hang(peer: Peer) -> None:
    await peer.read_request()
    await peer.reader.read(1)


async def test_connection_is_used_again() -> None:
    """Calls one after the other share a connection, speak HTTP/1.1 and ask for no compression."""
    async with serving(answer_forever) as server, asking(server.url) as provider:
        for _ in range(5):
            assert (await ask(provider)).usage.total_tokens == 15
    assert server.connections == 1
    head = server.heads[0].lower()
    assert head.startswith(b"post /v1/chat/completions http/1.1\r\n")
    assert b"\r\naccept-encoding: identity\r\n" in head
    assert head.count(b"\r\nhost:") == head.count(b"\r\ncontent-length:") == 1


async def test_200_at_once() -> None:
    """200 calls are under way at the same time and all of them come back."""
    here = 0
    all_here = asyncio.Event()

    async def wait_for_all(peer: Peer) -> None:
        nonlocal here
        await peer.read_request()
        here += 1
        if here == 200:
            all_here.set()
        await all_here.wait()
        await peer.answer()

    async with serving(wait_for_all) as server, asking(server.url) as provider:
        replies = await asyncio.gather(*(ask(provider, 10.0) for _ in range(200)))
    assert len(replies) == 200


async def test_calls_beyond_the_limit_wait_and_give_up() -> None:
    """No more calls than allowed are under way; a further one waits for its turn, within its limit."""
    async with (
        serving(hang) as server,
        asking(server.url, max_connections=1, connection_wait_seconds=0.2) as provider,
    ):
        first = asyncio.create_task(ask(provider))
        await asyncio.wait_for(server.asked.wait(), HANG_SECONDS)
        failure = await fail(provider)
        assert failure.code is LLMErrorCode.PROVIDER_TIMEOUT
        assert failure.retryable
        assert not failure.may_be_billed
        assert server.connections == 1
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


@pytest.mark.parametrize("stage", ["before the head", "in the body"])
async def test_cancelling_closes_the_connection(stage: str) -> None:
    """A cancelled call raises CancelledError and the provider sees its connection close."""
    gone: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.read_request()
        if stage == "in the body":
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome of it")
        gone.append(await peer.reader.read(1))

    async with serving(script) as server, asking(server.url) as provider:
        call = asyncio.create_task(ask(provider))
        await asyncio.wait_for(server.asked.wait(), HANG_SECONDS)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(server.ended.wait(), HANG_SECONDS)
    assert gone in ([b""], [])  # closed, or reset


async def test_hanging_provider() -> None:
    """A provider that never answers costs the call's limit and no more, and its connection is closed."""
    async with serving(hang) as server, asking(server.url) as provider:
        began = time.monotonic()
        failure = await fail(provider, timeout_seconds=0.3)
        assert 0.29 <= time.monotonic() - began < 3.0
        assert (failure.code, failure.retryable) == (LLMErrorCode.PROVIDER_TIMEOUT, True)
        assert failure.may_be_billed
        await asyncio.wait_for(server.ended.wait(), HANG_SECONDS)


async def test_dripping_provider() -> None:
    """An answer that keeps coming, too slowly, ends at the whole call's limit."""

    async def drip(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        for byte in BODY:
            await peer.send(bytes([byte]))
            with suppress(TimeoutError):
                await asyncio.wait_for(peer.reader.read(1), 0.02)
                return

    async with serving(drip) as server, asking(server.url) as provider:
        began = time.monotonic()
        failure = await fail(provider, timeout_seconds=0.3)
        assert time.monotonic() - began < 3.0
    assert failure.code is LLMErrorCode.PROVIDER_TIMEOUT
    assert failure.may_be_billed


def abort(peer: Peer) -> None:
    """Resets the connection instead of closing it."""
    raw = peer.writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.writer.transport.abort()


async def reset(peer: Peer) -> None:
    await peer.read_request()
    abort(peer)


async def reset_reused(peer: Peer) -> None:
    await peer.read_request()
    await peer.answer()
    await reset(peer)


async def close_at_once(peer: Peer) -> None:
    await peer.read_request()


async def truncate(peer: Peer) -> None:
    await peer.read_request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", BODY)


async def truncate_by_reset(peer: Peer) -> None:
    await truncate(peer)
    abort(peer)


async def truncate_chunked(peer: Peer) -> None:
    await peer.read_request()
    await peer.send(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"mod\r\n')


async def talk_nonsense(peer: Peer) -> None:
    await peer.read_request()
    await peer.send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")


async def send_half_a_gzip(peer: Peer) -> None:
    await peer.read_request()
    await peer.answer(gzip.compress(BODY)[:-12], b"Content-Encoding: gzip")


async def send_unknown_packing(peer: Peer) -> None:
    await peer.read_request()
    await peer.answer(BODY, b"Content-Encoding: br")


async def send_endless_head(peer: Peer) -> None:
    await peer.read_request()
    await peer.send(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        await peer.send(b"x" * 65536)


async def send_broken_gzip(peer: Peer) -> None:
    await peer.read_request()
    await peer.answer(b"no gzip", b"Content-Encoding: gzip")


@pytest.mark.parametrize(
    ("script", "codes"),
    [
        (reset, {LLMErrorCode.PROVIDER_UNAVAILABLE}),
        (close_at_once, {LLMErrorCode.PROVIDER_UNAVAILABLE}),
        (truncate, {LLMErrorCode.PARSING_ERROR}),
        # A reset discards what was not read yet, so the break may show before the head or after it.
        (truncate_by_reset, {LLMErrorCode.PARSING_ERROR, LLMErrorCode.PROVIDER_UNAVAILABLE}),
        (truncate_chunked, {LLMErrorCode.PARSING_ERROR}),
        (talk_nonsense, {LLMErrorCode.PARSING_ERROR}),
        (send_broken_gzip, {LLMErrorCode.PARSING_ERROR}),
        (send_half_a_gzip, {LLMErrorCode.PARSING_ERROR}),
        (send_unknown_packing, {LLMErrorCode.PARSING_ERROR}),
        (send_endless_head, {LLMErrorCode.PARSING_ERROR}),
    ],
)
async def test_broken_answer(script: Script, codes: set[LLMErrorCode]) -> None:
    """A connection that breaks after the request was sent is told apart from one that never was."""
    async with serving(script) as server, asking(server.url) as provider:
        failure = await fail(provider)
    assert failure.code in codes
    assert failure.retryable
    assert failure.may_be_billed
    assert len(server.heads) == 1, "the call was repeated behind our back"


async def test_used_connection_breaks() -> None:
    """A request that was sent on a used connection is not sent a second time when that breaks."""
    async with serving(reset_reused) as server, asking(server.url) as provider:
        await ask(provider)
        failure = await fail(provider)
    assert failure.may_be_billed
    assert len(server.heads) == 2


async def test_stale_connection_is_replaced() -> None:
    """A connection that the provider has closed while nobody used it costs no call."""

    async def answer_once(peer: Peer) -> None:
        await peer.read_request()
        await peer.answer()

    async with serving(answer_once) as server, asking(server.url) as provider:
        for number in range(1, 4):
            await ask(provider)
            await asyncio.wait_for(server.ended.wait(), HANG_SECONDS)
            server.ended.clear()
            assert server.connections == number


async def test_refused_connection() -> None:
    """Where nobody listens nothing was sent, so nothing can be billed."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        async with asking(f"http://127.0.0.1:{nobody.getsockname()[1]}/v1") as provider:
            failure = await fail(provider)
    assert (failure.code, failure.retryable) == (LLMErrorCode.PROVIDER_UNAVAILABLE, True)
    assert not failure.may_be_billed


async def test_connecting_takes_too_long() -> None:
    """A connection that does not come about ends at its own limit, before the call's, and costs nothing."""

    async def never_shake_hands(peer: Peer) -> None:
        await peer.reader.read()

    async with serving(never_shake_hands) as server:
        url = server.url.replace("http://", "https://")
        async with asking(url, connect_timeout_seconds=0.2) as provider:
            failure = await fail(provider)
    assert (failure.code, failure.retryable) == (LLMErrorCode.PROVIDER_TIMEOUT, True)
    assert not failure.may_be_billed


def peak_memory_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("packing", ["plain", "chunked", "gzip bomb"])
async def test_huge_answer(packing: str) -> None:
    """An answer beyond the limit is not read to its end, however it is packed, and takes little memory."""
    size = 200 * 1024 * 1024
    bomb = gzip.compress(bytes(size), 1) if packing == "gzip bomb" else b""
    all_sent = False

    async def flood(peer: Peer) -> None:
        nonlocal all_sent
        await peer.read_request()
        if bomb:
            await peer.answer(bomb, b"Content-Encoding: gzip")
            return
        piece = b"x" * 65536
        chunked = packing == "chunked"
        length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
        await peer.send(b"HTTP/1.1 200 OK\r\n", length, b"\r\n\r\n")
        for _ in range(size // len(piece)):
            await peer.send(b"10000\r\n" + piece + b"\r\n" if chunked else piece)
        all_sent = True

    async with serving(flood) as server, asking(server.url) as provider:
        before = peak_memory_bytes()
        failure = await fail(provider)
        await asyncio.wait_for(server.ended.wait(), HANG_SECONDS)
        grown = peak_memory_bytes() - before
    assert (failure.code, failure.retryable) == (LLMErrorCode.INVALID_RESPONSE, False)
    assert failure.may_be_billed
    assert str(MAX_ANSWER_BYTES) in failure.message
    assert not all_sent
    assert grown < 40 * 1024 * 1024


async def end_by_closing(peer: Peer) -> None:
    await peer.read_request()
    await peer.send(b"HTTP/1.1 200 OK\r\n\r\n", BODY)


async def hint_first(peer: Peer) -> None:
    await peer.read_request()
    await peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n")
    await peer.answer()


async def send_chunked(peer: Peer) -> None:
    await peer.read_request()
    chunks = b"".join(b"%x\r\n%b\r\n" % (1, BODY[at : at + 1]) for at in range(len(BODY)))
    await peer.send(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunks, b"0\r\nTrailer: x\r\n\r\n"
    )


@pytest.mark.parametrize("script", [end_by_closing, hint_first, send_chunked])
async def test_unusual_framing(script: Script) -> None:
    """Each way in which HTTP/1.1 may tell the end of an answer is understood."""
    async with serving(script) as server, asking(server.url) as provider:
        assert (await ask(provider)).usage.total_tokens == 15


async def test_unasked_answer() -> None:
    """An answer that nobody asked for is not taken for the answer to the next call."""

    async def answer_twice(peer: Peer) -> None:
        await peer.read_request()
        await peer.answer(BODY)
        await peer.answer(b"{}")
        await peer.reader.read()

    async with serving(answer_twice) as server, asking(server.url) as provider:
        for number in range(1, 4):
            assert (await ask(provider)).usage.total_tokens == 15
            await asyncio.wait_for(server.ended.wait(), HANG_SECONDS)
            server.ended.clear()
            assert server.connections == number


async def test_connection_that_may_not_be_used_again() -> None:
    """A provider that announces the close gets a new connection for the next call."""

    async def answer_and_close(peer: Peer) -> None:
        await peer.read_request()
        await peer.answer(BODY, b"Connection: close")

    async with serving(answer_and_close) as server, asking(server.url) as provider:
        await ask(provider)
        await ask(provider)
        assert server.connections == 2


async def test_line_break_in_a_header() -> None:
    """A header that would smuggle in another request is not sent."""
    transport = open_transport(max_connections=1)
    request = httpx.Request("GET", "http://127.0.0.1:9/", headers=[(b"x-name", b"a\r\nx-other: b")])
    with pytest.raises(httpx.LocalProtocolError):
        await transport.handle_async_request(request)
    await transport.aclose()


async def test_gzipped_answer() -> None:
    """A provider that compresses although it was not asked to is understood all the same."""

    async def pack(peer: Peer) -> None:
        await peer.read_request()
        await peer.answer(gzip.compress(BODY), b"Content-Encoding: gzip")

    async with serving(pack) as server, asking(server.url) as provider:
        assert (await ask(provider)).usage.total_tokens == 15


@pytest.mark.parametrize("status", [b"301 Moved", b"302 Found", b"307 Temporary", b"308 Permanent"])
async def test_redirect_is_not_followed(status: bytes) -> None:
    """The target of a redirect is never contacted."""
    async with serving(answer_forever) as target:

        async def redirect(peer: Peer) -> None:
            await peer.read_request()
            await peer.answer(b"", b"Location: " + target.url.encode(), status=status)

        async with serving(redirect) as server, asking(server.url) as provider:
            failure = await fail(provider)
        assert (failure.code, failure.retryable) == (LLMErrorCode.PROVIDER_API_ERROR, False)
        assert target.connections == 0


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy variable leads a call, and with it the key, to somewhere else."""
    async with serving(answer_forever) as proxy, serving(answer_forever) as server:
        address = proxy.url.removesuffix("/v1")
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, address)
            monkeypatch.setenv(name.lower(), address)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        async with asking(server.url) as provider:
            await ask(provider)
        assert proxy.connections == 0
        assert server.connections == 1


async def test_cookies_are_not_kept() -> None:
    """What a provider sets as a cookie does not come back to it."""

    async def bake(peer: Peer) -> None:
        while True:
            await peer.read_request()
            await peer.answer(BODY, b"Set-Cookie: a=b; Path=/")

    async with serving(bake) as server, asking(server.url) as provider:
        await ask(provider)
        await ask(provider)
    assert b"cookie" not in server.heads[1].lower()


async def test_certificates_are_verified(tmp_path: Path) -> None:
    """A certificate that nobody trusts ends the call before the key is sent; a trusted one is accepted."""
    (tmp_path / "pair.pem").write_text(TEST_KEY + TEST_CERTIFICATE)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "pair.pem")
    async with serving(answer_forever, tls) as server:
        async with asking(server.url) as provider:
            failure = await fail(provider)
        assert failure.code is LLMErrorCode.PROVIDER_UNAVAILABLE
        assert not failure.may_be_billed
        assert server.heads == []
        async with asking(server.url, trusted_certificates_pem=(TEST_CERTIFICATE,)) as provider:
            assert (await ask(provider)).usage.total_tokens == 15


async def test_closing_ends_calls_under_way() -> None:
    """Closing the provider ends a call that is under way as a failure, not as a hang."""
    async with serving(hang) as server, asking(server.url) as provider:
        call = asyncio.create_task(fail(provider))
        await asyncio.wait_for(server.asked.wait(), HANG_SECONDS)
        await provider.close()
        failure = await asyncio.wait_for(call, HANG_SECONDS)
    assert failure.code is LLMErrorCode.PROVIDER_UNAVAILABLE
    assert failure.may_be_billed


def test_on_uvloop() -> None:
    """Answers, timeouts and cancelled calls come out the same on uvloop."""

    async def run() -> None:
        async with serving(answer_forever) as server, asking(server.url) as provider:
            await asyncio.gather(*(ask(provider) for _ in range(20)))
        async with serving(hang) as server, asking(server.url) as provider:
            assert (await fail(provider, 0.1)).code is LLMErrorCode.PROVIDER_TIMEOUT

    uvloop.run(run())


@pytest.mark.parametrize("packing", [b"identity", b"gzip", b"deflate"])
async def test_answer_that_is_not_read(packing: bytes) -> None:
    """An answer that nobody reads is not taken in; read later it is whole, and the connection lives."""
    body = os.urandom(1024) * 8192
    packed = {b"identity": body, b"gzip": gzip.compress(body, 0), b"deflate": zlib.compress(body, 0)}[packing]
    all_sent = asyncio.Event()

    async def pour(peer: Peer) -> None:
        while True:
            await peer.read_request()
            await peer.answer(packed, b"Content-Encoding: " + packing)
            all_sent.set()

    transport = open_transport(max_connections=1)
    async with serving(pour) as server:
        for _ in range(2):
            response = await transport.handle_async_request(httpx.Request("GET", server.url))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(all_sent.wait(), 0.1)
            assert isinstance(response.stream, httpx.AsyncByteStream)
            assert b"".join([chunk async for chunk in response.stream]) == body
            await response.aclose()
            await response.aclose()
            await asyncio.wait_for(all_sent.wait(), HANG_SECONDS)
            all_sent.clear()
        assert server.connections == 1
        await transport.aclose()
        with pytest.raises(httpx.ConnectError):
            await transport.handle_async_request(httpx.Request("GET", server.url))


async def test_url_that_cannot_be_called() -> None:
    """The transport says in httpx's terms that it knows no such protocol."""
    transport = open_transport(max_connections=1)
    with pytest.raises(httpx.TransportError):
        await transport.handle_async_request(httpx.Request("GET", "ftp://127.0.0.1/"))
    with pytest.raises(httpx.UnsupportedProtocol):
        await transport.handle_async_request(httpx.Request("GET", "/relative"))
    await transport.aclose()
