"""Brokers of Apache Kafka in KRaft mode on this machine: formatted, started, killed and started again."""

import base64
import ctypes
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.apache_kafka.artifacts import java, resolve_classes
from tests.apache_kafka.security import Security
from tests.free_ports import HOST, find_free_ports
from tests.waiting import HANG_SECONDS

LOOK_EVERY_SECONDS = 0.05
LAST_WORDS = 2000
_DIE_WITH_PARENT = 1
"""`PR_SET_PDEATHSIG` (prctl(2))."""


class BrokerFailed(Exception):
    """A broker did not come up; the text ends with its last words."""


@dataclass(frozen=True)
class Ports:
    plain: int
    controller: int
    secure: int


class Cluster:
    """Brokers that are controllers too. `secure` adds a listener with TLS, SCRAM and access control."""

    def __init__(self, folder: Path, brokers: int = 1, *, port: int = 0, secure: bool = False) -> None:
        self._folder = folder
        self._count = brokers
        self._first_port = port
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._ports: dict[int, Ports] = {}
        self.security: Security | None = None
        """What clients of the secure listeners need."""
        self._secure = secure
        self._classes = Path()

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"{HOST}:{ports.plain}" for ports in self._ports.values())

    @property
    def secure_servers(self) -> str:
        return ",".join(f"{HOST}:{ports.secure}" for ports in self._ports.values())

    @property
    def pids(self) -> dict[int, int]:
        return {number: process.pid for number, process in self._processes.items()}

    def start(self) -> None:
        """Formats and starts all brokers. Raises `KafkaMissing` and `BrokerFailed`."""
        self._classes = resolve_classes()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._ports = dict(enumerate(_find_ports(self._count, self._first_port), start=1))
        if self._secure:
            self.security = Security.make(self._folder)
        # Its first bits are fixed: what began with a dash would be taken for an option.
        cluster_id = base64.urlsafe_b64encode(b"k" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
        for number in self._ports:
            self._format(number, cluster_id)
        for number in self._ports:
            self._launch(number)
        for number in self._ports:
            self._wait_until_up(number)

    def kill(self, number: int) -> None:
        process = self._processes.pop(number)
        process.kill()
        process.wait(HANG_SECONDS)

    def start_again(self, number: int) -> None:
        self._launch(number)
        self._wait_until_up(number)

    def stop(self) -> None:
        for number in tuple(self._processes):
            self.kill(number)

    def _format(self, number: int, cluster_id: str) -> None:
        properties = self._folder / f"broker-{number}.properties"
        properties.write_text("".join(f"{key}={value}\n" for key, value in self._settings(number).items()))
        scram = self.security.format_options() if self.security else []
        command = java(
            self._classes,
            "kafka.tools.StorageTool",
            "format",
            "-t",
            cluster_id,
            "-c",
            str(properties),
            *scram,
        )
        done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS, check=False)
        if done.returncode != 0:
            raise BrokerFailed(f"Broker {number} cannot be formatted: {done.stderr[-LAST_WORDS:]}")

    def _settings(self, number: int) -> dict[str, object]:
        ports = self._ports[number]
        listeners = {"PLAINTEXT": ports.plain, "CONTROLLER": ports.controller}
        protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"}
        settings: dict[str, object] = {}
        if self.security is not None:
            listeners["SECURE"], protocols["SECURE"] = ports.secure, "SASL_SSL"
            settings = self.security.broker_settings()
        replicas = min(3, self._count)
        return {
            "process.roles": "broker,controller",
            "node.id": number,
            "controller.quorum.voters": ",".join(
                f"{each}@{HOST}:{one.controller}" for each, one in self._ports.items()
            ),
            "listeners": ",".join(f"{name}://{HOST}:{port}" for name, port in listeners.items()),
            "listener.security.protocol.map": ",".join(f"{n}:{p}" for n, p in protocols.items()),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": self._folder / f"broker-{number}",
            "auto.create.topics.enable": "false",
            "default.replication.factor": replicas,
            "offsets.topic.replication.factor": replicas,
            "offsets.topic.num.partitions": 3,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": max(1, replicas - 1),
            "transaction.state.log.num.partitions": 3,
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": max(1, replicas - 1),
            "group.initial.rebalance.delay.ms": 0,
            **settings,
        }

    def _launch(self, number: int) -> None:
        with self._log_of(number).open("ab") as log:
            self._processes[number] = subprocess.Popen(
                java(self._classes, "kafka.Kafka", str(self._folder / f"broker-{number}.properties")),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_die_with_parent,
            )

    def _wait_until_up(self, number: int) -> None:
        deadline = time.monotonic() + HANG_SECONDS
        process, port = self._processes[number], self._ports[number].plain
        while not _is_open(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise BrokerFailed(f"Broker {number} does not come up: {self._last_words(number)}")
            time.sleep(LOOK_EVERY_SECONDS)

    def _log_of(self, number: int) -> Path:
        return self._folder / f"broker-{number}.log"

    def _last_words(self, number: int) -> str:
        return self._log_of(number).read_text(errors="replace")[-LAST_WORDS:]


def _find_ports(brokers: int, first_port: int) -> Sequence[Ports]:
    """Finds free ports; the plain ones count up from `first_port` where that is given."""
    free = find_free_ports(3 * brokers)
    plain = range(first_port, first_port + brokers) if first_port else free[:brokers]
    return [
        Ports(*numbers)
        for numbers in zip(plain, free[brokers : 2 * brokers], free[2 * brokers :], strict=True)
    ]


def _is_open(port: int) -> bool:
    """A broker opens its listener once it has caught up with the cluster and may serve."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
