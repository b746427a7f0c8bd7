"""How a Kafka is reached: what client libraries are told, and what makes no sense."""

from typing import Any

import pytest

from simulator.kafka_address import KafkaAddress

LOGIN = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "reader", "sasl_password": "canary"}


def test_an_open_one_is_its_servers() -> None:
    kafka = KafkaAddress("a:1,b:2")
    assert str(kafka) == "a:1,b:2"
    assert kafka.for_aiokafka() == {"bootstrap_servers": "a:1,b:2", "security_protocol": "PLAINTEXT"}
    assert kafka.for_librdkafka() == {"bootstrap.servers": "a:1,b:2"}
    assert kafka.for_service() == {
        "KAFKA_BOOTSTRAP_SERVERS": "a:1,b:2",
        "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
    }


def test_a_login_is_told_to_every_client_and_shown_to_nobody() -> None:
    kafka = KafkaAddress("far:9093", "SASL_SSL", **LOGIN)
    options = kafka.for_aiokafka()
    assert options.pop("ssl_context").check_hostname
    assert options == {
        "bootstrap_servers": "far:9093",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "reader",
        "sasl_plain_password": "canary",
    }
    assert kafka.for_librdkafka() == {
        "bootstrap.servers": "far:9093",
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": "probe",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "reader",
        "sasl.password": "canary",
    }
    assert kafka.for_service()["KAFKA_SASL_PASSWORD"] == "canary"
    assert kafka.for_llmctl() == {
        "LLMCTL_BOOTSTRAP_SERVERS": "far:9093",
        "LLMCTL_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "LLMCTL_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "LLMCTL_KAFKA_SASL_USERNAME": "reader",
        "LLMCTL_KAFKA_SASL_PASSWORD": "canary",
    }
    assert "canary" not in repr(kafka) + str(kafka)


@pytest.mark.parametrize(
    ("servers", "parts", "said"),
    [
        ("far:1", {"security_protocol": "TLS"}, "kafka_security_protocol must be one of"),
        ("far:1", {"security_protocol": "SASL_SSL"}, "must be set too"),
        ("far:1", {"sasl_password": "canary"}, "take the password away"),
        ("far:1", {"security_protocol": "SASL_SSL", **LOGIN, "sasl_mechanism": "X"}, "kafka_sasl_mechanism"),
        ("127.0.0.1:1,far:1", {"security_protocol": "SASL_PLAINTEXT", **LOGIN}, "everybody on the way"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_name(servers: str, parts: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        KafkaAddress(servers, **parts)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    ("servers", "more"), [("127.0.0.1:1,[::1]:2", {}), ("far:1", {"allow_insecure": True})]
)
def test_a_login_in_the_open_stays_on_this_machine_or_is_wanted(servers: str, more: dict[str, Any]) -> None:
    assert KafkaAddress(servers, "SASL_PLAINTEXT", **LOGIN, **more).logs_in


def test_a_child_in_another_folder_finds_what_it_is_told(tmp_path: Any, monkeypatch: Any) -> None:
    """A relative path is resolved here, and ALLOW_INSECURE is passed on."""
    monkeypatch.chdir(tmp_path)
    kafka = KafkaAddress("far:1", "SASL_PLAINTEXT", **LOGIN, ssl_cafile="ca.pem", allow_insecure=True)
    said = kafka.for_service()
    assert said["KAFKA_SSL_CAFILE"] == str(tmp_path / "ca.pem")
    assert said["ALLOW_INSECURE"] == "true"


def test_a_file_of_certificates_that_is_none_is_named(tmp_path: Any) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("no certificate")
    with pytest.raises(ValueError, match=f"kafka_ssl_cafile {path} cannot be read"):
        KafkaAddress("far:1", "SSL", ssl_cafile=str(path)).for_aiokafka()
