"""Which ways to Kafka are refused before anything is sent."""

import pytest

from service.kafka.connection import KafkaConnection, KafkaMisconfigured

LOGIN = {"sasl_mechanism": "SCRAM-SHA-256", "sasl_username": "u", "sasl_password": "secret-4711"}


@pytest.mark.parametrize("servers", ["kafka-1:9092", "127.0.0.1:9092,kafka-2:9092", "10.0.0.7:9092", "::1"])
def test_login_without_tls_is_refused_beyond_this_machine(servers: str) -> None:
    connection = KafkaConnection(servers, "SASL_PLAINTEXT", **LOGIN)

    with pytest.raises(KafkaMisconfigured, match="SASL_SSL") as refused:
        connection.client_options()
    assert "secret-4711" not in str(refused.value)


@pytest.mark.parametrize("servers", ["localhost:9092", "127.0.0.1:9092, [::1]:9093"])
def test_login_without_tls_is_allowed_on_this_machine(servers: str) -> None:
    options = KafkaConnection(servers, "SASL_PLAINTEXT", **LOGIN).client_options()

    assert options["sasl_plain_username"] == "u"


def test_allow_insecure_permits_a_login_without_tls() -> None:
    connection = KafkaConnection("kafka-1:9092", "SASL_PLAINTEXT", **LOGIN, allow_insecure=True)

    assert connection.client_options()["sasl_plain_password"] == "secret-4711"


def test_password_without_sasl_is_refused() -> None:
    with pytest.raises(KafkaMisconfigured, match="KAFKA_SASL_PASSWORD"):
        KafkaConnection("kafka-1:9092", "PLAINTEXT", sasl_password="x").client_options()
