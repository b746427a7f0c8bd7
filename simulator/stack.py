"""Broker, fake provider and service as child processes: started in order, watched, stopped in reverse.

Each child holds the reading end of a pipe whose writing end is ours (`--exit-with-parent`): however this
process ends, the pipe ends with it, and no child outlives it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from simulator.balancer import Balancer
from simulator.broker.runtime import RUNTIME_DIR_VARIABLE
from simulator.kafka_address import KafkaAddress

SERVICE_PREFIX = "LLM_PROVIDER_SERVICE_"
FAKE_KEY = "fake-key"
HOST = "127.0.0.1"
MAX_READY_LINE_BYTES = 64 * 1024
LAST_WORDS_BYTES = 4096
DRAIN_LIMIT_SECONDS = 10


class StackError(Exception):
    """A part of the stack did not start, or ended by itself; the text names it and says why."""


@dataclass(frozen=True)
class StackPlan:
    """What to start. Port 0 is any free one; with `kafka` there is no embedded broker."""

    data_dir: Path
    """Holds the queue and the children's logs; made where it does not exist."""
    service_port: int = 0
    broker_port: int = 0
    provider_port: int = 0
    scenario: str = "calm"
    kafka: KafkaAddress | None = None
    replicas: int = 1
    """With more than one a balancer listens on `service_port`, and each replica on a port of its own."""
    queue_backend: str = "sqlite"
    """`sqlite`: a file for each replica; `kafka`: they share a queue, whose topics `prepare_kafka` makes."""
    usage_topic: str | None = None
    """Where the services tell what each request has used; nowhere unless named. It has to be made."""
    prepare_kafka: Callable[[KafkaAddress], Awaitable[None]] | None = None
    """Told where Kafka is before any service is started."""
    ready_limit_seconds: float = 30.0
    stop_limit_seconds: float = DRAIN_LIMIT_SECONDS + 5.0


@dataclass(frozen=True)
class StackAddresses:
    """Where the parts of a running stack are."""

    service_url: str
    """Of the service, or of the balancer before its replicas."""
    replica_urls: Sequence[str]
    kafka: KafkaAddress
    provider_urls: Mapping[str, str]
    pids: Mapping[str, int]


@dataclass
class _Child:
    """A running part: its process, where its log is, and what it said when it was ready."""

    name: str
    process: asyncio.subprocess.Process
    log: Path
    module: Sequence[str] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    ready: Mapping[str, Any] = field(default_factory=dict)
    echo: asyncio.Task[None] | None = None

    def describe_end(self) -> str:
        """How it ended, in its own last words."""
        code = self.process.returncode
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
        words = _read_last_words(self.log)
        return f"The {self.name} {how}" + (f": {words}" if words else f"; its log is {self.log}.")


class Stack:
    """A running broker, provider and service: `async with Stack(plan) as stack`."""

    def __init__(self, plan: StackPlan) -> None:
        self._plan = plan
        self._children: list[_Child] = []
        self._balancer: Balancer | None = None
        self._replaced: dict[asyncio.subprocess.Process, asyncio.Event] = {}
        """Processes that were killed on purpose, and whether there is another in their place."""
        self.notes: list[str] = []
        """What did not go as it should while stopping, a sentence each."""

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    @property
    def addresses(self) -> StackAddresses:
        """Where everything is."""
        said = {child.name: child.ready for child in self._children}
        replicas = [str(said[name]["url"]) for name in self._service_names()]
        return StackAddresses(
            service_url=replicas[0] if self._balancer is None else self._balancer.url,
            replica_urls=replicas,
            kafka=self._plan.kafka or KafkaAddress(str(said["broker"]["bootstrap_servers"])),
            provider_urls=said["provider"]["base_urls"],
            pids={child.name: child.process.pid for child in self._children},
        )

    async def wait(self) -> None:
        """Returns never; StackError as soon as a child ends that was not told to."""
        watching = [
            asyncio.create_task(self._watch(child), name=f"watch the {child.name}")
            for child in self._children
        ]
        try:
            await asyncio.wait(watching, return_when=asyncio.FIRST_COMPLETED)
            raise StackError(next(task for task in watching if task.done()).result())
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)

    async def kill_service(self) -> None:
        """Kills the service with SIGKILL and starts it again on its port and its queue, until it is ready.

        StackError where it does not come back.
        """
        (child,) = (each for each in self._children if each.name == "service")
        killed = child.process
        self._replaced[killed] = asyncio.Event()
        _send(killed, signal.SIGKILL)
        await child.process.wait()
        if child.echo is not None:
            await child.echo
        port = str(urlsplit(child.ready["url"]).port)
        settings = {**child.settings, f"{SERVICE_PREFIX}PORT": port}
        child.process = await self._launch(child.log, child.module, settings, "ab")
        self._replaced[killed].set()
        await self._await_ready(child)

    async def stall_service(self, seconds: float) -> None:
        """Has the service stand still for so long, as where its machine swaps or is moved."""
        (child,) = (each for each in self._children if each.name == "service")
        _send(child.process, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            _send(child.process, signal.SIGCONT)

    async def _watch(self, child: _Child) -> str:
        """How a child ended that was not told to."""
        while True:
            process = child.process
            await process.wait()
            if process not in self._replaced:
                return child.describe_end()
            await self._replaced[process].wait()

    async def _start(self) -> None:
        plan = self._plan
        plan.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        (plan.data_dir / "logs").mkdir(mode=0o700, exist_ok=True)
        starting: list[_Child] = []
        if plan.kafka is None:  # first, so that it is stopped last
            starting.append(
                await self._spawn("broker", ["simulator.broker", "--port", str(plan.broker_port)])
            )
        ask_provider = ["simulator.provider", "--port", str(plan.provider_port), "--scenario", plan.scenario]
        starting.append(provider := await self._spawn("provider", ask_provider))
        for child in starting:
            await self._await_ready(child)
        kafka = plan.kafka or KafkaAddress(str(starting[0].ready["bootstrap_servers"]))
        if plan.prepare_kafka is not None:
            await plan.prepare_kafka(kafka)
        services = []
        for number, name in enumerate(self._service_names(), start=1):
            settings = _service_settings(plan, number, kafka, provider.ready["base_urls"])
            services.append(await self._spawn(name, ["service"], settings))
        for child in services:
            await self._await_ready(child)
        if plan.replicas > 1:
            urls = [str(child.ready["url"]) for child in services]
            try:
                self._balancer = await Balancer(HOST, plan.service_port, urls).__aenter__()
            except OSError as problem:
                raise StackError(
                    f"Port {plan.service_port} cannot be listened on: {problem.strerror}."
                ) from problem

    def _service_names(self) -> list[str]:
        count = self._plan.replicas
        return ["service"] if count == 1 else [f"service-{number}" for number in range(1, count + 1)]

    async def _spawn(
        self, name: str, module: Sequence[str], settings: Mapping[str, str] | None = None
    ) -> _Child:
        log = self._plan.data_dir / "logs" / f"{name}.log"
        process = await self._launch(log, module, settings or {}, "wb")
        child = _Child(name, process, log, module, settings or {})
        self._children.append(child)
        return child

    async def _launch(
        self, log: Path, module: Sequence[str], settings: Mapping[str, str], mode: Literal["wb", "ab"]
    ) -> asyncio.subprocess.Process:
        with log.open(mode) as errors:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # a folder named as one of our modules where the user stands is not ours
                "-m",
                *module,
                "--exit-with-parent",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env={**_inherit_environment(), **settings},
                cwd=self._plan.data_dir,  # a `.env` file of the user's is none of the fake world's
                start_new_session=True,  # Ctrl-C reaches us, and we stop the children in order
                limit=MAX_READY_LINE_BYTES,
            )

    async def _await_ready(self, child: _Child) -> None:
        assert child.process.stdout is not None
        limit = self._plan.ready_limit_seconds
        try:
            async with asyncio.timeout(limit):
                line = await child.process.stdout.readline()
                if not line:
                    await child.process.wait()
                    raise StackError(child.describe_end())
        except TimeoutError as problem:
            raise StackError(
                f"The {child.name} was not ready within {limit:g} s; its log is {child.log}."
            ) from problem
        try:
            child.ready = json.loads(line)
        except ValueError as problem:
            raise StackError(
                f"The {child.name} did not say where it is; its log is {child.log}."
            ) from problem
        child.echo = asyncio.create_task(_copy(child.process.stdout, child.log), name=f"{child.name} output")

    async def _stop(self) -> None:
        """Ends the children in reverse order; whoever cancels this is heard when all have ended."""
        stopping = asyncio.create_task(self._stop_children(), name="stop the stack")
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError:
            await stopping
            raise

    async def _stop_children(self) -> None:
        if self._balancer is not None:
            await self._balancer.__aexit__()
        for child in reversed(self._children):
            if child.process.returncode is None:
                _send(child.process, signal.SIGTERM)
            try:
                async with asyncio.timeout(self._plan.stop_limit_seconds):
                    await child.process.wait()
            except TimeoutError:
                limit = self._plan.stop_limit_seconds
                self.notes.append(f"The {child.name} did not end within {limit:g} s and was killed.")
                _send(child.process, signal.SIGKILL)
                await child.process.wait()
            if child.process.stdin is not None:
                child.process.stdin.close()
            if child.echo is not None:
                await child.echo


def _inherit_environment() -> dict[str, str]:
    """Ours without any setting of the service: a developer's real key never meets the fake world."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(SERVICE_PREFIX)}
    if RUNTIME_DIR_VARIABLE in inherited:  # a relative one would mean another folder where the child stands
        inherited[RUNTIME_DIR_VARIABLE] = str(Path(inherited[RUNTIME_DIR_VARIABLE]).absolute())
    return inherited


def _service_settings(
    plan: StackPlan, number: int, kafka: KafkaAddress, provider_urls: Mapping[str, str]
) -> dict[str, str]:
    """Of the replica with this number, from 1."""
    alone = plan.replicas == 1
    settings = {
        "HOST": HOST,
        "PORT": str(plan.service_port) if alone else "0",
        **kafka.for_service(),
        "QUEUE_BACKEND": plan.queue_backend,
        "QUEUE_PATH": str(plan.data_dir / ("queue.db" if alone else f"queue-{number}.db")),
        "REPLICA_NAME": f"replica-{number}",
        "DRAIN_TIMEOUT_SECONDS": str(DRAIN_LIMIT_SECONDS),
        "DEFAULT_LLM_PROVIDER": next(iter(provider_urls)),
    }
    if plan.usage_topic is not None:
        settings["USAGE_TOPIC"] = plan.usage_topic
    for provider, url in provider_urls.items():
        settings[f"{provider.upper()}_API_KEY"] = FAKE_KEY
        settings[f"{provider.upper()}_BASE_URL"] = url
    return {SERVICE_PREFIX + name: value for name, value in settings.items()}


async def _copy(stream: asyncio.StreamReader, log: Path) -> None:
    """Keeps reading what a child says, so that its pipe never fills, and keeps it in its log."""
    with log.open("ab") as file:
        while chunk := await stream.read(MAX_READY_LINE_BYTES):
            file.write(chunk)
            file.flush()


def _send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except ProcessLookupError:
        return  # it ended by itself in this very moment


def _read_last_words(log: Path) -> str:
    """The last line that a child wrote: by our rule one sentence that says what is wrong."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LAST_WORDS_BYTES))
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")
