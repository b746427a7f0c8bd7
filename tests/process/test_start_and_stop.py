"""SIGKILL and SIGTERM of the real service: nothing accepted is lost, and no outcome ever changes."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.contracts.codec import open_envelope
from service.settings import SettingsInvalid, load_settings
from simulator.broker.control import BrokerControl
from tests.conftest import SERVICE_PREFIX, Child, Launcher
from tests.process.conftest import (
    PATH,
    configure_service,
    find_openai,
    read_records,
    start_provider,
    stopped,
    submit,
    until_called_back,
    until_logged,
    until_work_is,
)
from tests.waiting import HANG_SECONDS, open_client, until

StartService = Callable[..., Child]


@pytest.fixture
def provider(launcher: Launcher) -> Child:
    return start_provider(launcher)


@pytest.fixture
def start_service(
    launcher: Launcher, provider: Child, bootstrap_servers: str, tmp_path: Path
) -> StartService:
    """Starts the service, each time on the same queue file; it calls the provider twice at once."""
    url = find_openai(provider)

    def start(**settings: str) -> Child:
        environment = configure_service(bootstrap_servers, tmp_path, url, CONCURRENCY="2", **settings)
        return launcher.start("service", env=environment)

    return start


async def read_callbacks(bootstrap_servers: str, topic: str, accepted: list[str]) -> list[Any]:
    """Reads the callbacks on a topic: every accepted request has one."""
    records = await asyncio.to_thread(read_records, bootstrap_servers, topic, len(accepted))
    callbacks = [open_envelope(record.value()).data for record in records]
    assert sorted(callback.request_id for callback in callbacks) == sorted(accepted)
    return callbacks


async def test_kill_with_work_everywhere_loses_nothing(
    start_service: StartService,
    provider: Child,
    control: BrokerControl,
    bootstrap_servers: str,
    topic: str,
) -> None:
    """The next start calls back every request; what is in the outbox is not sent to the provider again."""
    service = start_service()
    url = service.ready["url"]
    accepted = await submit(url, topic, 1)  # the service knows the topic from here on
    await until_called_back(url, 1)
    await control.down()
    accepted += await submit(url, topic, 3)
    await until_work_is(url, queued=0, in_flight=0, outbox=3)
    with stopped(provider):
        accepted += await submit(url, topic, 6)
        await until_work_is(url, queued=4, in_flight=2, outbox=3)
        service.kill()
    await control.up()
    again = start_service()

    await read_callbacks(bootstrap_servers, topic, accepted)
    assert len([line for line in again.read_log() if line["event"] == "request answered"]) == 6


async def test_sigterm_finishes_what_was_started_and_keeps_the_rest(
    start_service: StartService, provider: Child, bootstrap_servers: str, topic: str
) -> None:
    """Exit 0, also after a second SIGTERM; the next start does what was still queued."""
    service = start_service()
    with stopped(provider):
        accepted = await submit(service.ready["url"], topic, 6)
        await until_work_is(service.ready["url"], queued=4, in_flight=2, outbox=0)
        service.process.send_signal(signal.SIGTERM)
        await until_logged(service, "Starting graceful")
        service.process.send_signal(signal.SIGTERM)
        await until_logged(service, "second SIGTERM ignored")
    code = await asyncio.to_thread(service.process.wait, HANG_SECONDS)

    drained = [line for line in service.read_log() if line["event"] == "drained"]
    assert code == 0
    assert [(line["queued"], line["in_flight"], line["outbox"]) for line in drained] == [(4, 0, 0)]
    assert len([line for line in service.read_log() if line["event"] == "request answered"]) == 2
    start_service()
    await read_callbacks(bootstrap_servers, topic, accepted)


async def test_calls_cut_off_by_the_drain_limit_are_made_again(
    start_service: StartService, provider: Child, bootstrap_servers: str, topic: str
) -> None:
    """A drain limit of 0 cuts calls off: exit 4, no error callback, and the next start completes them."""
    service = start_service(DRAIN_TIMEOUT_SECONDS="0")
    with stopped(provider):
        accepted = await submit(service.ready["url"], topic, 4)
        await until_work_is(service.ready["url"], queued=2, in_flight=2, outbox=0)
        code = await asyncio.to_thread(service.stop)
    start_service()

    callbacks = await read_callbacks(bootstrap_servers, topic, accepted)
    assert code == 4
    assert all(callback.is_success for callback in callbacks)


async def test_stop_with_a_slow_broker_sends_nothing_twice(
    start_service: StartService, embedded_broker: Child, bootstrap_servers: str, topic: str
) -> None:
    """Callbacks that are acknowledged only while the service closes are deleted, not sent again."""
    service = start_service(DRAIN_TIMEOUT_SECONDS="0.2")
    accepted = await submit(service.ready["url"], topic, 1)  # the service knows the topic from here on
    await until_called_back(service.ready["url"], 1)
    with stopped(embedded_broker):
        accepted += await submit(service.ready["url"], topic, 6)
        await until_work_is(service.ready["url"], queued=0, in_flight=0, outbox=6)
        service.process.send_signal(signal.SIGTERM)
        await until_logged(service, "drained")
    code = await asyncio.to_thread(service.process.wait, HANG_SECONDS)
    start_service()

    await read_callbacks(bootstrap_servers, topic, accepted)
    assert code == 0


async def test_service_starts_and_accepts_while_the_broker_is_away(
    start_service: StartService,
    control: BrokerControl,
    bootstrap_servers: str,
    topic: str,
) -> None:
    """A start without a broker is ready, says so, and refuses a topic it cannot know; then all goes on."""
    await control.down()
    service = start_service()
    body = {"user_prompt": "p", "essay_a": "a", "essay_b": "b", "callback_topic": topic}
    accepted: list[str] = []
    async with open_client(service.ready["url"]) as client:
        readiness = await client.get("/readyz")
        refused = await client.post(PATH, json=body)
        await control.up()

        async def is_accepted() -> bool:
            response = await client.post(PATH, json=body)
            if response.status_code == 202:
                accepted.append(response.json()["queue_id"])
            return bool(accepted)

        await until(is_accepted, what="acceptance after the broker's return")
    assert (readiness.status_code, readiness.json()["broker"]) == (200, "down")
    assert refused.status_code == 503
    assert refused.headers["retry-after"].isdecimal()
    assert refused.json()["error"]["error_code"] == "LLM_INTERNAL_ERROR"
    await read_callbacks(bootstrap_servers, topic, accepted)


def test_second_service_on_one_queue_file_is_refused(launcher: Launcher, tmp_path: Path) -> None:
    """The second service names the owner and exits 1."""
    environment = configure_service("127.0.0.1:1", tmp_path, "http://127.0.0.1:1/v1")
    owner = launcher.start("service", env=environment)

    code, stderr = launcher.run_to_end("service", env=environment)

    assert code == 1
    assert f"in use by process {owner.process.pid}" in stderr
    assert "Traceback" not in stderr


@pytest.mark.long
def test_queue_on_kafka_without_a_broker_says_so(launcher: Launcher, tmp_path: Path) -> None:
    """One sentence, exit 3."""
    environment = configure_service("127.0.0.1:1", tmp_path, "http://127.0.0.1:1/v1", QUEUE_BACKEND="kafka")

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
        ("HOST", "0.0.0.0", None),
        ("DEFAULT_LLM_PROVIDER", "mock", None),
        ("ADMIN_TOKEN", " , ", None),
        ("API_TOKENS", "name-canary", "canary"),
        ("DRAIN_TIMEOUT_SECONDS", "inf", None),
    ],
)
def test_wrong_setting_is_named_in_one_line_and_not_quoted_if_secret(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, secret: str | None
) -> None:
    monkeypatch.setenv(f"{SERVICE_PREFIX}OPENAI_API_KEY", "k")
    monkeypatch.setenv(SERVICE_PREFIX + name, value)

    with pytest.raises(SettingsInvalid) as raised:
        load_settings()

    message = str(raised.value)
    assert len(message.splitlines()) == 1
    assert name in message
    assert secret is None or secret not in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPENAI_API_KEY", "sk canary"),
        ("OPENAI_MODEL", "gpt-none"),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
    ],
)
def test_wrong_setting_stops_the_start_with_exit_2(
    launcher: Launcher, tmp_path: Path, name: str, value: str
) -> None:
    settings = configure_service("127.0.0.1:1", tmp_path, "http://127.0.0.1:1/v1", **{name: value})
    code, stderr = launcher.run_to_end("service", env=settings)

    assert code == 2
    assert len(stderr.strip().splitlines()) == 1
    assert name.partition("_SECURITY")[0] in stderr
    assert "canary" not in stderr
    assert not (tmp_path / "queue.db").exists()
