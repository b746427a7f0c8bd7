"""OpenAI's adapter on its transport against real sockets: everything a provider's connection can do to us."""

import asyncio
import gzip
import json
import os
import resource
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import ProviderFailure
from service.core.outcome import ProviderReply
from service.providers.catalogue import CATALOGUE
from service.providers.exchange import MAX_ANSWER_BYTES
from service.providers.openai import OpenAI
from service.providers.remote import RemoteProvider
from service.providers.transport import open_transport
from tests.ports.making import make_call
from tests.waiting import HANG_SECONDS, until

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
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    server: "Server"

    async def read_request(self) -> bytes:
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        body = await self.reader.readexactly(length)
        self.server.heads.append(head)
        self.server.asked.set()
        return body

    async def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))
        await self.writer.drain()

    async def answer(self, body: bytes = BODY, *headers: bytes, status: bytes = b"200 OK") -> None:
        lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers, b"", b""]
        await self.send(b"\r\n".join(lines), body)


Script = Callable[[Peer], Awaitable[None]]


@dataclass
class Server:
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
            _, hanging = await asyncio.wait(left, timeout=HANG_SECONDS)
            assert not hanging, "a connection was left open"


@asynccontextmanager
async def asking(url: str, **limits: Any) -> AsyncIterator[RemoteProvider]:
    patient = {"connect_timeout_seconds": HANG_SECONDS, "connection_wait_seconds": HANG_SECONDS}
    provider = RemoteProvider(
        OpenAI(api_key=KEY, base_url=url),
        default_model="gpt-4o-mini",
        catalogue=CATALOGUE,
        transport=open_transport(**{"max_connections": 300, **patient, **limits}),
    )
    try:
        yield provider
    finally:
        await provider.close()


async def ask(provider: RemoteProvider, timeout_seconds: float = HANG_SECONDS) -> ProviderReply:
    return await provider.compare(make_call(user_prompt="essay " * 1000, timeout_seconds=timeout_seconds))


async def fail(provider: RemoteProvider, timeout_seconds: float = HANG_SECONDS) -> ProviderFailure:
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


async def test_connection_is_used_again_and_cookies_are_not_kept() -> None:
    """Calls one after the other share a connection, speak HTTP/1.1 and ask for no compression."""

    async def answer_with_cookies(peer: Peer) -> None:
        while True:
            await peer.read_request()
            await peer.answer(BODY, b"Set-Cookie: a=b; Path=/")

    async with serving(answer_with_cookies) as server, asking(server.url) as provider:
        for _ in range(3):
            assert (await ask(provider)).usage.total_tokens == 15
    assert server.connections == 1
    head = server.heads[0].lower()
    assert head.startswith(b"post /v1/chat/completions http/1.1\r\n")
    assert b"\r\naccept-encoding: identity\r\n" in head
    assert head.count(b"\r\nhost:") == head.count(b"\r\ncontent-length:") == 1
    assert b"cookie" not in server.heads[2].lower()


async def test_200_calls_are_made_at_once() -> None:
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
        try:
            replies = await asyncio.gather(*(ask(provider) for _ in range(200)))
        finally:
            all_here.set()  # a call that failed is told at once
    assert len(replies) == 200


async def test_calls_beyond_the_limit_wait_and_give_up() -> None:
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


async def test_call_to_a_silent_or_dripping_provider_ends_at_its_own_limit() -> None:
    async def answer_then_hang(peer: Peer) -> None:
        await peer.read_request()
        await peer.answer()
        await hang(peer)

    async def answer_then_drip(peer: Peer) -> None:
        await peer.read_request()
        await peer.answer()
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not peer.reader.at_eof():
            await peer.send(b"1\r\nx\r\n")
            with suppress(TimeoutError):
                await asyncio.wait_for(peer.reader.read(1), 0.02)

    for script in (answer_then_hang, answer_then_drip):
        async with serving(script) as server, asking(server.url) as provider:
            await ask(provider)  # on the open connection the next request is sent before its limit can pass
            failure = await fail(provider, timeout_seconds=0.2)
            assert (failure.code, failure.retryable) == (LLMErrorCode.PROVIDER_TIMEOUT, True)
            assert failure.may_be_billed
            await asyncio.wait_for(server.ended.wait(), HANG_SECONDS)
        assert server.connections == 1


def say(*parts: bytes, reset: bool = False) -> Script:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(*parts)
        if reset:
            raw = peer.writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            peer.writer.transport.abort()

    return script


def frame(body: bytes, *headers: bytes, length: int | None = None) -> bytes:
    head = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % (len(body) if length is None else length), *headers]
    return b"\r\n".join([*head, b"", body])


UNAVAILABLE = {LLMErrorCode.PROVIDER_UNAVAILABLE}
UNREADABLE = {LLMErrorCode.PARSING_ERROR}
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def send_endless_head(peer: Peer) -> None:
    await peer.read_request()
    await peer.send(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        await peer.send(b"x" * 65536)


@pytest.mark.parametrize(
    ("script", "codes"),
    [
        (say(reset=True), UNAVAILABLE),
        (say(), UNAVAILABLE),
        (say(frame(BODY, length=100_000)), UNREADABLE),
        # A reset discards what was not read yet, so the break may show before the head or after it.
        (say(frame(BODY, length=100_000), reset=True), UNAVAILABLE | UNREADABLE),
        (say(CHUNKED, b'5\r\n{"mod\r\n'), UNREADABLE),
        (say(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), UNREADABLE),
        (say(frame(b"not gzip", b"Content-Encoding: gzip")), UNREADABLE),
        (say(frame(gzip.compress(BODY)[:-12], b"Content-Encoding: gzip")), UNREADABLE),
        (say(frame(BODY, b"Content-Encoding: gzip")), UNREADABLE),
        (send_endless_head, UNREADABLE),
    ],
)
async def test_broken_answer(script: Script, codes: set[LLMErrorCode]) -> None:
    async with serving(script) as server, asking(server.url) as provider:
        failure = await fail(provider)
    assert failure.code in codes
    assert failure.retryable
    assert failure.may_be_billed
    assert len(server.heads) == 1, "the call was repeated behind our back"


async def test_request_is_not_repeated_if_a_used_connection_breaks() -> None:
    async def reset_reused(peer: Peer) -> None:
        await peer.read_request()
        await peer.answer()
        await say(reset=True)(peer)

    async with serving(reset_reused) as server, asking(server.url) as provider:
        await ask(provider)
        assert (await fail(provider)).may_be_billed
    assert len(server.heads) == 2


def is_closed_on_our_side(provider: RemoteProvider) -> bool:
    return not any(
        connection.is_quiet()
        for idle in provider._transport._idle.values()  # type: ignore[attr-defined]
        for connection, _ in idle
    )


async def answer_twice(peer: Peer) -> None:
    await peer.read_request()
    await peer.answer(BODY)
    await peer.answer(b"{}")
    await peer.reader.read()


@pytest.mark.parametrize(
    "script",
    [say(frame(BODY)), answer_twice, say(frame(BODY, b"Connection: close"))],
    ids=["closed", "spoke unasked", "said that it closes"],
)
async def test_connection_that_cannot_be_used_again_is_replaced(script: Script) -> None:
    async with serving(script) as server, asking(server.url) as provider:
        for number in range(1, 4):
            assert (await ask(provider)).usage.total_tokens == 15
            await asyncio.wait_for(server.ended.wait(), HANG_SECONDS)
            server.ended.clear()
            assert server.connections == number
            await until(lambda: is_closed_on_our_side(provider), "the end of the connection here")


async def test_connection_that_is_refused_or_takes_too_long_costs_nothing() -> None:
    async def never_shake_hands(peer: Peer) -> None:
        await peer.reader.read()

    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        async with asking(f"http://127.0.0.1:{nobody.getsockname()[1]}/v1") as provider:
            refused = await fail(provider)
    async with serving(never_shake_hands) as server:
        url = server.url.replace("http://", "https://")
        async with asking(url, connect_timeout_seconds=0.2) as provider:
            late = await fail(provider)
    assert [refused.code, late.code] == [LLMErrorCode.PROVIDER_UNAVAILABLE, LLMErrorCode.PROVIDER_TIMEOUT]
    for failure in (refused, late):
        assert (failure.retryable, failure.may_be_billed) == (True, False)


@pytest.mark.parametrize("packing", ["plain", "chunked", "gzip bomb"])
async def test_huge_answer(packing: str) -> None:
    size = 100 * 1024 * 1024
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
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        failure = await fail(provider)
        await asyncio.wait_for(server.ended.wait(), HANG_SECONDS)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert (failure.code, failure.retryable) == (LLMErrorCode.INVALID_RESPONSE, False)
    assert failure.may_be_billed
    assert str(MAX_ANSWER_BYTES) in failure.message
    assert not all_sent
    assert grown < 40 * 1024  # KiB


@pytest.mark.parametrize(
    "parts",
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", BODY),
        (b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n", frame(BODY)),
        (
            CHUNKED,
            *(b"1\r\n%b\r\n" % BODY[at : at + 1] for at in range(len(BODY))),
            b"0\r\nTrailer: x\r\n\r\n",
        ),
        (frame(gzip.compress(BODY), b"Content-Encoding: gzip"),),
    ],
    ids=["ended by closing", "after a hint", "chunked", "gzip"],
)
async def test_unusual_answer_is_understood(parts: tuple[bytes, ...]) -> None:
    """Each way in which HTTP/1.1 ends an answer, and a compression that nobody asked for."""
    async with serving(say(*parts)) as server, asking(server.url) as provider:
        assert (await ask(provider)).usage.total_tokens == 15


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://127.0.0.1:9/", httpx.LocalProtocolError),  # a header would smuggle in another request
        ("ftp://127.0.0.1/", httpx.TransportError),
        ("/relative", httpx.UnsupportedProtocol),
    ],
)
async def test_request_that_cannot_be_sent(url: str, error: type[Exception]) -> None:
    transport = open_transport(max_connections=1)
    headers = [(b"x-name", b"a\r\nx-other: b")] if url.startswith("http") else []
    with pytest.raises(error):
        await transport.handle_async_request(httpx.Request("GET", url, headers=headers))
    await transport.aclose()


async def test_redirect_is_not_followed() -> None:
    async with serving(answer_forever) as target:

        async def redirect(peer: Peer) -> None:
            await peer.read_request()
            await peer.answer(b"", b"Location: " + target.url.encode(), status=b"307 Temporary")

        async with serving(redirect) as server, asking(server.url) as provider:
            failure = await fail(provider)
        assert (failure.code, failure.retryable) == (LLMErrorCode.PROVIDER_API_ERROR, False)
        assert target.connections == 0


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_certificates_are_verified(tmp_path: Path) -> None:
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
    async with serving(hang) as server, asking(server.url) as provider:
        call = asyncio.create_task(fail(provider))
        await asyncio.wait_for(server.asked.wait(), HANG_SECONDS)
        await provider.close()
        failure = await asyncio.wait_for(call, HANG_SECONDS)
    assert failure.code is LLMErrorCode.PROVIDER_UNAVAILABLE
    assert failure.may_be_billed


@pytest.mark.parametrize("packing", [b"identity", b"gzip", b"deflate"])
async def test_answer_that_is_not_read(packing: bytes) -> None:
    """It stays at the sender; read later it is whole, and the connection lives."""
    body = os.urandom(1024) * 24 * 1024  # more than the kernel takes of a new connection
    packed = {b"identity": body, b"gzip": gzip.compress(body, 0), b"deflate": zlib.compress(body, 0)}[packing]
    all_sent = asyncio.Event()

    async def pour(peer: Peer) -> None:
        while True:
            await peer.read_request()
            await peer.answer(packed, b"Content-Encoding: " + packing)
            all_sent.set()

    transport = open_transport(max_connections=1)
    async with serving(pour) as server, aclosing(transport):
        for turn in range(2):
            response = await transport.handle_async_request(httpx.Request("GET", server.url))
            if turn == 0:  # the kernel's buffers grow with what was read
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
