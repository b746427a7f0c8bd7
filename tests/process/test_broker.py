"""The embedded broker as a process, used by real Kafka clients and controlled over its socket."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import confluent_kafka
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import MessageSizeTooLargeError, TopicAuthorizationFailedError

from simulator.broker.control import BrokerControl, find_control
from simulator.broker.errors import ControlError
from simulator.broker.topic import TopicSpec
from tests.waiting import HANG_SECONDS

TOPIC = "comparisons"


@pytest.fixture(autouse=True)
def runtime_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime folder of this test's own, with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="llmctl-", dir="/tmp") as name:
        monkeypatch.setenv("LLMCTL_RUNTIME_DIR", name)
        yield Path(name)


@dataclass(frozen=True)
class RunningBroker:
    """A broker process that said it is ready."""

    process: asyncio.subprocess.Process
    bootstrap_servers: str
    socket: Path

    @property
    def port(self) -> str:
        return self.bootstrap_servers.rpartition(":")[2]

    @property
    def control(self) -> BrokerControl:
        return BrokerControl(self.socket)

    async def wait(self) -> int:
        """Waits until it ends by itself; returns its exit code."""
        async with asyncio.timeout(HANG_SECONDS):
            return await self.process.wait()


async def launch(
    *arguments: str, soft_file_limit: int | None = None, stdin: int = asyncio.subprocess.PIPE
) -> asyncio.subprocess.Process:
    limited = ["sh", "-c", f'ulimit -Sn {soft_file_limit}; exec "$@"', "sh"] if soft_file_limit else []
    return await asyncio.create_subprocess_exec(
        *limited,
        sys.executable,
        "-m",
        "simulator.broker",
        *arguments,
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def running_broker(*arguments: str, soft_file_limit: int | None = None) -> AsyncIterator[RunningBroker]:
    """A ready broker, killed at the end if the test has not ended it."""
    process = await launch(*arguments, soft_file_limit=soft_file_limit)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(HANG_SECONDS):
            ready = json.loads(await process.stdout.readline())
        assert (ready["ready"], ready["pid"]) == (True, process.pid)
        yield RunningBroker(process, ready["bootstrap_servers"], Path(ready["control"]))
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
async def broker() -> AsyncIterator[RunningBroker]:
    """A broker on a free port with one topic of three partitions."""
    async with running_broker("--topic", f"{TOPIC}:3") as running:
        yield running


@asynccontextmanager
async def producing(broker: RunningBroker) -> AsyncIterator[AIOKafkaProducer]:
    """The producer that the service uses."""
    producer = AIOKafkaProducer(
        bootstrap_servers=broker.bootstrap_servers,
        acks="all",
        enable_idempotence=True,
        max_batch_size=1_000_000,
        retry_backoff_ms=50,
    )
    await producer.start()
    try:
        async with asyncio.timeout(HANG_SECONDS):
            yield producer
    finally:
        async with asyncio.timeout(HANG_SECONDS):
            await producer.stop()


@asynccontextmanager
async def consuming(
    broker: RunningBroker, group: str | None = None, *, joins: bool = False
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of the whole topic from its beginning; with a group, from where the group committed.

    Only one joins the group: a group that lost a member waits for the session timeout.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker.bootstrap_servers,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=50,
        session_timeout_ms=int(HANG_SECONDS * 1000),
    )
    if joins:
        consumer.subscribe([TOPIC])
    else:
        consumer.assign([TopicPartition(TOPIC, number) for number in range(3)])
    await consumer.start()
    try:
        async with asyncio.timeout(HANG_SECONDS):
            yield consumer
    finally:
        await consumer.stop()


async def count_ends(broker: RunningBroker) -> int:
    """Returns how many records are on the topic."""
    async with consuming(broker) as consumer:
        return sum((await consumer.end_offsets(consumer.assignment())).values())


async def test_every_record_of_an_idempotent_producer_is_read_back(broker: RunningBroker) -> None:
    sent = {b"key-%d" % number: b"x" * 2000 + b"%d" % number for number in range(300)}
    async with producing(broker) as producer:
        acks = await asyncio.gather(*[await producer.send(TOPIC, value, key) for key, value in sent.items()])
    assert {ack.partition for ack in acks} == {0, 1, 2}
    async with consuming(broker) as consumer:
        read = [await consumer.getone() for _ in sent]
    assert {record.key: record.value for record in read} == sent
    assert await count_ends(broker) == len(sent)


async def test_a_group_goes_on_where_it_committed(broker: RunningBroker) -> None:
    """The next consumer of a group reads only what the first had not committed."""
    async with producing(broker) as producer:
        for number in range(3):
            await producer.send_and_wait(TOPIC, b"first", partition=number)
        async with consuming(broker, "graders", joins=True) as consumer:
            assert {(await consumer.getone()).value for _ in range(3)} == {b"first"}
            await consumer.commit()
        await producer.send_and_wait(TOPIC, b"second", partition=1)
    async with consuming(broker, "graders") as consumer:
        assert (await consumer.getone()).value == b"second"


async def test_an_admin_client_lists_and_describes_the_topics(broker: RunningBroker) -> None:
    await broker.control.create_topics([TopicSpec("essays", 3), TopicSpec("audit", 1)])
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    await admin.start()
    try:
        assert set(await admin.list_topics()) == {TOPIC, "essays", "audit"}
        described = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
    finally:
        await admin.close()
    assert described == {TOPIC: 3, "essays": 3, "audit": 1}
    assert await broker.control.topics() == (
        TopicSpec("audit", 1),
        TopicSpec(TOPIC, 3),
        TopicSpec("essays", 3),
    )


def exchange_by_librdkafka(bootstrap_servers: str) -> bytes | None:
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap_servers, "enable.idempotence": True})
    producer.produce(TOPIC, b"foreign", partition=2)
    assert producer.flush(HANG_SECONDS) == 0
    consumer = confluent_kafka.Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "foreign"})
    try:
        consumer.assign([confluent_kafka.TopicPartition(TOPIC, 2, 0)])
        record = consumer.poll(HANG_SECONDS)
        assert record is not None
        return record.value()
    finally:
        consumer.close()


async def test_a_foreign_client_produces_and_consumes(broker: RunningBroker) -> None:
    assert await asyncio.to_thread(exchange_by_librdkafka, broker.bootstrap_servers) == b"foreign"


async def test_topics_are_created_together_or_not_at_all(broker: RunningBroker) -> None:
    """One existing or repeated name refuses the whole request."""
    fresh = TopicSpec("fresh", 1)
    with pytest.raises(ControlError, match=f"'{TOPIC}' already exists, with 3 partitions"):
        await broker.control.create_topics([fresh, TopicSpec(TOPIC, 5)])
    with pytest.raises(ControlError, match="'fresh' is named more than once"):
        await broker.control.create_topics([fresh, TopicSpec("fresh", 2)])
    with pytest.raises(ControlError, match=r"at create_topics\.topics"):
        await broker.control.create_topics([])
    assert await broker.control.topics() == (TopicSpec(TOPIC, 3),)


async def test_a_send_pending_while_the_broker_is_down_is_acked_when_it_is_up(broker: RunningBroker) -> None:
    """Down refuses clients and keeps the port; the pending record goes out after up, once."""
    async with producing(broker) as producer:
        await producer.send_and_wait(TOPIC, b"before", partition=0)
        assert (await broker.control.down()).state == "down"
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", int(broker.port))
        pending = await producer.send(TOPIC, b"meanwhile", partition=0)
        done, _ = await asyncio.wait([pending], timeout=0.1)
        assert not done
        assert await broker.control.topics() == (TopicSpec(TOPIC, 3),)
        assert (await broker.control.up()).state == "up"
        assert (await pending).offset == 1
    assert await count_ends(broker) == 2


async def test_a_slow_broker_acks_late_until_it_is_told_not_to(broker: RunningBroker) -> None:
    async with producing(broker) as producer:
        await producer.send_and_wait(TOPIC, b"x", partition=0)
        assert (await broker.control.slow(300)).delay_milliseconds == 300
        started = time.monotonic()
        await producer.send_and_wait(TOPIC, b"x", partition=0)
        assert time.monotonic() - started >= 0.3
        assert (await broker.control.slow(0)).delay_milliseconds == 0
        await producer.send_and_wait(TOPIC, b"x", partition=0)


async def test_injected_errors_reach_the_producer(broker: RunningBroker) -> None:
    """A final error fails the send that met it, by name or number, and no later one."""
    async with producing(broker) as producer:
        await broker.control.error("MESSAGE_TOO_LARGE")
        with pytest.raises(MessageSizeTooLargeError):
            await producer.send_and_wait(TOPIC, b"x", partition=0)
        await broker.control.error(29)
        with pytest.raises(TopicAuthorizationFailedError):
            await producer.send_and_wait(TOPIC, b"x", partition=0)
        assert (await producer.send_and_wait(TOPIC, b"x", partition=0)).offset == 0


async def test_injected_retriable_errors_only_delay_the_ack(broker: RunningBroker) -> None:
    """Three retries of 50 ms each, and no record is lost."""
    async with producing(broker) as producer:
        await producer.send_and_wait(TOPIC, b"x", partition=0)
        await broker.control.error("not_leader_or_follower", count=3)
        started = time.monotonic()
        assert (await producer.send_and_wait(TOPIC, b"x", partition=0)).offset == 1
        assert time.monotonic() - started >= 0.15


async def read_all(broker: RunningBroker) -> list[bytes | None]:
    """Returns the values on the topic's first partition."""
    async with consuming(broker) as consumer:
        partition = TopicPartition(TOPIC, 0)
        end = (await consumer.end_offsets([partition]))[partition]
        return [(await consumer.getone()).value for _ in range(end)]


async def test_a_producer_that_was_cut_off_goes_on(broker: RunningBroker) -> None:
    async with producing(broker) as producer:
        await producer.send_and_wait(TOPIC, b"before", partition=0)
        assert (await broker.control.cut()).state == "up"
        await producer.send_and_wait(TOPIC, b"after", partition=0)
    assert await read_all(broker) == [b"before", b"after"]


@pytest.mark.long
async def test_a_record_whose_ack_was_lost_is_on_the_topic_twice(broker: RunningBroker) -> None:
    """The broker appends it, the producer hears nothing and sends it again.

    Long, as nobody can see when the broker has appended it: it must do so within the second.
    """
    async with producing(broker) as producer:
        await producer.send_and_wait(TOPIC, b"before", partition=0)
        assert 0 < (await broker.control.lose_answers(1.0)).loses_answers_seconds <= 1.0
        ack = await producer.send_and_wait(TOPIC, b"copied", partition=0)
        assert (await broker.control.status()).loses_answers_seconds == 0
    assert ack.offset == 2
    assert await read_all(broker) == [b"before", b"copied", b"copied"]


async def test_a_topic_with_an_error_looks_gone_until_the_error_is_taken_back(broker: RunningBroker) -> None:
    """New clients are refused, no record is lost, and the status names the error."""
    control = broker.control
    async with producing(broker) as producer:
        await producer.send_and_wait(TOPIC, b"before", partition=0)
    assert (await control.topic_error(TOPIC, 29)).topic_errors == {TOPIC: "TOPIC_AUTHORIZATION_FAILED"}
    async with producing(broker) as producer:
        with pytest.raises(TopicAuthorizationFailedError):
            await producer.send_and_wait(TOPIC, b"refused", partition=0)
        assert await control.topics() == (TopicSpec(TOPIC, 3),)
        assert (await control.topic_error(TOPIC, None)).topic_errors == {}
        assert (await producer.send_and_wait(TOPIC, b"after", partition=0)).offset == 1
    with pytest.raises(ControlError, match="no topic 'nowhere'"):
        await control.topic_error("nowhere", "UNKNOWN_TOPIC_OR_PARTITION")


async def test_what_aiokafka_lists_leaves_out_a_topic_that_has_an_error(broker: RunningBroker) -> None:
    """`fetch_all_metadata` is what the service takes its topics from."""
    client = AIOKafkaClient(bootstrap_servers=broker.bootstrap_servers)
    await client.bootstrap()
    try:
        for code in ("UNKNOWN_TOPIC_OR_PARTITION", "INVALID_TOPIC_EXCEPTION"):
            await broker.control.topic_error(TOPIC, code)
            assert TOPIC not in (await client.fetch_all_metadata()).topics()
        await broker.control.topic_error(TOPIC, None)
        assert TOPIC in (await client.fetch_all_metadata()).topics()
    finally:
        await client.close()


async def test_wrong_control_requests_are_answered_with_a_sentence(broker: RunningBroker) -> None:
    """The connection stays usable."""
    reader, writer = await asyncio.open_unix_connection(str(broker.socket))
    try:
        for line in (
            b"nonsense",
            b'{"op": "slow", "milliseconds": -1}',
            b'{"op": "error", "code": "NO"}',
            b'{"op": "lose_answers", "seconds": 601}',
            b'{"op": "topic_error", "topic": "t", "code": "NO"}',
        ):
            writer.write(line + b"\n")
            message = json.loads(await reader.readline())["error"]["message"]
            assert message.startswith("The control request is wrong")
            assert "\n" not in message
        writer.write(b'{"op": "status"}\n')
        status = json.loads(await reader.readline())["status"]
    finally:
        writer.close()
    assert (status["state"], status["pid"]) == ("up", broker.process.pid)


def list_names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_the_control_is_for_its_owner_alone(broker: RunningBroker, runtime_folder: Path) -> None:
    assert broker.socket == runtime_folder / f"broker-{broker.port}.sock"
    assert [path.stat().st_mode & 0o777 for path in (runtime_folder, broker.socket)] == [0o700, 0o600]


async def test_the_embedded_broker_is_recognized_by_its_address(broker: RunningBroker) -> None:
    for host in ("127.0.0.1", "localhost"):
        found = await find_control(f"{host}:{broker.port}")
        assert found is not None
        assert (await found.status()).bootstrap_servers == broker.bootstrap_servers
    assert await find_control("127.0.0.1:1") is None
    await broker.control.stop()
    assert await broker.wait() == 0
    assert await find_control(broker.bootstrap_servers) is None
    with pytest.raises(ControlError, match="No broker answers"):
        await broker.control.status()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_with_exit_code_0(broker: RunningBroker, number: signal.Signals) -> None:
    """It leaves no socket file and logs nothing, even with clients connected."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(broker.port))
    try:
        broker.process.send_signal(number)
        assert await broker.wait() == 0
        assert await reader.read() == b""
    finally:
        writer.close()
    assert not broker.socket.exists()
    assert broker.process.stderr is not None
    assert await broker.process.stderr.read() == b""


async def test_it_ends_when_its_parent_is_gone() -> None:
    """With --exit-with-parent it watches standard input, and outlives it otherwise."""
    async with running_broker("--exit-with-parent") as broker:
        assert broker.process.stdin is not None
        broker.process.stdin.close()
        assert await broker.wait() == 0
        assert not broker.socket.exists()
    async with running_broker() as broker:
        assert broker.process.stdin is not None
        broker.process.stdin.close()
        assert (await broker.control.status()).state == "up"


async def test_watching_a_parent_without_a_pipe_to_it_is_refused() -> None:
    process = await launch("--exit-with-parent", stdin=asyncio.subprocess.DEVNULL)
    async with asyncio.timeout(HANG_SECONDS):
        _, complaint = await process.communicate()
    assert (process.returncode, complaint.count(b"\n")) == (1, 1)
    assert b"--exit-with-parent needs standard input to be a pipe" in complaint


async def expect_failure(*arguments: str) -> tuple[int | None, str]:
    """Returns the exit code and stderr of a broker that cannot start."""
    process = await launch(*arguments)
    async with asyncio.timeout(HANG_SECONDS):
        output, complaint = await process.communicate()
    assert output == b""
    return process.returncode, complaint.decode()


async def test_a_port_in_use_is_one_sentence_and_exit_code_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, complaint = await expect_failure("--port", str(port))
    assert code == 1
    assert complaint.startswith(f"Port {port} on 127.0.0.1 is already in use; choose another")
    assert complaint.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [("--port", "70000"), ("--topic", "a b:1"), ("--topic", "a"), ("--surplus",)]
)
async def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    code, complaint = await expect_failure(*arguments)
    assert code == 2
    assert "usage:" in complaint


async def test_a_topic_named_twice_stops_the_start(runtime_folder: Path) -> None:
    code, complaint = await expect_failure("--topic", "a:1", "--topic", "a:2")
    assert (code, complaint) == (1, "Topic 'a' is named more than once; name each topic once.\n")
    assert list_names(runtime_folder) == []


async def test_a_second_broker_on_the_same_port_is_refused_even_while_the_first_is_down(
    broker: RunningBroker,
) -> None:
    for state in (await broker.control.status(), await broker.control.down()):
        code, complaint = await expect_failure("--port", broker.port)
        assert (code, state.pid) == (1, broker.process.pid)
        assert (
            complaint
            == f"A broker already runs on port {broker.port}; stop it first or choose another --port.\n"
        )
    assert (await broker.control.up()).state == "up"


async def test_a_socket_left_behind_by_a_killed_broker_is_replaced() -> None:
    async with running_broker() as killed:
        killed.process.kill()
        await killed.wait()
        assert killed.socket.is_socket()
        assert await find_control(killed.bootstrap_servers) is None
        async with running_broker("--port", killed.port) as successor:
            assert successor.socket == killed.socket
            assert (await successor.control.status()).pid == successor.process.pid


async def test_a_crowd_of_clients_is_carried_at_once() -> None:
    """They need more files than the shell's soft limit allows, and each is answered."""
    crowd = 150
    # ApiVersions v0 (api key 18), correlation id 7, client id "c": any broker answers with that id.
    request = bytes.fromhex("0000000b 0012 0000 00000007 0001 63")

    async def ask(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            answer = await reader.readexactly(8)
            everybody_answered.append(answer)
            await whole_crowd.wait()
            return answer[4:]
        finally:
            writer.transport.abort()

    everybody_answered: list[bytes] = []
    whole_crowd = asyncio.Event()
    async with running_broker(soft_file_limit=100) as broker, asyncio.timeout(HANG_SECONDS):
        asking = [asyncio.create_task(ask(int(broker.port))) for _ in range(crowd)]
        while (await broker.control.status()).connections < crowd or len(everybody_answered) < crowd:
            assert not any(each.done() for each in asking)
        whole_crowd.set()
        assert set(await asyncio.gather(*asking)) == {b"\0\0\0\7"}
