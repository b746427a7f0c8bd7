"""Every preset of the fake provider under the real service: what it implies happens, and nothing else.

All presets run at the same time, each with a provider and a service of its own, for most of what they take
is waiting; the tests look at what each run left behind.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest

from service.contracts.error_codes import LLMErrorCode
from simulator.load.ledger import Fact, LedgerReport, Received
from tests.conftest import Launcher
from tests.process.load import Load, SharedLedger, TopicWatch
from tests.waiting import open_client

REQUESTS = 500
PER_SECOND = {
    "calm": 50.0,
    "realistic": 30.0,
    "rate-limited": 50.0,
    "brownout": 15.0,
    "outage": 20.0,
    "flaky": 30.0,
    "poison": 30.0,
    "slow-drip": 20.0,
    "chaos": 12.0,
}
"""Slow enough for the run to still be on when the timeline of a preset comes to its trouble."""
PROVIDER_TIMEOUT_SECONDS = 45
MAX_ATTEMPTS = 5
"""The service's default."""
LOOK_EVERY_SECONDS = 0.1
DECLINED = {"refusal", "safety", "length"}
"""Answers that another attempt would not better: they end a request."""
OUTAGE_SECONDS = (10.0, 25.0)
ROUND_TRIP = "600ms"
"""Eighteen processes on a machine's few cores: a call may be that long on its way."""


class CountingLedger(SharedLedger):
    """The ledger of a run that also keeps which errors were called back."""

    def __init__(self) -> None:
        super().__init__()
        self.codes: Counter[str] = Counter()
        self.given_up: Counter[str] = Counter()
        """Those of them that came after the last attempt that a request has."""

    def fold(self, *facts: Fact) -> None:
        """Takes facts in, in any order."""
        super().fold(*facts)
        for fact in facts:
            if isinstance(fact, Received) and fact.value is not None:
                error = orjson.loads(fact.value)["data"]["error_detail"]
                if error is not None:
                    self.codes[error["error_code"]] += 1
                    self.given_up[error["error_code"]] += error["details"].get("attempts") == MAX_ATTEMPTS


@dataclass
class Run:
    """What one preset's run left behind."""

    preset: str
    report: LedgerReport
    codes: Counter[str]
    given_up: Counter[str]
    obedience: dict[str, Any]
    journal: list[dict[str, Any]]
    circuits: list[tuple[float, str]] = field(default_factory=list)
    """Seconds of the scenario's time, and the circuit as the service told it then."""


async def watch_circuit(service_url: str, provider_url: str, circuits: list[tuple[float, str]]) -> None:
    """Notes the circuit again and again, until cancelled."""
    async with open_client() as client:
        passed = (await client.get(f"{provider_url}/_sim")).json()["seconds_passed"]
        began = time.monotonic() - passed
        while True:
            (provider,) = (await client.get(f"{service_url}/admin/v1/snapshot")).json()["providers"]
            circuits.append((time.monotonic() - began, provider["circuit"]))
            await asyncio.sleep(LOOK_EVERY_SECONDS)


async def run_preset(preset: str, launcher: Launcher, bootstrap_servers: str, folder: Path) -> Run:
    """Offers 500 requests and waits until each has its callback."""
    provider = await asyncio.to_thread(
        launcher.start, "simulator.provider", "--port", "0", "--scenario", preset, "--seed", "7"
    )
    base_url = provider.ready["base_urls"]["openai"]
    environment = {
        "PORT": "0",
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "QUEUE_PATH": str(folder / preset / "queue.db"),
        "OPENAI_API_KEY": "fake-key",
        "OPENAI_BASE_URL": base_url,
        "PROVIDER_TIMEOUT_SECONDS": str(PROVIDER_TIMEOUT_SECONDS),
    }
    control_url = base_url.removesuffix("/v1")
    async with open_client(control_url) as client:
        changed = await client.patch("/_sim/scenario", json={"expect": {"round_trip": ROUND_TRIP}})
        assert changed.status_code == 200
    service = await asyncio.to_thread(
        launcher.start,
        "service",
        env={f"LLM_PROVIDER_SERVICE_{name}": value for name, value in environment.items()},
    )
    ledger, circuits, topic = CountingLedger(), [], f"presets.{preset}"
    watching = asyncio.create_task(watch_circuit(service.ready["url"], control_url, circuits))
    with TopicWatch(bootstrap_servers, [topic], ledger) as watch:
        async with Load([service.ready["url"]], [topic], ledger, per_second=PER_SECOND[preset]) as load:
            await load.offer_just(REQUESTS)
            await load.resolve()
            await watch.until_called_back()
        load.check()
    watching.cancel()
    async with open_client(control_url) as client:
        obedience = (await client.get("/_sim/obedience")).json()
        journal = [orjson.loads(line) for line in (await client.get("/_sim/journal")).text.splitlines()]
    return Run(preset, ledger.report(), ledger.codes, ledger.given_up, obedience, journal, circuits)


@pytest.fixture(scope="module")
def runs(
    session_launcher: Launcher, create_topic: Any, bootstrap_servers: str, tmp_path_factory: Any
) -> dict[str, Run]:
    """All presets, once, at the same time."""
    folder = tmp_path_factory.mktemp(f"presets-{uuid4().hex[:8]}")

    async def run_all() -> list[Run]:
        for preset in PER_SECOND:
            await create_topic(f"presets.{preset}", 2)
        return list(
            await asyncio.gather(
                *(run_preset(preset, session_launcher, bootstrap_servers, folder) for preset in PER_SECOND)
            )
        )

    return {run.preset: run for run in asyncio.run(run_all())}


def count_outcomes(run: Run) -> Counter[str]:
    """How the provider's calls ended, as it tells itself."""
    return Counter(entry["outcome"] for entry in run.journal)


@pytest.mark.parametrize("preset", PER_SECOND)
def test_every_accepted_request_is_called_back_once(
    runs: dict[str, Run], preset: str, record_figures: Callable[[str], None]
) -> None:
    """Whatever the provider does: 500 accepted, each with one callback, none of them twice."""
    report = runs[preset].report
    record_figures(
        f"{preset}: {report.ok} ok, {dict(runs[preset].codes)}, calls {count_outcomes(runs[preset])}"
    )

    assert report.accepted >= REQUESTS
    assert report.ok + report.failed == report.accepted
    assert report.sound


@pytest.mark.parametrize("preset", PER_SECOND)
def test_no_preset_sees_its_caller_disobey(runs: dict[str, Run], preset: str) -> None:
    """Nothing before Retry-After was over, no storm on a provider that is down, nothing paid twice."""
    assert runs[preset].obedience["violations"] == 0, runs[preset].obedience


@pytest.mark.parametrize("preset", ["calm", "realistic", "rate-limited", "outage"])
def test_trouble_of_the_provider_fails_no_request(runs: dict[str, Run], preset: str) -> None:
    """Limits and outages are waited for: no request is burned."""
    assert runs[preset].codes == {}


@pytest.mark.parametrize("preset", ["poison", "chaos"])
def test_what_the_model_declines_fails_and_nothing_else(runs: dict[str, Run], preset: str) -> None:
    """One error callback for each request whose answer was refused, withheld or cut at the token limit."""
    run = runs[preset]
    declined = {entry["request_id"] for entry in run.journal if entry["outcome"] in DECLINED}

    assert declined or preset != "poison", "one in ten answers is declined there"
    assert run.codes[LLMErrorCode.INVALID_RESPONSE] >= len(declined)
    # Five bad answers in a row to one request are possible and rare; the last one names it.
    sudden = run.codes - run.given_up
    assert set(sudden) <= {LLMErrorCode.INVALID_RESPONSE, LLMErrorCode.PARSING_ERROR}
    assert run.report.failed - len(declined) <= REQUESTS / 50


@pytest.mark.parametrize("preset", ["brownout", "flaky", "slow-drip"])
def test_passing_faults_are_repeated_until_they_pass(runs: dict[str, Run], preset: str) -> None:
    """Faults strike a part of the calls; five attempts get nearly every request through."""
    run = runs[preset]

    assert count_outcomes(run).total() > count_outcomes(run)["ok"] or preset == "slow-drip"
    assert set(run.codes) <= {LLMErrorCode.PROVIDER_UNAVAILABLE, LLMErrorCode.PROVIDER_TIMEOUT}
    assert run.report.failed <= REQUESTS / 100


def test_granted_rate_is_used(runs: dict[str, Run], record_figures: Callable[[str], None]) -> None:
    """A provider that grants 600 a minute is asked so much, although nobody told the service.

    Within 5 % on a machine of its own; a busy one uses less of it, and none may use more.
    """
    answered = sorted(entry["time"] for entry in runs["rate-limited"].journal if entry["outcome"] == "ok")
    burst = 20
    per_second = (len(answered) - burst) / (answered[-1] - answered[0])
    record_figures(f"{per_second:.2f} answers/s of 10/s; calls {count_outcomes(runs['rate-limited'])}")

    assert 8.5 < per_second < 10.5


def test_circuit_opens_and_closes_with_the_outage(
    runs: dict[str, Run], record_figures: Callable[[str], None]
) -> None:
    """Open during the outage (2 s after its begin with a machine of its own), and closed after it."""
    begins, ends = OUTAGE_SECONDS
    circuits = runs["outage"].circuits
    opened = next(at for at, circuit in circuits if circuit != "closed")
    closed = max(at for at, circuit in circuits if circuit != "closed")
    record_figures(
        f"open {opened - begins:.2f} s after the begin, closed {closed - ends:.2f} s after the end"
    )

    # The clocks of provider and watcher begin as far apart as their processes take to start.
    assert begins < opened < ends
    assert opened < closed < ends + 10
