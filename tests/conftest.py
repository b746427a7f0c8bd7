"""What every test may use: a scrubbed environment, real processes, brokers, and figures to report."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from simulator.broker.control import BrokerControl, TopicSpec
from tests.apache_kafka.artifacts import KafkaMissing
from tests.apache_kafka.cluster import Cluster
from tests.scheduling import APACHE, GroupScheduling, rank
from tests.waiting import HANG_SECONDS

EMBEDDED = "embedded"
ROOT = Path(__file__).parents[1]
LONG = ROOT / "tests" / "long"
LONG_TEST_SECONDS = 3600
SERVICE_PREFIX = "LLM_PROVIDER_SERVICE_"
FIGURES = "figures"
FIGURES_FILE = ROOT / "build" / "figures.txt"


def pytest_addoption(parser: pytest.Parser) -> None:
    """How the same tests run on other brokers and queues."""
    parser.addoption(
        "--queue", choices=["sqlite", "kafka"], default="sqlite", help="where services of flows keep requests"
    )
    parser.addoption(
        "--brokers",
        choices=[EMBEDDED, APACHE],
        default=EMBEDDED,
        help="what ports and flows run on; those marked `apache` always run on both",
    )
    parser.addoption("--cluster", type=int, default=1, help="how many brokers of Apache Kafka there are")


def pytest_configure(config: pytest.Config) -> None:
    """Gives children their SIGINT back: a shell starts background jobs with it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Hypothesis measures time by default, and keeps examples in a folder that workers would share.
    patient = hypothesis.settings(
        deadline=None, database=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.register_profile("patient", patient)
    hypothesis.settings.load_profile("patient")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test on the broker that was chosen, and one that is marked `apache` on both.

    What is done with the embedded broker's control runs on that one alone.
    """
    if "broker_kind" in metafunc.fixturenames:
        kinds = [metafunc.config.getoption("--brokers")]
        if "embedded_broker" in metafunc.fixturenames:
            kinds = [EMBEDDED]
        elif kinds == [EMBEDDED] and metafunc.definition.get_closest_marker("apache"):
            kinds = [EMBEDDED, APACHE]
        metafunc.parametrize("broker_kind", kinds, indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what is long, and starts slow folders first."""
    for item in items:
        if item.path.is_relative_to(LONG):
            item.add_marker(pytest.mark.long)
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.timeout(LONG_TEST_SECONDS))
    items.sort(key=rank)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling:
    """Keeps together what shares a broker or a service."""
    return GroupScheduling(config, log)


@pytest.fixture
def record_figures(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Reports a line of measured figures at the end of the run, and in `build/figures.txt`."""

    def record(line: str) -> None:
        request.node.user_properties.append((FIGURES, line))

    return record


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints and keeps the figures that tests have recorded."""
    lines = [
        f"{report.nodeid}: {value}"
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == FIGURES
    ]
    if lines:
        terminalreporter.section(FIGURES)
        terminalreporter.write("\n".join([*lines, ""]))
        FIGURES_FILE.parent.mkdir(exist_ok=True)
        with FIGURES_FILE.open("a") as file:
            file.write("\n".join([*lines, ""]))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of whoever runs the tests reaches them."""
    for name in list(os.environ):
        if name.startswith(("LLM_PROVIDER_SERVICE_", "LLMCTL_")) or name in {"NO_COLOR", "FORCE_COLOR"}:
            monkeypatch.delenv(name)


@dataclass
class Child:
    """A process of ours, started by a test and ended with it."""

    process: subprocess.Popen[str]
    ready: dict[str, Any]
    log: Path

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait(HANG_SECONDS)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal and returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(HANG_SECONDS)

    def read_log(self) -> list[dict[str, Any]]:
        """The structured log so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


class Launcher:
    """Starts `python -m MODULE` and waits for its ready line."""

    def __init__(self, folder: Path, queue: str = "sqlite") -> None:
        self._folder = folder
        self._queue = queue
        self._children: list[Child] = []

    def start(self, module: str, *arguments: str, env: Mapping[str, str] | None = None) -> Child:
        """Starts a module; fails with its stderr where it does not come up."""
        if module == "service" and self._queue == "kafka":
            env = self._move_queue(env or {})
        log = self._folder / f"{module}-{len(self._children)}.log"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("LLM_PROVIDER_SERVICE_")}
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", module, "--exit-with-parent", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                cwd=self._folder,
                env={**inherited, "PYTHONPATH": str(ROOT), **(env or {})},
            )
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            process.wait(HANG_SECONDS)
            pytest.fail(f"{module} did not come up: {log.read_text()[-2000:]}")
        child = Child(process, json.loads(line), log)
        self._children.append(child)
        return child

    def _move_queue(self, env: Mapping[str, str]) -> Mapping[str, str]:
        """The same service with a queue on Kafka; the path of its file names the topics."""
        path = env.get(f"{SERVICE_PREFIX}QUEUE_PATH")
        servers = env.get(f"{SERVICE_PREFIX}KAFKA_BOOTSTRAP_SERVERS", "")
        if path is None or f"{SERVICE_PREFIX}QUEUE_BACKEND" in env:
            return env
        name = f"requests-{sha256((path + servers).encode()).hexdigest()[:16]}"
        words = ("topics", "bootstrap", name, "--queue", "--request-topic", f"{name}.q")
        words += ("--dead-letter-topic", f"{name}.dead", "--queue-partitions", "3")
        subprocess.run(
            [sys.executable, "-m", "llmctl", *words, "--bootstrap-servers", servers],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            timeout=HANG_SECONDS,
            check=True,
        )
        settings = {
            "QUEUE_BACKEND": "kafka",
            "REQUEST_TOPIC": f"{name}.q",
            "REQUEST_GROUP": name,
            "DEAD_LETTER_TOPIC": f"{name}.dead",
            "REPLICA_NAME": name,
        }
        return {**env, **{SERVICE_PREFIX + key: value for key, value in settings.items()}}

    def run_to_end(self, module: str, *, env: Mapping[str, str]) -> tuple[int, str]:
        """Runs a module that is expected to end by itself; returns its exit code and stderr."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("LLM_PROVIDER_SERVICE_")}
        done = subprocess.run(
            [sys.executable, "-m", module],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=self._folder,
            env={**inherited, "PYTHONPATH": str(ROOT), **env},
            timeout=HANG_SECONDS,
            check=False,
        )
        return done.returncode, done.stderr

    def close(self) -> None:
        """Ends what still runs."""
        for child in reversed(self._children):
            if child.process.poll() is None:
                child.process.terminate()
                try:
                    child.process.wait(HANG_SECONDS)
                except subprocess.TimeoutExpired:
                    child.kill()
            for stream in (child.process.stdin, child.process.stdout):
                if stream is not None:
                    stream.close()


@pytest.fixture
def launcher(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Launcher]:
    """Processes that end with the test."""
    launcher = Launcher(tmp_path, request.config.getoption("--queue"))
    yield launcher
    launcher.close()


@pytest.fixture(scope="session")
def session_launcher(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Launcher]:
    """Processes that end with the session."""
    launcher = Launcher(tmp_path_factory.mktemp("processes"), request.config.getoption("--queue"))
    yield launcher
    launcher.close()


@pytest.fixture(scope="session")
def embedded_broker(session_launcher: Launcher) -> Child:
    """The embedded broker, shared by all tests; each test names topics of its own."""
    return session_launcher.start("simulator.broker", "--port", "0")


StartKafka = Callable[..., Cluster]


@pytest.fixture(scope="session")
def kafka_starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartKafka]:
    """Starts brokers of Apache Kafka; without a JDK or Maven it skips at home and fails in CI."""
    clusters: list[Cluster] = []

    def start(brokers: int = 1, *, secure: bool = False) -> Cluster:
        cluster = Cluster(tmp_path_factory.mktemp("apache-kafka"), brokers, secure=secure)
        clusters.append(cluster)
        try:
            cluster.start()
        except KafkaMissing as missing:
            if os.environ.get("CI"):
                pytest.fail(str(missing))
            pytest.skip(str(missing))
        return cluster

    yield start
    for cluster in clusters:
        cluster.stop()


@pytest.fixture(scope="session", params=[APACHE])
def start_apache_kafka(kafka_starter: StartKafka) -> StartKafka:
    """Starts brokers of Apache Kafka for a test of its own."""
    return kafka_starter


@pytest.fixture(scope="session")
def shared_apache_kafka(request: pytest.FixtureRequest, kafka_starter: StartKafka) -> str:
    """The address of Apache Kafka: that of KAFKA_BOOTSTRAP_SERVERS, else our own."""
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    return given or kafka_starter(request.config.getoption("--cluster")).bootstrap_servers


@pytest.fixture(scope="session", params=[APACHE])
def apache_kafka(shared_apache_kafka: str) -> str:
    """The address of the shared Apache Kafka, for a test that runs on it alone."""
    return shared_apache_kafka


@pytest.fixture(scope="session")
def broker_kind(request: pytest.FixtureRequest) -> str:
    """Which of the two brokers a test has."""
    return str(request.param)


@pytest.fixture(scope="session")
def bootstrap_servers(request: pytest.FixtureRequest, broker_kind: str) -> str:
    """Where the shared broker listens."""
    return find_broker(request, broker_kind)


def find_broker(request: pytest.FixtureRequest, broker_kind: str) -> str:
    """Where the shared broker of a kind listens; it is started where nobody has asked for it before."""
    if broker_kind == APACHE:
        return str(request.getfixturevalue("shared_apache_kafka"))
    return str(request.getfixturevalue("embedded_broker").ready["bootstrap_servers"])


CreateTopic = Callable[[str, int], Awaitable[None]]


@pytest.fixture(scope="session")
def create_topic(request: pytest.FixtureRequest, broker_kind: str) -> CreateTopic:
    """Creates a topic with so many partitions on the shared broker."""
    return choose_creator(request, broker_kind)


def choose_creator(request: pytest.FixtureRequest, broker_kind: str) -> CreateTopic:
    """How topics are created on the shared broker of a kind."""
    bootstrap_servers = find_broker(request, broker_kind)
    if broker_kind == EMBEDDED:
        control = BrokerControl(Path(request.getfixturevalue("embedded_broker").ready["control"]))

        async def create(name: str, partitions: int) -> None:
            await control.create_topics([TopicSpec(name, partitions)])

        return create
    foreign = AdminClient({"bootstrap.servers": bootstrap_servers})
    # A broker learns of a topic a little after the controller has said that it is there.
    each = [AdminClient({"bootstrap.servers": server}) for server in bootstrap_servers.split(",")]

    def create_over_wire(name: str, partitions: int) -> None:
        foreign.create_topics([NewTopic(name, partitions)])[name].result(HANG_SECONDS)
        deadline = time.monotonic() + HANG_SECONDS
        while not all(name in one.list_topics(timeout=HANG_SECONDS).topics for one in each):
            assert time.monotonic() < deadline, f"not every broker has heard of {name}"

    async def create_in_thread(name: str, partitions: int) -> None:
        await asyncio.to_thread(create_over_wire, name, partitions)

    return create_in_thread
