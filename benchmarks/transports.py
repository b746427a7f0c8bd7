"""What one call to a provider costs the client, by transport.

Every candidate is called as the providers call it: through `httpx.AsyncBaseTransport` with an
`httpx.Request`, without an `httpx.AsyncClient` around it; `native` rows show what a library costs without
httpx's types. The provider is a stub in a process of its own that answers after 50 ms. Candidates take
turns in rounds, so that what else the machine does touches all of them alike, and medians over the rounds
are shown. Read the ratios; the absolute figures belong to one machine and one hour.

    python -m benchmarks.transports
    python -m benchmarks.transports --rounds 5 --seconds 4 --in-flight 64 1000 --only pyreqwest

Candidates: the one in use and httpx (installed with the project), httpx2, pyreqwest, pyqwest with h2,
aiohttp, httpx-aiohttp (skipped, by name, where they are not installed).
"""

import argparse
import asyncio
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import httpx
import uvloop

from service.providers.transport import open_transport

ANSWER_LATENCY_SECONDS = 0.05
WARM_UP_LIMIT_SECONDS = 3.0
MEASUREMENT_LIMIT_SECONDS = 120.0
BODY = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"' + b"essay " * 1000 + b'"}]}'
ANSWER_BODY = b'{"id":"chatcmpl-1","choices":[{"message":{"content":"' + b"x" * 700 + b'"}}]}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Request-ID: req_1\r\nContent-Length: "
    + str(len(ANSWER_BODY)).encode()
    + b"\r\n\r\n"
    + ANSWER_BODY
)
HEADERS = {
    "accept": "application/json",
    "accept-encoding": "identity",
    "authorization": "Bearer test",
    "content-type": "application/json",
}

Send = Callable[[], Awaitable[None]]
"""One call, to its last byte."""


# --- the stub provider


class Stub(asyncio.Protocol):
    """Answers every request with the same bytes after a fixed time; understands Content-Length only."""

    latency_seconds = ANSWER_LATENCY_SECONDS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._buffer = bytearray()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (head := self._buffer.find(b"\r\n\r\n")) >= 0:
            lines = bytes(self._buffer[:head]).lower().split(b"\r\n")
            length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
            if len(self._buffer) < head + 4 + length:
                return
            del self._buffer[: head + 4 + length]
            asyncio.get_running_loop().call_later(self.latency_seconds, self._answer)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(ANSWER)


async def serve() -> None:
    """Serves the stub until its standard input ends; prints its port first."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Stub, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


@contextmanager
def running_stub() -> Iterator[str]:
    """The URL of a stub provider in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1/chat/completions"
        process.stdin.close()


# --- the candidates


@asynccontextmanager
async def through_httpx(transport: httpx.AsyncBaseTransport, url: str) -> AsyncIterator[Send]:
    """Calls as the providers do."""
    target = httpx.URL(url)
    headers = httpx.Headers({**HEADERS, "host": target.netloc.decode(), "content-length": str(len(BODY))})

    async def send() -> None:
        response = await transport.handle_async_request(
            httpx.Request("POST", target, headers=headers.raw, stream=httpx.ByteStream(BODY))
        )
        assert isinstance(response.stream, httpx.AsyncByteStream)
        try:
            size = 0
            async for chunk in response.stream:
                size += len(chunk)
        finally:
            await response.aclose()
        assert size == len(ANSWER_BODY)

    try:
        yield send
    finally:
        await transport.aclose()


@asynccontextmanager
async def in_use(url: str, in_flight: int) -> AsyncIterator[Send]:
    async with through_httpx(open_transport(max_connections=in_flight), url) as send:
        yield send


@asynccontextmanager
async def stock_httpx(url: str, in_flight: int) -> AsyncIterator[Send]:
    limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    async with through_httpx(httpx.AsyncHTTPTransport(limits=limits), url) as send:
        yield send


@asynccontextmanager
async def pyreqwest_shipped(url: str, in_flight: int) -> AsyncIterator[Send]:
    shipped = import_module("pyreqwest.compatibility.httpx")
    client = (
        import_module("pyreqwest.client")
        .ClientBuilder()
        .no_proxy()
        .http1_only()
        .max_connections(in_flight)
        .build()
    )
    async with through_httpx(shipped.HttpxTransport(client), url) as send:
        yield send


@asynccontextmanager
async def pyreqwest_native(url: str, in_flight: int) -> AsyncIterator[Send]:
    builder = import_module("pyreqwest.client").ClientBuilder()
    async with builder.no_proxy().http1_only().max_connections(in_flight).build() as client:

        async def send() -> None:
            response = await client.post(url).headers(HEADERS).body_bytes(BODY).build().send()
            assert len(await response.bytes()) == len(ANSWER_BODY)

        yield send


@asynccontextmanager
async def pyqwest_shipped(url: str, in_flight: int) -> AsyncIterator[Send]:
    pyqwest = import_module("pyqwest")
    shipped = import_module("pyqwest.httpx")
    inner = pyqwest.HTTPTransport(
        tls_include_system_certs=True,
        http_version=pyqwest.HTTPVersion.HTTP1,
        pool_max_idle_per_host=in_flight,
        follow_redirects=False,
        enable_otel=False,
    )
    async with through_httpx(shipped.AsyncPyqwestTransport(inner), url) as send:
        yield send


@asynccontextmanager
async def pyqwest_native(url: str, in_flight: int) -> AsyncIterator[Send]:
    pyqwest = import_module("pyqwest")
    inner = pyqwest.HTTPTransport(
        tls_include_system_certs=True,
        http_version=pyqwest.HTTPVersion.HTTP1,
        pool_max_idle_per_host=in_flight,
        follow_redirects=False,
        enable_otel=False,
    )
    client = pyqwest.Client(inner)

    async def send() -> None:
        response = await client.post(url, headers=HEADERS, content=BODY)
        assert len(response.content) == len(ANSWER_BODY)

    yield send


@asynccontextmanager
async def httpx_aiohttp(url: str, in_flight: int) -> AsyncIterator[Send]:
    transport = import_module("httpx_aiohttp").AiohttpTransport
    limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    async with through_httpx(transport(limits=limits), url) as send:
        yield send


@asynccontextmanager
async def httpx2_native(url: str, in_flight: int) -> AsyncIterator[Send]:
    httpx2 = import_module("httpx2")  # its types are its own: it carries no request of httpx's
    limits = httpx2.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    async with httpx2.AsyncHTTPTransport(limits=limits) as transport:

        async def send() -> None:
            request = httpx2.Request("POST", url, headers=HEADERS, content=BODY)
            response = await transport.handle_async_request(request)
            try:
                assert len(await response.aread()) == len(ANSWER_BODY)
            finally:
                await response.aclose()

        yield send


@asynccontextmanager
async def aiohttp_adapter(url: str, in_flight: int) -> AsyncIterator[Send]:
    aiohttp = import_module("aiohttp")

    class Body(httpx.AsyncByteStream):
        def __init__(self, response: Any) -> None:
            self._response = response

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for chunk in self._response.content.iter_any():
                yield chunk

        async def aclose(self) -> None:
            self._response.release()

    class Adapter(httpx.AsyncBaseTransport):
        def __init__(self) -> None:
            connector = aiohttp.TCPConnector(limit=in_flight)
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
            )

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            response = await self._session.request(
                request.method,
                str(request.url),
                headers=request.headers.multi_items(),
                data=await request.aread(),
                allow_redirects=False,
            )
            return httpx.Response(response.status, headers=response.raw_headers, stream=Body(response))

        async def aclose(self) -> None:
            await self._session.close()

    async with through_httpx(Adapter(), url) as send:
        yield send


@asynccontextmanager
async def aiohttp_native(url: str, in_flight: int) -> AsyncIterator[Send]:
    aiohttp = import_module("aiohttp")

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=in_flight)) as session:

        async def send() -> None:
            async with session.post(url, headers=HEADERS, data=BODY) as response:
                assert len(await response.read()) == len(ANSWER_BODY)

        yield send


@dataclass(frozen=True)
class Candidate:
    """Something that can carry a call, and the package it needs."""

    name: str
    package: str
    open: Callable[[str, int], Any]


CANDIDATES = (
    Candidate("in use", "httptools", in_use),
    Candidate("pyreqwest, its httpx transport", "pyreqwest", pyreqwest_shipped),
    Candidate("pyreqwest, native", "pyreqwest", pyreqwest_native),
    Candidate("pyqwest, its httpx transport", "pyqwest", pyqwest_shipped),
    Candidate("pyqwest, native", "pyqwest", pyqwest_native),
    Candidate("aiohttp, thin adapter", "aiohttp", aiohttp_adapter),
    Candidate("aiohttp, native", "aiohttp", aiohttp_native),
    Candidate("httpx-aiohttp", "httpx_aiohttp", httpx_aiohttp),
    Candidate("httpx", "httpx", stock_httpx),
    Candidate("httpx2, native", "httpx2", httpx2_native),
)


# --- the measurement


@dataclass(frozen=True)
class Sample:
    """One candidate, one round."""

    calls_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms_per_call: float


async def measure(candidate: Candidate, url: str, in_flight: int, seconds: float) -> NoReturn:
    """Keeps `in_flight` calls under way for `seconds`, once every worker has made one; prints a sample."""
    latencies: list[float] = []
    warm = asyncio.Semaphore(0)

    async def work(send: Send) -> None:
        await send()
        warm.release()
        while True:
            began = time.perf_counter()
            await send()
            latencies.append(time.perf_counter() - began)

    async with candidate.open(url, in_flight) as send:
        workers = [asyncio.create_task(work(send)) for _ in range(in_flight)]
        try:
            async with asyncio.timeout(WARM_UP_LIMIT_SECONDS):
                for _ in range(in_flight):
                    await warm.acquire()
        except TimeoutError:
            pass  # a candidate that is this slow is measured as far as it has come
        latencies.clear()
        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.sleep(seconds)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        for worker in workers:
            if worker.done():
                worker.result()
        done = sorted(latencies)
        sample = Sample(
            len(done) / wall,
            done[len(done) // 2] * 1000 if done else math.inf,
            done[len(done) * 99 // 100] * 1000 if done else math.inf,
            cpu / len(done) * 1000 if done else math.inf,
        )
        # Closing a thousand stock connections takes minutes: what is measured ends with its process.
        print(json.dumps(asdict(sample)), flush=True)
        os._exit(0)


def measure_apart(candidate: Candidate, url: str, in_flight: int, seconds: float) -> Sample:
    """Measures in a process of its own, so that no candidate leaves anything behind for the next."""
    command = [sys.executable, str(Path(__file__).resolve()), "--measure", candidate.name]
    command += ["--url", url, "--in-flight", str(in_flight), "--seconds", str(seconds)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=MEASUREMENT_LIMIT_SECONDS)
    return Sample(**json.loads(answer.stdout))


def summarize(samples: list[Sample]) -> Sample:
    """The median of every figure over the rounds."""
    return Sample(
        statistics.median(sample.calls_per_second for sample in samples),
        statistics.median(sample.p50_ms for sample in samples),
        statistics.median(sample.p99_ms for sample in samples),
        statistics.median(sample.cpu_ms_per_call for sample in samples),
    )


def report(in_flight: int, results: dict[str, list[Sample]]) -> None:
    """Prints one table; the last column is relative to the transport in use."""
    print(f"\n{in_flight} in flight, {ANSWER_LATENCY_SECONDS * 1000:.0f} ms, {len(BODY)} B out")
    print("| transport | calls/s | p50 ms | p99 ms | CPU ms/call | CPU, x in use |")
    print("|---|---|---|---|---|---|")
    rows = {name: summarize(samples) for name, samples in results.items()}
    base = rows["in use"].cpu_ms_per_call if "in use" in rows else math.nan
    for name, row in rows.items():
        print(
            f"| {name} | {row.calls_per_second:.0f} | {row.p50_ms:.1f} | {row.p99_ms:.1f} "
            f"| {row.cpu_ms_per_call:.3f} | {row.cpu_ms_per_call / base:.2f} |"
            if row.calls_per_second
            else f"| {name} | 0 | no call finished within the measurement | | | |"
        )


def main() -> None:
    """Measures what is installed and prints a table for each number in flight."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[64, 1000])
    parser.add_argument("--only", default="", help="candidates whose name holds this")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve())
    elif options.measure:
        (candidate,) = [candidate for candidate in CANDIDATES if candidate.name == options.measure]
        uvloop.run(measure(candidate, options.url, options.in_flight[0], options.seconds))
    else:
        compare(choose(options.only), options.rounds, options.seconds, options.in_flight)


def choose(name_part: str) -> list[Candidate]:
    """The candidates that are installed; says which ones are not."""
    chosen = []
    for candidate in CANDIDATES:
        if name_part not in candidate.name:
            continue
        if importlib.util.find_spec(candidate.package) is None:
            print(f"skipped: {candidate.name} ({candidate.package} is not installed)")
        else:
            chosen.append(candidate)
    return chosen


def compare(chosen: list[Candidate], rounds: int, seconds: float, numbers_in_flight: list[int]) -> None:
    """Lets the candidates take turns and prints a table for each number in flight."""
    with running_stub() as url:
        for in_flight in numbers_in_flight:
            results: dict[str, list[Sample]] = {candidate.name: [] for candidate in chosen}
            for _ in range(rounds):
                for candidate in chosen:
                    results[candidate.name].append(measure_apart(candidate, url, in_flight, seconds))
            report(in_flight, results)


if __name__ == "__main__":
    main()
