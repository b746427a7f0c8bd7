"""`llmctl audit` and `tail-callbacks --verify`: broken promises on a topic are named, and nothing else."""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.flow.cli.conftest import Run, StubService
from tests.flow.conftest import Body
from tests.waiting import HANG_SECONDS

HOSTILE = "\x1b]0;owned\x07\x1b[2J"


@dataclass
class Batch:
    topic: str
    path: Path
    correlations: dict[str, UUID] = field(default_factory=dict)

    def accept(self, count: int) -> list[str]:
        ids = [str(uuid4()) for _ in range(count)]
        with self.path.open("a") as file:
            for queue_id in ids:
                self.correlations[queue_id] = uuid4()
                receipt = {
                    "line": len(self.correlations),
                    "queue_id": queue_id,
                    "correlation_id": str(self.correlations[queue_id]),
                    "callback_topic": self.topic,
                    "accepted_at": datetime.now(UTC).isoformat(),
                }
                file.write(json.dumps(receipt) + "\n")
        return ids


@pytest.fixture
def batch(topic: str, tmp_path: Path) -> Batch:
    return Batch(topic, tmp_path / "receipts.jsonl")


def group(problems: Sequence[dict[str, Any]]) -> dict[str, list[str | None]]:
    found: dict[str, list[str | None]] = {}
    for problem in problems:
        found.setdefault(problem["fault"], []).append(problem["queue_id"])
    return found


async def test_names_exactly_what_does_not_fit(llmctl: Run, service: Any, batch: Batch) -> None:
    good, failed, gone, doubled, other_key, broken = batch.accept(6)
    correlations = batch.correlations
    await service.call_back(batch.topic, good, correlations[good])
    await service.call_back(batch.topic, failed, correlations[failed], fails=True)
    await service.call_back(batch.topic, doubled, correlations[doubled], copies=2)
    await service.call_back(batch.topic, other_key, correlations[other_key], key=b"another")
    headers = [("request_id", broken.encode())]
    await service.producer.send_and_wait(batch.topic, b'{"half": ', headers=headers)
    await service.producer.send_and_wait(batch.topic, HOSTILE.encode())
    await service.call_back(batch.topic, str(uuid4()), uuid4())

    where = ("--receipts", str(batch.path), "--wait", "0s")
    ended = await llmctl("audit", *where)
    told = await llmctl("audit", *where, "--output", "table", env={"COLUMNS": "200"})

    assert ended.code == told.code == 5
    document = json.loads(ended.out)
    assert (document["expected"], document["success"], document["error"], document["others"]) == (6, 1, 1, 1)
    assert group(document["problems"]) == {
        "missing": [gone],
        "duplicated": [doubled],
        "wrong_key": [other_key],
        "malformed": [broken, None],
    }
    records = {each["queue_id"]: each["records"] for each in document["problems"]}
    assert [len(records[each]) for each in (gone, doubled, other_key, broken)] == [0, 2, 1, 1]
    assert document["faults"]["missing"] == document["faults"]["duplicated"] == 1
    for queue_id in (gone, doubled, other_key, broken):
        assert queue_id in told.out
    assert good not in told.out
    assert "1 missing" in told.err
    assert "\x1b" not in told.out + told.err


async def test_all_that_fits_is_nothing_to_tell(llmctl: Run, service: Any, batch: Batch) -> None:
    for queue_id in batch.accept(5):
        await service.call_back(batch.topic, queue_id, batch.correlations[queue_id])
    ended = await llmctl("audit", "--receipts", "-", stdin=batch.path.read_bytes())
    assert (ended.code, json.loads(ended.out)["success"]) == (0, 5)


async def test_two_different_answers_and_one_on_another_topic(
    llmctl: Run, service: Any, batch: Batch, create_topic: Any
) -> None:
    torn, lost, elsewhere = batch.accept(3)
    await create_topic(f"{batch.topic}-2", 1)
    await service.call_back(batch.topic, torn, batch.correlations[torn])
    await service.call_back(batch.topic, torn, batch.correlations[torn], fails=True)
    await service.call_back(f"{batch.topic}-2", lost, batch.correlations[lost])
    receipts = batch.path.read_text().splitlines()
    receipts[2] = receipts[2].replace(batch.topic, f"{batch.topic}-2")
    batch.path.write_text("\n".join(receipts))
    await service.call_back(f"{batch.topic}-2", elsewhere, batch.correlations[elsewhere])

    where = ("--receipts", str(batch.path), "--wait", "0s")
    ended = await llmctl("audit", *where)
    one_topic = await llmctl("audit", f"{batch.topic}-2", *where)

    assert group(json.loads(ended.out)["problems"]) == {"conflicting": [torn], "wrong_topic": [lost]}
    assert (one_topic.code, json.loads(one_topic.out)["expected"]) == (0, 1)


async def test_late_callbacks_are_named_where_that_is_asked(llmctl: Run, service: Any, batch: Batch) -> None:
    (queue_id,) = batch.accept(1)
    receipt = json.loads(batch.path.read_text())
    receipt["accepted_at"] = receipt["accepted_at"].replace(str(datetime.now(UTC).year), "2001", 1)
    batch.path.write_text(json.dumps(receipt) + "\n")
    await service.call_back(batch.topic, queue_id, batch.correlations[queue_id])

    where = ("--receipts", str(batch.path))
    unjudged = await llmctl("audit", *where)
    judged = await llmctl("audit", *where, "--late", "1h")

    assert (unjudged.code, judged.code) == (0, 5)
    assert group(json.loads(judged.out)["problems"]) == {"late": [queue_id]}


async def test_file_that_holds_something_else_is_refused(llmctl: Run, batch: Batch) -> None:
    batch.accept(1)
    whole = batch.path.read_text()
    batch.path.write_text('{"essay_a": "x"}\n' + whole)
    ended = await llmctl("audit", "--receipts", str(batch.path))
    assert ended.code == 2
    assert "Line 1 of" in ended.err
    assert "is no receipt" in ended.err


async def test_audits_by_the_services_journal(
    llmctl: Run, client: httpx.AsyncClient, topic: str, body: Body, service_url: str
) -> None:
    accepted = [(await client.post("/api/v1/comparison", json=body)).status_code for _ in range(3)]
    tail = ("tail-callbacks", topic, "--from-beginning", "--count", "3", "--timeout", "300s", "--verify")
    told = await llmctl(*tail)
    where = ("--url", service_url)
    ended = await llmctl("audit", topic, "--journal", *where)
    assert (accepted, told.code, ended.code) == ([202] * 3, 0, 0)
    document = json.loads(ended.out)
    assert (document["expected"], document["success"]) == (3, 3)


async def test_verify_names_what_is_wrong_as_it_comes(llmctl: Run, service: Any, topic: str) -> None:
    doubled, other_key = str(uuid4()), str(uuid4())
    await service.call_back(topic, doubled, uuid4(), copies=2)
    await service.call_back(topic, other_key, uuid4(), key=b"another")
    await service.producer.send_and_wait(topic, b"{}")
    words = ("tail-callbacks", topic, "--from-beginning", "--count", "4", "--verify")

    ended = await llmctl(*words)

    found = [json.loads(line)["fault"] for line in ended.out.splitlines()]
    assert ended.code == 5
    assert sorted(fault["kind"] for fault in found if fault) == ["duplicated", "malformed", "wrong_key"]
    assert "1 duplicated, 1 malformed, 1 wrong key" in ended.err


async def test_what_a_transaction_took_back_was_never_said(
    llmctl: Run, apache_kafka: str, tmp_path: Path
) -> None:
    """Markers and aborted records leave gaps in the offsets."""
    batch = Batch(f"audit-{uuid4().hex}", tmp_path / "receipts.jsonl")
    admin = AdminClient({"bootstrap.servers": apache_kafka})
    admin.create_topics([NewTopic(batch.topic, 1)])[batch.topic].result(HANG_SECONDS)
    (queue_id,) = batch.accept(1)
    async with AIOKafkaProducer(
        bootstrap_servers=apache_kafka, transactional_id=f"audit-{uuid4()}"
    ) as producer:
        stub = StubService(producer)

        async def call_back(ending: Callable[[], Awaitable[None]], *, fails: bool = False) -> None:
            await producer.begin_transaction()
            await stub.call_back(batch.topic, queue_id, batch.correlations[queue_id], fails=fails)
            await ending()

        await call_back(producer.abort_transaction, fails=True)
        await call_back(producer.commit_transaction)
        await call_back(producer.abort_transaction)

    ended = await llmctl("audit", "--receipts", str(batch.path), "--bootstrap-servers", apache_kafka)

    assert (ended.code, json.loads(ended.out)["success"]) == (0, 1)
