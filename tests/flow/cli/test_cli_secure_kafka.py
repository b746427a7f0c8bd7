"""The command line on a Kafka that asks who comes: TLS, SCRAM and access rules of Apache Kafka."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from tests.apache_kafka.cluster import Cluster
from tests.apache_kafka.security import MECHANISM, Security
from tests.flow.cli.conftest import Run
from tests.waiting import HANG_SECONDS

RIGHTS = {
    ResourceType.TOPIC: ("secured.", (AclOperation.CREATE, AclOperation.DESCRIBE, AclOperation.READ,
                                      AclOperation.DESCRIBE_CONFIGS, AclOperation.ALTER_CONFIGS)),
    ResourceType.BROKER: ("kafka-cluster", (AclOperation.DESCRIBE,)),
}  # fmt: skip


@dataclass(frozen=True)
class Secured:
    cluster: Cluster
    security: Security

    def write_context(self, path: Path, **other: str) -> Path:
        values = {
            "bootstrap_servers": self.cluster.secure_servers,
            "kafka_security_protocol": "SASL_SSL",
            "kafka_sasl_mechanism": MECHANISM,
            "kafka_sasl_username": self.security.username,
            "kafka_sasl_password": self.security.password,
            "kafka_ssl_cafile": str(self.security.ca_file),
        } | other
        lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        path.write_text("\n".join(['current = "far"', "[contexts.far]", *lines, ""]))
        path.chmod(0o600)
        return path


@pytest.fixture(scope="module")
def secured(start_apache_kafka: Callable[..., Cluster]) -> Secured:
    cluster = start_apache_kafka(secure=True)
    assert cluster.security is not None
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers})
    who = f"User:{cluster.security.username}"
    patterns = {
        ResourceType.TOPIC: ResourcePatternType.PREFIXED,
        ResourceType.BROKER: ResourcePatternType.LITERAL,
    }
    rules = [
        AclBinding(kind, name, patterns[kind], who, "*", right, AclPermissionType.ALLOW)
        for kind, (name, rights) in RIGHTS.items()
        for right in rights
    ]
    for answer in admin.create_acls(rules).values():
        answer.result(HANG_SECONDS)
    return Secured(cluster, cluster.security)


async def test_topics_are_made_changed_and_read(llmctl: Run, secured: Secured, tmp_path: Path) -> None:
    env = {"LLMCTL_CONFIG": str(secured.write_context(tmp_path / "config.toml"))}
    topic = f"secured.{uuid4().hex}"

    made = await llmctl("topics", "bootstrap", topic, env=env)
    kept = ("--config", "retention.ms=604800000", "--apply")
    changed = await llmctl("topics", "bootstrap", topic, *kept, env=env)
    producer = Producer({"bootstrap.servers": secured.cluster.bootstrap_servers})
    producer.produce(topic, b"no callback", b"key")
    assert producer.flush(HANG_SECONDS) == 0
    read = await llmctl("tail-callbacks", topic, "--from-beginning", "--count", "1", env=env)
    shown = await llmctl("config", "show", env=env)

    assert [json.loads(each.out)["topics"][0]["state"] for each in (made, changed)] == ["created", "changed"]
    assert json.loads(read.out)["topic"] == topic
    assert secured.security.username in shown.out
    everything = "".join(each.out + each.err for each in (made, changed, read, shown))
    assert secured.security.password not in everything


@pytest.mark.parametrize(
    ("other", "code", "said"),
    [
        ({"kafka_sasl_password": "wrong-canary"}, 1, "does not let service in by SCRAM-SHA-512"),
        ({"kafka_sasl_mechanism": "PLAIN"}, 1, "does not let service in by PLAIN"),
        ({"kafka_ssl_cafile": "{system}"}, 1, "could not be spoken to over TLS"),
        ({"kafka_ssl_cafile": "/nowhere.pem"}, 2, "kafka_ssl_cafile /nowhere.pem cannot be read"),
        ({"kafka_security_protocol": "SASL_TLS"}, 2, "must be one of PLAINTEXT, SSL"),
        ({"bootstrap_servers": "{open}"}, 3, "by SASL_SSL, although something listens there"),
    ],
)
async def test_who_is_not_let_in_learns_why(
    llmctl: Run, secured: Secured, tmp_path: Path, other: dict[str, str], code: int, said: str
) -> None:
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    system = Security.make(stranger).ca_file if "{system}" in other.values() else ""
    places = {"system": system, "open": secured.cluster.bootstrap_servers}
    other = {name: value.format(**places) for name, value in other.items()}
    env = {"LLMCTL_CONFIG": str(secured.write_context(tmp_path / "config.toml", **other))}

    ended = await llmctl("topics", "list", env=env)

    assert (ended.code, "Traceback" in ended.err) == (code, False)
    assert said in ended.err
    assert "kafka_" in ended.err
    assert secured.security.password not in ended.err
    assert "canary" not in ended.err


async def test_whoever_says_nothing_of_a_login_is_told_of_it(llmctl: Run, secured: Secured) -> None:
    ended = await llmctl("topics", "list", "--bootstrap-servers", secured.cluster.secure_servers)
    assert ended.code == 3
    assert "kafka_security_protocol" in ended.err
