"""`llmctl doctor` against a real service: on both brokers where all is well, else with one thing broken."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from service.contracts.codec import read_header
from simulator.broker.control import BrokerControl, TopicSpec
from tests.conftest import Launcher
from tests.flow.cli.conftest import Ended, Run
from tests.flow.conftest import make_env, until_snapshot
from tests.waiting import open_client, until

ADMIN, CALLER = "admin-canary", "caller-canary"


@dataclass(frozen=True)
class Place:
    url: str
    servers: str
    provider_url: str
    control: Path

    @property
    def words(self) -> tuple[str, ...]:
        return ("--url", self.url, "--bootstrap-servers", self.servers)

    async def make_topic(self) -> str:
        name = f"doctor.{uuid4().hex}"
        await BrokerControl(self.control).create_topics([TopicSpec(name, 2)])
        return name


def start_service(launcher: Launcher, folder: Path, servers: str, provider_url: str, **settings: str) -> str:
    own = {"OPENAI_API_KEY": "sk-canary", "OPENAI_BASE_URL": provider_url, "DRAIN_TIMEOUT_SECONDS": "1"}
    child = launcher.start("service", env=make_env(servers, folder, **own, **settings))
    return str(child.ready["url"])


@pytest.fixture(scope="module")
def place(session_launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A service with its own broker and provider; each test breaks one part and repairs it."""
    broker = session_launcher.start("simulator.broker", "--port", "0").ready
    provider = session_launcher.start("simulator.provider", "--port", "0").ready["base_urls"]
    servers = str(broker["bootstrap_servers"])
    url = start_service(session_launcher, tmp_path_factory.mktemp("doctor"), servers, provider["openai"])
    return Place(url, servers, provider["google"], Path(broker["control"]))


@pytest.fixture(scope="module")
def guarded(
    session_launcher: Launcher, place: Place, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, ...]:
    """The options that name a second service on the same broker, which needs tokens."""
    folder = tmp_path_factory.mktemp("guarded")
    tokens = {"API_TOKENS": f"team:{CALLER}", "ADMIN_TOKEN": ADMIN}
    url = start_service(session_launcher, folder, place.servers, f"{place.provider_url}/v1", **tokens)
    return ("--url", url, "--bootstrap-servers", place.servers)


def read(ended: Ended) -> dict[str, dict[str, Any]]:
    """Returns the checks of an examination by their full names."""
    document = json.loads(ended.out)
    assert document["exit_code"] == ended.code
    assert "canary" not in ended.out + ended.err
    return {
        " ".join(filter(None, (check["group"], check["subject"], check["name"]))): check
        for check in document["checks"]
    }


def list_verdicts(checks: dict[str, dict[str, Any]], verdict: str) -> set[str]:
    return {name for name, check in checks.items() if check["verdict"] == verdict}


async def test_a_service_in_order_passes(
    llmctl: Run,
    launcher: Launcher,
    bootstrap_servers: str,
    broker_kind: str,
    topic: str,
    tmp_path: Path,
    read_topic: Callable[[str, int], list[Any]],
) -> None:
    provider = launcher.start("simulator.provider", "--port", "0").ready["base_urls"]
    url = start_service(launcher, tmp_path, bootstrap_servers, provider["openai"])

    words = ("--url", url, "--bootstrap-servers", bootstrap_servers)
    ended = await llmctl("doctor", topic, "--round-trip", "--strict", *words)

    checks = read(ended)
    assert list_verdicts(checks, "fail") == set()
    if broker_kind == "apache":
        assert (ended.code, list_verdicts(checks, "warn")) == (1, {f"consumers {topic} readers"})
        assert "--strict takes for a failure" in ended.err
        assert "Kafka 4." in checks["kafka release"]["seen"]
    else:
        assert (ended.code, list_verdicts(checks, "warn")) == (0, set())
    passed = list_verdicts(checks, "pass")
    assert {"service ready", "service clock", "queue waiting", "providers openai key"} <= passed
    assert {f"round trip {topic} {name}" for name in ("accepted", "answered", "record")} <= passed
    (record,) = read_topic(topic, 1)
    assert (read_header(record.headers(), "run_id") or "").startswith("doctor-")
    async with open_client(provider["google"]) as fake:
        assert len((await fake.get("/_sim/journal")).text.splitlines()) == 1


async def test_the_table_fits_a_narrow_terminal(llmctl: Run, place: Place) -> None:
    topic = await place.make_topic()

    ended = await llmctl("doctor", topic, "missing", *place.words, "--output", "table", env={"COLUMNS": "80"})

    lines = ended.out.splitlines()
    assert ended.code == 1
    assert max(map(len, lines)) <= 80
    assert {line.strip()[0] for line in lines if line.startswith("  ") and line[2] != " "} == {"✓", "✗", "–"}  # noqa: RUF001
    assert "→ Create it with `llmctl topics bootstrap missing`." in ended.out
    assert "1 failed" in ended.err
    assert "\x1b" not in ended.out


async def test_a_missing_topic_fails_and_takes_nothing_with_it(llmctl: Run, place: Place) -> None:
    topic = await place.make_topic()
    checks = read(await llmctl("doctor", "missing", topic, "--round-trip", *place.words))
    assert list_verdicts(checks, "fail") == {"topics missing exists"}
    assert f"round trip {topic} record" in list_verdicts(checks, "pass")


async def test_a_drain_is_seen_with_the_way_back(llmctl: Run, place: Place) -> None:
    topic = await place.make_topic()
    async with open_client(place.url) as client:
        await client.post("/admin/v1/drain", json={"timeout_seconds": 5})
        ended = await llmctl("doctor", topic, "--round-trip", *place.words)
        await client.post("/admin/v1/resume")

    checks = read(ended)
    assert (ended.code, list_verdicts(checks, "fail")) == (1, {"service ready"})
    assert "llmctl drain --resume" in checks["service ready"]["advice"]
    assert checks["round trip request"]["verdict"] == "skip"


@pytest.mark.parametrize(
    ("outage", "verdict"), [("unauthorized", "fail"), ("quota_exhausted", "fail"), ("rate_limited", "warn")]
)
async def test_a_wrong_key_is_found_without_asking_a_model(
    llmctl: Run, place: Place, outage: str, verdict: str
) -> None:
    topic = await place.make_topic()
    async with open_client(place.provider_url) as fake:
        await fake.delete("/_sim/journal")
        await fake.patch("/_sim/scenario", json={"outage": outage})
        ended = await llmctl("doctor", topic, *place.words)
        await fake.patch("/_sim/scenario", json={"outage": None})
        asked = (await fake.get("/_sim/journal")).text

    checks = read(ended)
    assert list_verdicts(checks, verdict) == {"providers openai key"}
    assert (ended.code, asked) == (1 if verdict == "fail" else 0, "")


async def test_an_answer_that_is_an_error_fails_the_round_trip(llmctl: Run, place: Place) -> None:
    topic = await place.make_topic()
    async with open_client(place.provider_url) as fake:
        await fake.patch("/_sim/scenario", json={"faults": {"invalid": 1.0}})
        failed = read(await llmctl("doctor", topic, "--round-trip", *place.words))
        await fake.patch("/_sim/scenario", json={"faults": {"invalid": None, "hang": 1.0}})
        silent = read(await llmctl("doctor", topic, "--round-trip", "--timeout", "300ms", *place.words))
        await fake.patch("/_sim/scenario", json={"faults": None})

    name = f"round trip {topic} answered"
    assert list_verdicts(failed, "fail") == list_verdicts(silent, "fail") == {name}
    assert "LLM_PROVIDER_API_ERROR" in failed[name]["seen"]
    assert silent[name]["seen"] == "no callback came within 300ms"


async def test_undelivered_callbacks_and_an_away_broker_are_seen(
    llmctl: Run, launcher: Launcher, tmp_path: Path
) -> None:
    broker = launcher.start("simulator.broker", "--port", "0").ready
    provider = launcher.start("simulator.provider", "--port", "0").ready["base_urls"]
    servers, control = str(broker["bootstrap_servers"]), BrokerControl(Path(broker["control"]))
    url = start_service(launcher, tmp_path, servers, provider["openai"], CALLBACK_TOPIC_ALLOWLIST="team.*")
    await control.create_topics([TopicSpec("team.x", 1), TopicSpec("other", 1)])
    words = ("--url", url, "--bootstrap-servers", servers)
    async with open_client(url) as client:
        await control.error("MESSAGE_TOO_LARGE", count=2)
        body = {"user_prompt": "p", "essay_a": "a", "essay_b": "b", "callback_topic": "team.x"}
        assert (await client.post("/api/v1/comparison", json=body)).status_code == 202
        await until_snapshot(client, lambda now: now["outbox"]["parked"], "an undelivered callback")
        hindered = read(await llmctl("doctor", "other", "--round-trip", *words))
        await control.down()

        async def is_away() -> bool:
            return bool((await client.get("/readyz")).json()["broker"] == "down")

        await until(is_away, what="the service's notice of it")
        ended = await llmctl("doctor", "team.x", "--round-trip", *words)

    away = read(ended)
    assert list_verdicts(hindered, "warn") == {"queue undelivered"}
    assert "llmctl undelivered list" in hindered["queue undelivered"]["advice"]
    assert list_verdicts(hindered, "fail") == {"round trip other accepted"}
    assert "allow-list" in hindered["round trip other accepted"]["seen"]
    assert (ended.code, list_verdicts(away, "fail")) == (1, {"service its broker", "kafka brokers"})
    assert {"kafka release", "topics team.x exists", "round trip request"} <= list_verdicts(away, "skip")
    assert "providers openai key" in list_verdicts(away, "pass")


async def test_a_service_that_is_away_leaves_kafka_to_be_looked_at(
    llmctl: Run, place: Place, dead_port: int
) -> None:
    topic = await place.make_topic()
    words = ("--url", f"http://127.0.0.1:{dead_port}", "--bootstrap-servers", place.servers)
    ended = await llmctl("doctor", topic, "--round-trip", *words)
    checks = read(ended)
    assert (ended.code, list_verdicts(checks, "fail")) == (1, {"service ready"})
    assert f"topics {topic} exists" in list_verdicts(checks, "pass")
    assert {"queue disk", "providers usable", "round trip request"} <= list_verdicts(checks, "skip")


async def test_nobody_at_all_is_code_3(llmctl: Run, dead_port: int) -> None:
    words = ("--url", f"http://127.0.0.1:{dead_port}", "--bootstrap-servers", f"127.0.0.1:{dead_port}")
    ended = await llmctl("doctor", *words)
    assert ended.code == 3
    assert list_verdicts(read(ended), "fail") == {"service ready", "kafka brokers"}
    assert ended.err.startswith("Neither the service nor a Kafka broker answers")


@pytest.mark.parametrize(
    ("tokens", "code", "failed", "warned", "left_out"),
    [
        ((), 1, {"service callers", "service operators"}, set(), {"queue disk", "providers usable"}),
        (("--token", "wrong"), 1, {"service callers", "service operators"}, set(), {"round trip request"}),
        (("--token", CALLER), 0, set(), {"service operators"}, {"queue disk", "providers openai key"}),
        (("--token", ADMIN), 0, set(), {"service callers"}, {"round trip request"}),
        (("--token", CALLER, "--admin-token", ADMIN), 0, set(), set(), set()),
    ],
)
async def test_each_token_opens_its_half(
    llmctl: Run,
    place: Place,
    guarded: tuple[str, ...],
    tokens: tuple[str, ...],
    code: int,
    failed: set[str],
    warned: set[str],
    left_out: set[str],
) -> None:
    topic = await place.make_topic()
    ended = await llmctl("doctor", topic, "--round-trip", *guarded, *tokens)
    checks = read(ended)
    assert ended.code == code
    assert (list_verdicts(checks, "fail"), list_verdicts(checks, "warn")) == (failed, warned)
    assert left_out <= list_verdicts(checks, "skip")
    assert not tokens or "wrong" not in str(checks.get("service callers"))


async def test_a_faulty_configuration_fails_and_nothing_is_asked(
    llmctl: Run, place: Place, config_file: Path
) -> None:
    """Otherwise it would examine another place than the user meant."""
    await asyncio.to_thread(config_file.write_text, 'current = "nowhere"\n')
    ended = await llmctl("doctor", *place.words)
    checks = read(ended)
    assert (ended.code, list_verdicts(checks, "fail")) == (1, {"configuration file"})
    assert {"service ready", "kafka brokers"} <= list_verdicts(checks, "skip")
