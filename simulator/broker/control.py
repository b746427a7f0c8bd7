"""The asking end of a broker's control socket: find a running embedded broker, and tell it what to do."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from pydantic_core import from_json

from simulator.broker.errors import ControlError
from simulator.broker.messages import (
    MAX_LINE_BYTES,
    AskStatus,
    BrokerStatus,
    ComeUp,
    CreateTopics,
    CutConnections,
    GoDown,
    ListTopics,
    LoseAnswers,
    Message,
    Refusal,
    RefuseProduce,
    SetTopicError,
    Slow,
    StatusAnswer,
    Stop,
    TopicsAnswer,
)
from simulator.broker.runtime import check_runtime_folder, control_path, find_runtime_folder
from simulator.broker.topic import TopicSpec

__all__ = ["BrokerControl", "BrokerStatus", "ControlError", "TopicSpec", "find_control", "is_listening"]

ANSWER_TIMEOUT_SECONDS = 10.0
FIND_TIMEOUT_SECONDS = 2.0
DEFAULT_KAFKA_PORT = 9092

Answer = TypeVar("Answer", bound=Message)


class BrokerControl:
    """Controls the broker behind one control socket; ControlError where it refuses or is gone.

    Requests are sent unchecked (`model_construct`): the broker is the only judge of what is legal.
    """

    def __init__(self, path: Path, *, timeout_seconds: float = ANSWER_TIMEOUT_SECONDS) -> None:
        self.path = path
        self._timeout_seconds = timeout_seconds

    async def create_topics(self, topics: Sequence[TopicSpec]) -> tuple[TopicSpec, ...]:
        """Create all of these topics and return them, or none if one exists or is illegal."""
        return (await self._ask(CreateTopics.model_construct(topics=tuple(topics)), TopicsAnswer)).topics

    async def topics(self) -> tuple[TopicSpec, ...]:
        """Every topic of the broker, by name."""
        return (await self._ask(ListTopics(), TopicsAnswer)).topics

    async def down(self) -> BrokerStatus:
        """Make the broker refuse connections and cut the existing ones."""
        return (await self._ask(GoDown(), StatusAnswer)).status

    async def up(self) -> BrokerStatus:
        """Make the broker take connections again."""
        return (await self._ask(ComeUp(), StatusAnswer)).status

    async def cut(self) -> BrokerStatus:
        """Cut every connection once, with what is under way on it; clients may come back at once."""
        return (await self._ask(CutConnections(), StatusAnswer)).status

    async def lose_answers(self, seconds: float) -> BrokerStatus:
        """Swallow the broker's answers for so long, then cut the connections that lack one; 0 ends it.

        Requests are carried out meanwhile: a record whose ack is lost may stand twice after the retry.
        """
        return (await self._ask(LoseAnswers.model_construct(seconds=seconds), StatusAnswer)).status

    async def topic_error(self, topic: str, code: str | int | None) -> BrokerStatus:
        """Show a topic in metadata with a Kafka error, given by name or number; None ends it."""
        return (await self._ask(SetTopicError.model_construct(topic=topic, code=code), StatusAnswer)).status

    async def slow(self, milliseconds: int) -> BrokerStatus:
        """Delay every answer of the broker from now on; 0 ends it."""
        return (await self._ask(Slow.model_construct(milliseconds=milliseconds), StatusAnswer)).status

    async def error(self, code: str | int, count: int = 1) -> BrokerStatus:
        """Have the next `count` Produce requests refused with a Kafka error, given by name or number."""
        return (await self._ask(RefuseProduce.model_construct(code=code, count=count), StatusAnswer)).status

    async def status(self) -> BrokerStatus:
        """How the broker is set, and its process."""
        return (await self._ask(AskStatus(), StatusAnswer)).status

    async def stop(self) -> BrokerStatus:
        """End the broker; the answer is its last status, sent before it goes."""
        return (await self._ask(Stop(), StatusAnswer)).status

    async def _ask(self, request: Message, answer: type[Answer]) -> Answer:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                line = await self._exchange(request.model_dump_json(warnings=False).encode() + b"\n")
        except TimeoutError as error:
            raise ControlError(
                f"The broker behind {self.path} did not answer in {self._timeout_seconds:g} s; "
                "stop it and start another."
            ) from error
        except (OSError, ValueError) as error:
            raise ControlError(
                f"No broker answers on {self.path} ({error}); start one with `llmctl up`."
            ) from error
        return self._read(line, answer)

    async def _exchange(self, line: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(self.path), limit=MAX_LINE_BYTES)
        try:
            writer.write(line)
            await writer.drain()
            return await reader.readline()
        finally:
            writer.close()

    def _read(self, line: bytes, answer: type[Answer]) -> Answer:
        if not line:
            raise ControlError(f"The broker behind {self.path} ended before it answered; start it again.")
        try:
            found = from_json(line)
            if "error" not in found:
                return answer.model_validate(found)
            problem = Refusal.model_validate(found).error
        except (TypeError, ValueError) as error:
            raise ControlError(
                f"What listens on {self.path} does not answer as a broker; stop it."
            ) from error
        raise ControlError(problem.message)


async def find_control(bootstrap_servers: str) -> BrokerControl | None:
    """The control of the embedded broker behind this address, None if no embedded broker runs there.

    Only a single loopback address can be one; its socket must answer within FIND_TIMEOUT_SECONDS.
    """
    port = _find_loopback_port(bootstrap_servers)
    if port is None or not (folder := find_runtime_folder()).is_dir():
        return None
    path = control_path(folder, port)
    if not path.is_socket():
        return None
    check_runtime_folder(folder)  # whoever can write there could pose as the broker
    try:
        await BrokerControl(path, timeout_seconds=FIND_TIMEOUT_SECONDS).status()
    except ControlError:
        return None  # left behind by a broker that was killed
    return BrokerControl(path)


async def is_listening(path: Path) -> bool:
    """Whether a process listens on this Unix socket."""
    try:
        async with asyncio.timeout(FIND_TIMEOUT_SECONDS):
            _, writer = await asyncio.open_unix_connection(str(path))
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    except TimeoutError:  # its queue of connections is full: somebody listens, however slowly
        return True
    writer.close()
    return True


def _find_loopback_port(bootstrap_servers: str) -> int | None:
    """The port of a single address on which our relay could listen, which is IPv4 loopback."""
    try:
        address = urlsplit(f"//{bootstrap_servers.strip()}")
        port = DEFAULT_KAFKA_PORT if address.port is None else address.port
    except ValueError:  # a list of servers, or a port that is no number
        return None
    return port if _is_loopback(address.hostname or "") else None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.IPv4Address(host).is_loopback
    except ValueError:
        return False
