"""SIGKILL and SIGTERM of the real service: nothing accepted is lost, and no answer is ever another one."""

import asyncio
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, TopicPartition

from service.contracts.codec import open_envelope
from simulator.broker.control import BrokerControl, TopicSpec
from tests.waiting import HANG_SECONDS, open_client, until

PATH = "/api/v1/comparison"
REQUESTS = 80
SLOW = {"LLM_PROVIDER_SERVICE_CONCURRENCY": "2"}
"""Few calls at once: there is work for as long as a test looks for it."""
QUIET_SECONDS = 0.5


@pytest.fixture
async def control(embedded_broker: Any) -> AsyncIterator[BrokerControl]:
    """The control of the shared broker; the broker is up and quick again afterwards."""
    control = BrokerControl(Path(embedded_broker.ready["control"]))
    yield control
    await control.up()
    await control.slow(0)


@pytest.fixture
async def topic(control: BrokerControl) -> str:
    """A topic of this test's own."""
    name = f"results.{uuid4().hex}"
    await control.create_topics([TopicSpec(name, 3)])
    return name


@pytest.fixture
def start_service(launcher: Any, bootstrap_servers: str, tmp_path: Path) -> Callable[..., Any]:
    """Starts the service on one and the same queue file, with the fake provider as its judge."""
    provider = launcher.start("simulator.provider", "--port", "0", "--latency-p50-ms", "150")
    environment = {
        "LLM_PROVIDER_SERVICE_PORT": "0",
        "LLM_PROVIDER_SERVICE_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "LLM_PROVIDER_SERVICE_QUEUE_PATH": str(tmp_path / "queue.db"),
        "LLM_PROVIDER_SERVICE_OPENAI_API_KEY": "fake-key",
        "LLM_PROVIDER_SERVICE_OPENAI_BASE_URL": provider.ready["base_urls"]["openai"],
        "LLM_PROVIDER_SERVICE_CONCURRENCY": "8",
    }

    def start(**settings: str) -> Any:
        return launcher.start("service", env={**environment, **settings})

    return start


async def submit(url: str, topic: str, count: int) -> list[str]:
    """Submits requests at once; returns the accepted ids."""
    body = {
        "user_prompt": "Which is better?",
        "essay_a": "one",
        "essay_b": "two",
        "callback_topic": topic,
        "metadata": {"n": 1},
    }
    async with open_client(url) as client:
        responses = await asyncio.gather(
            *(client.post(PATH, json={**body, "essay_a": f"essay {n}"}) for n in range(count))
        )
    assert {response.status_code for response in responses} == {202}
    return [response.json()["queue_id"] for response in responses]


async def read_gauges(url: str) -> dict[str, float]:
    """The figures of /metrics that have no labels."""
    async with open_client(url) as client:
        text = (await client.get("/metrics")).text
    lines = [line.split(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines if "{" not in name}


def read_answers(bootstrap_servers: str, topic: str, expected: set[str]) -> dict[str, list[bytes]]:
    """All copies of all callbacks on a topic, once each expected id has one."""
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": uuid4().hex})
    answers: dict[str, list[bytes]] = defaultdict(list)
    try:
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(3)])
        deadline = time.monotonic() + HANG_SECONDS
        quiet = False
        while not (quiet and expected <= answers.keys()):
            if time.monotonic() >= deadline:
                missing = len(expected - answers.keys())
                pytest.fail(f"{missing} of {len(expected)} requests have no callback")
            records = consumer.consume(500, timeout=QUIET_SECONDS)
            quiet = not records
            for record in records:
                answers[open_envelope(record.value()).data.request_id].append(record.value())
    finally:
        consumer.close()
    return dict(answers)


def assert_one_answer_each(answers: dict[str, list[bytes]], accepted: list[str]) -> None:
    """Every accepted request has one answer, and it stands on its topic once."""
    assert set(answers) == set(accepted)
    assert {len(copies) for copies in answers.values()} == {1}


async def test_kill_with_work_everywhere_loses_nothing(
    start_service: Callable[..., Any],
    control: BrokerControl,
    bootstrap_servers: str,
    topic: str,
) -> None:
    """SIGKILL with requests queued, in flight and in the outbox; the next start calls all of them back."""
    service = start_service(**SLOW)
    await control.slow(400)
    accepted = await submit(service.ready["url"], topic, REQUESTS)

    async def work_is_everywhere() -> bool:
        gauges = await read_gauges(service.ready["url"])
        return all(
            gauges[name] > 0 for name in ("llm_queue_depth", "llm_requests_in_flight", "llm_outbox_depth")
        )

    await until(work_is_everywhere, what="work in the queue, in flight and in the outbox")
    service.kill()
    await control.slow(0)
    start_service()

    answers = await asyncio.to_thread(read_answers, bootstrap_servers, topic, set(accepted))
    assert_one_answer_each(answers, accepted)


async def test_kill_while_the_broker_is_away_loses_no_outcome(
    start_service: Callable[..., Any],
    control: BrokerControl,
    bootstrap_servers: str,
    topic: str,
) -> None:
    """Outcomes that no broker has seen survive SIGKILL, and are not asked for a second time."""
    service = start_service()
    await submit(service.ready["url"], topic, 1)  # the topic is known from here on
    await control.down()
    accepted = await submit(service.ready["url"], topic, 20)

    async def all_outcomes_are_stored() -> bool:
        gauges = await read_gauges(service.ready["url"])
        unfinished = gauges["llm_queue_depth"] + gauges["llm_requests_in_flight"]
        return gauges["llm_outbox_depth"] >= 20 and unfinished == 0

    await until(all_outcomes_are_stored, what="every outcome stored")
    service.kill()
    await control.up()
    again = start_service()

    answers = await asyncio.to_thread(read_answers, bootstrap_servers, topic, set(accepted))
    assert {len(answers[queue_id]) for queue_id in accepted} == {1}
    assert not [line for line in again.read_log() if line["event"] == "request answered"]


async def test_sigterm_finishes_what_was_started_and_keeps_the_rest(
    start_service: Callable[..., Any], bootstrap_servers: str, topic: str
) -> None:
    """SIGTERM: started calls are called back, the rest stays queued, exit 0; the next start does the rest."""
    service = start_service(**SLOW)
    accepted = await submit(service.ready["url"], topic, REQUESTS)

    async def some_are_in_flight() -> bool:
        return (await read_gauges(service.ready["url"]))["llm_requests_in_flight"] > 0

    await until(some_are_in_flight, what="requests in flight")
    code = await asyncio.to_thread(service.stop)

    drained = [line for line in service.read_log() if line["event"] == "drained"]
    answered = [line for line in service.read_log() if line["event"] == "request answered"]
    assert code == 0
    assert [(line["in_flight"], line["outbox"]) for line in drained] == [(0, 0)]
    assert 0 < len(answered) < REQUESTS
    assert drained[0]["queued"] == REQUESTS - len(answered)
    start_service()
    answers = await asyncio.to_thread(read_answers, bootstrap_servers, topic, set(accepted))
    assert_one_answer_each(answers, accepted)


async def test_calls_cut_off_by_the_drain_limit_are_made_again(
    start_service: Callable[..., Any], bootstrap_servers: str, topic: str
) -> None:
    """A drain limit of 0 cuts calls off: exit 4, no error callback, and the next start answers them."""
    service = start_service(**SLOW, LLM_PROVIDER_SERVICE_DRAIN_TIMEOUT_SECONDS="0")
    accepted = await submit(service.ready["url"], topic, 30)

    async def some_are_in_flight() -> bool:
        return (await read_gauges(service.ready["url"]))["llm_requests_in_flight"] > 0

    await until(some_are_in_flight, what="requests in flight")
    code = await asyncio.to_thread(service.stop)
    start_service()

    answers = await asyncio.to_thread(read_answers, bootstrap_servers, topic, set(accepted))
    assert code == 4
    assert_one_answer_each(answers, accepted)
    assert all(open_envelope(copies[0]).data.is_success for copies in answers.values())


async def test_stop_with_a_slow_broker_sends_nothing_twice(
    start_service: Callable[..., Any],
    control: BrokerControl,
    bootstrap_servers: str,
    topic: str,
) -> None:
    """Callbacks that are acknowledged only while the service closes are deleted, not sent again."""
    service = start_service(LLM_PROVIDER_SERVICE_DRAIN_TIMEOUT_SECONDS="0.5")
    await control.slow(1500)
    accepted = await submit(service.ready["url"], topic, 6)

    async def all_are_being_sent() -> bool:
        return (await read_gauges(service.ready["url"]))["llm_outbox_depth"] == 6

    await until(all_are_being_sent, what="six callbacks on their way")
    code = await asyncio.to_thread(service.stop)
    await control.slow(0)
    start_service()

    answers = await asyncio.to_thread(read_answers, bootstrap_servers, topic, set(accepted))
    assert code == 0
    assert_one_answer_each(answers, accepted)


async def test_service_starts_and_accepts_while_the_broker_is_away(
    start_service: Callable[..., Any],
    control: BrokerControl,
    bootstrap_servers: str,
    topic: str,
) -> None:
    """A start without a broker is ready, says so, and refuses a topic it cannot know; then all goes on."""
    await control.down()
    service = start_service()
    async with open_client(service.ready["url"]) as client:
        readiness = await client.get("/readyz")
        refused = await client.post(
            PATH, json={"user_prompt": "p", "essay_a": "a", "essay_b": "b", "callback_topic": topic}
        )
    assert (readiness.status_code, readiness.json()["broker"]) == (200, "down")
    assert refused.status_code == 503
    assert refused.headers["retry-after"].isdecimal()
    assert refused.json()["error"]["error_code"] == "LLM_INTERNAL_ERROR"

    await control.up()
    accepted = await submit_when_known(service.ready["url"], topic)

    answers = await asyncio.to_thread(read_answers, bootstrap_servers, topic, {accepted})
    assert_one_answer_each(answers, [accepted])


async def submit_when_known(url: str, topic: str) -> str:
    """Submits one request as soon as the service has found the broker."""
    body = {"user_prompt": "p", "essay_a": "a", "essay_b": "b", "callback_topic": topic}
    accepted: list[str] = []
    async with open_client(url) as client:

        async def is_accepted() -> bool:
            response = await client.post(PATH, json=body)
            if response.status_code == 202:
                accepted.append(response.json()["queue_id"])
            return bool(accepted)

        await until(is_accepted, what="acceptance after the broker's return")
    return accepted[0]


def test_second_service_on_one_queue_file_is_refused(launcher: Any, tmp_path: Path) -> None:
    """Two services cannot share a queue file: the second says who owns it and exits 1."""
    environment = {
        "LLM_PROVIDER_SERVICE_PORT": "0",
        "LLM_PROVIDER_SERVICE_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "LLM_PROVIDER_SERVICE_QUEUE_PATH": str(tmp_path / "queue.db"),
        "LLM_PROVIDER_SERVICE_OPENAI_API_KEY": "k",
    }
    owner = launcher.start("service", env=environment)

    code, stderr = launcher.run_to_end("service", env=environment)

    assert code == 1
    assert f"in use by process {owner.process.pid}" in stderr
    assert "Traceback" not in stderr


@pytest.mark.long
def test_queue_on_kafka_without_a_broker_says_so(launcher: Any) -> None:
    """What holds the requests is out of reach: one sentence, exit 3."""
    environment = {
        "LLM_PROVIDER_SERVICE_PORT": "0",
        "LLM_PROVIDER_SERVICE_QUEUE_BACKEND": "kafka",
        "LLM_PROVIDER_SERVICE_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "LLM_PROVIDER_SERVICE_OPENAI_API_KEY": "k",
    }

    code, stderr = launcher.run_to_end("service", env=environment)

    assert code == 3
    assert "no broker answers at 127.0.0.1:1" in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("PORT", "eighty", None),
        ("CONCURRENCY", "0", None),
        ("OPENAI_API_KEY", "", None),
        ("OPENAI_API_KEY", "sk canary", "canary"),
        ("OPENAI_BASE_URL", "http://example.com/v1", None),
        ("OPENAI_MODEL", "gpt-none", None),
        ("ANTHROPIC_API_KEY", "sk-\ncanary", "canary"),
        ("ANTHROPIC_BASE_URL", "https://api.anthropic.com/v1", None),
        ("GOOGLE_BASE_URL", "https://canary:x@example.com", "canary"),
        ("OPENROUTER_BASE_URL", "https://openrouter.ai/api", None),
        ("OPENAI_RPM", "0", None),
        ("DEFAULT_LLM_PROVIDER", "google", None),
        ("MODEL_CATALOGUE", "absent.toml", None),
        ("HOST", "0.0.0.0", None),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT", None),
        ("DEFAULT_LLM_PROVIDER", "mock", None),
        ("ADMIN_TOKEN", " , ", None),
        ("API_TOKENS", "name-canary", "canary"),
        ("DRAIN_TIMEOUT_SECONDS", "inf", None),
    ],
)
def test_wrong_setting_stops_the_start_with_one_line(
    launcher: Any, tmp_path: Path, name: str, value: str, secret: str | None
) -> None:
    """A wrong value is named, not quoted where it is a secret, and nothing is started: exit 2."""
    environment = {
        "LLM_PROVIDER_SERVICE_PORT": "0",
        "LLM_PROVIDER_SERVICE_QUEUE_PATH": str(tmp_path / "queue.db"),
        "LLM_PROVIDER_SERVICE_OPENAI_API_KEY": "k",
        f"LLM_PROVIDER_SERVICE_{name}": value,
    }

    code, stderr = launcher.run_to_end("service", env=environment)

    assert code == 2
    assert len(stderr.strip().splitlines()) == 1
    assert name.partition("_SECURITY")[0] in stderr
    assert secret is None or secret not in stderr


async def test_second_sigterm_changes_nothing(start_service: Callable[..., Any], topic: str) -> None:
    """An impatient second SIGTERM is logged and the drain goes on to exit 0."""
    service = start_service()
    await submit(service.ready["url"], topic, 8)
    service.process.send_signal(signal.SIGTERM)

    def is_draining() -> bool:
        return any(line["event"].startswith("Starting graceful") for line in service.read_log())

    await until(is_draining, what="the drain")
    code = await asyncio.to_thread(service.stop)

    assert code == 0
