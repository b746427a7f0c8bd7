"""`llmctl tail-callbacks` and `llmctl topics` over the embedded broker."""

import asyncio
import base64
import json
import os
from typing import Any
from uuid import uuid4

import pytest

from tests.flow.cli.conftest import Run, read_shown, start

HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202e"


async def fill(service: Any, topic: str) -> None:
    """Sends a success, an error, a record of a simulated run, and two records that are no callbacks."""
    await service.call_back(topic, "q-good", uuid4())
    await service.call_back(topic, "q-bad", uuid4(), fails=True)
    service.run_id = "run-7"
    await service.call_back(topic, "q-run", uuid4())
    service.run_id = None
    await service.producer.send_and_wait(topic, b'{"half": ' + HOSTILE.encode(), key=HOSTILE.encode())
    await service.producer.send_and_wait(topic, None, key=b"gone")


@pytest.mark.apache
async def test_every_record_is_one_json_line(llmctl: Run, service: Any, topic: str) -> None:
    await fill(service, topic)
    ended = await llmctl("tail-callbacks", topic, "--from-beginning", "--count", "4")
    documents = [json.loads(line) for line in ended.out.splitlines()]
    assert ended.code == 0
    assert ended.out.isascii()
    assert {each["topic"] for each in documents} == {topic}
    valid = [each for each in documents if "envelope" in each]
    assert {each["envelope"]["data"]["request_id"] for each in valid} == {"q-good", "q-bad"}
    broken = {each["key"]: each for each in documents if "error" in each}
    assert base64.b64decode(broken[HOSTILE]["raw"]).startswith(b'{"half": ')
    assert broken["gone"]["raw"] == ""
    assert "4 callbacks: 1 success, 1 error, 2 invalid" in ended.err


@pytest.mark.apache
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--run", "run-7"], {"q-run"}),
        (["--all-runs", "--where", "-status:invalid"], {"q-good", "q-bad", "q-run"}),
        (["--where", "status:error error:~timeout"], {"q-bad"}),
        (["--since", "1h", "--where", "status:success e2e<1h"], {"q-good"}),
    ],
)
async def test_only_what_is_asked_for_is_shown(
    llmctl: Run, service: Any, create_topic: Any, options: list[str], expected: set[str]
) -> None:
    """The count is reached in the second filling, after the whole first one has been filtered."""
    topic = f"cli-{uuid4()}"
    await create_topic(topic, 1)
    for _ in range(2):
        await fill(service, topic)
    start = [] if "--since" in options else ["--from-beginning"]
    ended = await llmctl(*("tail-callbacks", topic, *start, *options, "--count", str(2 * len(expected))))
    found = [json.loads(line)["envelope"]["data"]["request_id"] for line in ended.out.splitlines()]
    assert (ended.code, sorted(found)) == (0, sorted([*expected, *expected]))


@pytest.mark.apache
async def test_only_new_records_are_shown_by_default(llmctl: Run, service: Any, topic: str) -> None:
    await fill(service, topic)
    words = ("tail-callbacks", topic, "--timeout", "300ms")
    counted, uncounted = await llmctl(*words, "--count", "1"), await llmctl(*words)
    assert (counted.code, counted.out) == (4, "")
    assert "0 of 1 callbacks came in 300ms." in counted.err
    assert (uncounted.code, uncounted.out) == (0, "")


@pytest.mark.apache
async def test_what_comes_while_it_waits_is_shown(llmctl: Run, service: Any, topic: str) -> None:
    tailing = asyncio.create_task(llmctl("tail-callbacks", topic, "--count", "1"))
    while not tailing.done():
        await service.call_back(topic, "q-live", uuid4())
        await asyncio.wait({tailing}, timeout=0.2)
    ended = tailing.result()
    assert ended.code == 0
    assert json.loads(ended.out)["envelope"]["data"]["request_id"] == "q-live"


@pytest.mark.parametrize("no_color", [False, True])
async def test_a_terminal_gets_rows_that_cannot_steer_it(
    service: Any, topic: str, terminal: tuple[int, int], no_color: bool
) -> None:
    service.model = f"{HOSTILE}gpt"
    await service.call_back(topic, "q-1", uuid4())
    words = ("--from-beginning", "--count", "1")
    env = {"TERM": "xterm-256color", "COLUMNS": "160"} | ({"NO_COLOR": "1"} if no_color else {})
    async with start("tail-callbacks", topic, *words, stdout=terminal[1], env=env) as process:
        assert await process.wait() == 0
    shown = await asyncio.to_thread(read_shown, terminal)
    assert "essay_a" in shown
    assert "\u241b]0;owned" in shown
    assert "\x1b]" not in shown
    assert "\x1b[2J" not in shown
    assert "\u202e" not in shown
    assert ("\x1b[32m" in shown) is not no_color


@pytest.mark.apache
async def test_an_unknown_topic_is_named_and_not_created(llmctl: Run, topic: str) -> None:
    ended = await llmctl("tail-callbacks", topic + "x")
    assert (ended.code, ended.out) == (2, "")
    assert f"did you mean {topic}" in ended.err
    listed = await llmctl("topics", "list")
    names = {each["name"] for each in json.loads(listed.out)["topics"]}
    assert topic in names
    assert topic + "x" not in names


@pytest.mark.apache
async def test_topics_are_created_once_and_differences_are_said(llmctl: Run, bootstrap_servers: str) -> None:
    name = f"new-{uuid4()}"
    where = ("--bootstrap-servers", bootstrap_servers)
    states = []
    for options in (["--dry-run"], ["--partitions", "4"], [], ["--partitions", "6"]):
        ended = await llmctl("topics", "bootstrap", name, *options, *where)
        assert ended.code == 0
        states.append(json.loads(ended.out)["topics"][0])
    assert [each["state"] for each in states] == ["would create", "created", "exists", "differs"]
    assert states[3]["notes"] == ["partitions are 4, not 6"]
    assert states[3]["partitions"] == 4
    ended = await llmctl("topics", "describe", name, *where)
    assert json.loads(ended.out)["topics"][0]["partitions"] == 4


async def test_topics_that_stand_are_changed_only_with_apply(llmctl: Run, apache_kafka: str) -> None:
    name = f"changed-{uuid4()}"
    where = ("topics", "bootstrap", name, "--bootstrap-servers", apache_kafka)
    asked = ("--partitions", "5", "--config", "retention.ms=60000")
    wishes = [
        ("--partitions", "2", "--config", "max.message.bytes=5000"),
        asked,
        (*asked, "--apply", "--dry-run"),
        (*asked, "--apply"),
        (*asked, "--apply"),
        ("--partitions", "3", "--replication-factor", "9", "--apply"),
    ]
    told = []
    for wish in wishes:
        ended = await llmctl(*where, *wish)
        assert ended.code == 0, ended.err
        told.append(json.loads(ended.out)["topics"][0])

    states = ["created", "differs", "would change", "changed", "exists", "differs"]
    assert [each["state"] for each in told] == states
    assert told[2]["notes"] == ["partitions are 2, not 5", "retention.ms is not set, not 60000"]
    assert told[3]["notes"] == []
    assert [note.split(";")[1] for note in told[5]["notes"]] == [
        " they can only be added",
        " it takes a reassignment (kafka-reassign-partitions)",
    ]
    shown = await llmctl("topics", "describe", name, "--bootstrap-servers", apache_kafka)
    (topic,) = json.loads(shown.out)["topics"]
    assert topic["partitions"] == 5
    assert topic["config"].items() >= {"max.message.bytes": "5000", "retention.ms": "60000"}.items()

    wrong = ("--partitions", "1", "--config", "retention.ms=soon", "--apply", "--output", "table")
    refused = await llmctl(*where, *wrong, env={"COLUMNS": "100"})
    assert refused.code == 1
    assert "retention.ms" in refused.err
    assert {name, "failed"} <= set(refused.out.split()), "a long reason leaves the other columns their place"


async def test_what_the_embedded_broker_cannot_keep_is_refused(
    llmctl: Run, embedded_broker: Any, bootstrap_servers: str
) -> None:
    for option in (("--config", "retention.ms=1"), ("--apply",)):
        ended = await llmctl("topics", "bootstrap", "t", *option, "--bootstrap-servers", bootstrap_servers)
        assert (ended.code, ended.out) == (2, "")


@pytest.mark.long
async def test_the_queues_topics_are_created_together(llmctl: Run, bootstrap_servers: str) -> None:
    name = f"queue-{uuid4().hex[:8]}"
    words = ("topics", "bootstrap", name, "--queue", "--request-topic", f"{name}.requests")
    words += ("--dead-letter-topic", f"{name}.dead", "--queue-partitions", "5")
    for state in ("created", "exists"):
        ended = await llmctl(*words, "--bootstrap-servers", bootstrap_servers)
        assert ended.code == 0
        told = {each["name"]: each for each in json.loads(ended.out)["topics"]}
        assert {each["state"] for each in told.values()} == {state}
        assert {topic: each["partitions"] for topic, each in told.items()} == {
            name: 3,
            f"{name}.requests": 5,
            f"{name}.requests.journal": 5,
            f"{name}.requests.memory": 1,
            f"{name}.dead": 5,
        }


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--request-topic", "x"], "add --queue"),
        (["--queue", "--request-topic", "x", "--dead-letter-topic", "x"], "two different topics"),
        (["--queue", "--request-topic", "no name"], "no legal topic name"),
    ],
)
async def test_the_queues_topics_must_make_sense(llmctl: Run, words: list[str], sentence: str) -> None:
    ended = await llmctl("topics", "bootstrap", *words)
    assert ended.code == 2
    assert sentence in ended.err


async def test_a_reader_that_goes_away_is_no_crash(service: Any, topic: str) -> None:
    await fill(service, topic)
    reading, writing = os.pipe()
    os.close(reading)
    words = ("--from-beginning", "--count", "4")
    async with start("tail-callbacks", topic, *words, stdout=writing) as process:
        os.close(writing)
        _, err = await process.communicate()
    assert process.returncode == 1
    assert b"Traceback" not in err
    assert b"BrokenPipe" not in err


@pytest.mark.parametrize("form", ["table", "json"])
async def test_a_full_disk_behind_the_output_is_one_sentence(form: str) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    async with start("config", "show", "--output", form, stdout=full) as process:
        os.close(full)
        _, err = await process.communicate()
    assert process.returncode == 1
    assert len(err.splitlines()) == 1
    assert b"The output cannot be written: No space left on device." in err
