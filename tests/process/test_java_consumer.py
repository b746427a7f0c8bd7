"""The consumer in `examples/java-consumer`, built as its README says, reads what a real service calls back.

Its classes are made from the published schema, so what it reads and writes again shows whether the schema
says what stands on the topic.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from service.contracts.codec import open_envelope
from tests.conftest import ROOT, Launcher
from tests.process.conftest import PATH, configure_service, read_records
from tests.waiting import HANG_SECONDS

EXAMPLE = ROOT / "examples" / "java-consumer"
SCHEMA_CLASSES = "src/main/java/org/example/callbacks/schema"
METADATA = {"pair": 17, "språk": "sv 🙂", "weights": [0.25, None, True], "deep": {"er": {"est": []}}}


@pytest.fixture(scope="module")
def reader(node_tools: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Builds the example and returns its command line; a missing tool skips locally and fails in CI."""
    for program in ("javac", "mvn"):
        if shutil.which(program) is None:
            missing = f"The example consumer needs a JDK, 17 or newer, and Maven: there is no `{program}`."
            if os.environ.get("CI"):
                pytest.fail(missing)
            pytest.skip(missing)
    locked = json.loads((node_tools / "package.json").read_text())["dependencies"]["quicktype"]
    assert f"npx quicktype@{locked} " in (EXAMPLE / "README.md").read_text()
    folder = tmp_path_factory.mktemp("java") / "consumer"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("target", "schemas", "schema"))
    (folder / SCHEMA_CLASSES).mkdir()
    build(folder, sys.executable, "-m", "llmctl", "schema", "jsonschema", "--output-dir", "schemas")
    build(
        folder,
        *(str(node_tools / "node_modules" / ".bin" / "quicktype"), "--src-lang", "schema", "--lang", "java"),
        *("--package", "org.example.callbacks.schema", "--top-level", "ComparisonResultEvent"),
        *("--out", f"{SCHEMA_CLASSES}/ComparisonResultEvent.java"),
        "schemas/event-envelope-llm-comparison-result-v1.json",
    )
    build(folder, "mvn", "-q", "-B", "compile")
    path = f"{folder / 'target' / 'classes'}:{folder / 'target' / 'lib' / '*'}"
    return ["java", "-XX:TieredStopAtLevel=1", "-cp", path, "org.example.callbacks.CallbackReader"]


def build(folder: Path, *words: str) -> None:
    """One step of the README."""
    done = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def service(launcher: Launcher, apache_kafka: str, tmp_path: Path) -> str:
    """Returns the URL of a service whose provider is the mock provider."""
    mock = {"ALLOW_MOCK_PROVIDER": "true", "DEFAULT_LLM_PROVIDER": "mock"}
    settings = configure_service(apache_kafka, tmp_path, "http://127.0.0.1:1/v1", **mock)
    return str(launcher.start("service", env=settings).ready["url"])


def submit(client: httpx.Client, topic: str, **more: Any) -> str:
    """Submits a comparison and returns its id."""
    headers = more.pop("headers", {})
    body = {"user_prompt": "Which?", "essay_a": "One.", "essay_b": "Two.", "callback_topic": topic, **more}
    answer = client.post(PATH, json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["queue_id"])


def test_classes_made_from_the_schema_read_every_callback_and_lose_nothing(
    reader: list[str], service: str, apache_kafka: str
) -> None:
    """It prints successes and an error as they are on the topic, once each, without simulated traffic."""
    servers, topic = apache_kafka, f"results.{uuid4().hex}"
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(topic, 1)])[topic].result(HANG_SECONDS)
    with httpx.Client(base_url=service, timeout=HANG_SECONDS, trust_env=False) as client:
        wanted = {submit(client, topic, metadata=METADATA) for _ in range(3)}
        wanted.add(submit(client, topic, ttl_seconds=1e-9))
        submit(client, topic, headers={"X-Run-ID": "run-7"})
        read_records(servers, topic, 5)
        duplicate(servers, topic, read_records(servers, topic, 1)[0])
        wanted.add(submit(client, topic))
        records = read_records(servers, topic, 7)

    done = subprocess.run(
        [*reader, servers, topic, f"java-{uuid4().hex}", str(len(wanted))],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=HANG_SECONDS,
        check=False,
    )

    assert done.returncode == 0, done.stderr.decode()
    read = [open_envelope(line) for line in done.stdout.splitlines()]
    standing = {envelope.data.request_id: envelope for envelope in map(open_envelope, map(value, records))}
    assert sorted(envelope.data.request_id for envelope in read) == sorted(wanted)
    assert read == [standing[envelope.data.request_id] for envelope in read]
    assert [json.loads(line).keys() for line in done.stdout.splitlines()] == [
        json.loads(value(records[0])).keys()
    ] * len(read)
    assert {envelope.data.is_error for envelope in read} == {True, False}
    assert METADATA in [envelope.data.request_metadata for envelope in read]
    assert b"failed with LLM_REQUEST_EXPIRED" in done.stderr


def value(record: Any) -> bytes:
    return bytes(record.value())


def duplicate(bootstrap_servers: str, topic: str, record: Any) -> None:
    """Writes a record again, as a crash may."""
    producer = Producer({"bootstrap.servers": bootstrap_servers})
    producer.produce(topic, record.value(), record.key(), headers=record.headers())
    assert producer.flush(HANG_SECONDS) == 0
