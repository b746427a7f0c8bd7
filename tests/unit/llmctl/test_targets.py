"""Addresses are validated, and never show the token."""

import pytest

from llmctl.exits import UsageProblem
from llmctl.targets import Target
from simulator.kafka_address import KafkaAddress


def test_a_commands_own_option_wins() -> None:
    target = Target("http://a", "a:1", "t").override(url="http://b/", bootstrap_servers="b:2")
    assert (target.url, target.bootstrap_servers, target.bearer_token) == ("http://b", "b:2", "t")


def test_wrong_addresses_are_wrong_usage() -> None:
    for url in ("localhost:8080", "ftp://a", "http://", "http://a:99999", "http://a?b", "x"):
        with pytest.raises(UsageProblem, match="is no URL"):
            _ = Target(url).url
    for servers in ("a:0", "a:99999", "a:b", "a:1,", "http://a:1", "a b"):
        with pytest.raises(UsageProblem, match="is no Kafka address"):
            _ = Target(None, servers).bootstrap_servers


def test_keeps_the_token_to_itself() -> None:
    assert "secret" not in repr(Target(token="secret"))
    with pytest.raises(UsageProblem, match="check --token"):
        _ = Target(token="a\nb").bearer_token


LOGIN = {
    "kafka_security_protocol": "SASL_SSL",
    "kafka_sasl_mechanism": "SCRAM-SHA-512",
    "kafka_sasl_username": "reader",
    "kafka_sasl_password": "canary",
}


def test_a_contexts_login_is_for_the_kafka_of_that_context_alone() -> None:
    origins = dict.fromkeys((*LOGIN, "bootstrap_servers"), "context far in config.toml")
    target = Target(None, "far:9093", kafka_settings=LOGIN, origins=origins)
    of_variables = dict.fromkeys(LOGIN, "environment LLMCTL_KAFKA_…")
    assert target.kafka == KafkaAddress("far:9093", "SASL_SSL", "SCRAM-SHA-512", "reader", "canary")
    assert target.override(bootstrap_servers="near:9092").kafka == KafkaAddress("near:9092")
    spoken = Target(None, "far:9093", kafka_settings=LOGIN, origins=origins | of_variables)
    assert spoken.override(bootstrap_servers="near:9093").kafka.sasl_password == "canary"
    assert "canary" not in repr(target)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kafka_allow_insecure": "perhaps"}, "kafka_allow_insecure must be true or false"),
        (LOGIN | {"kafka_security_protocol": "SASL_PLAINTEXT"}, "kafka_allow_insecure where"),
        ({"kafka_sasl_password": "canary"}, "kafka_sasl_password is set"),
    ],
)
def test_a_login_that_makes_no_sense_is_wrong_usage(settings: dict[str, str], said: str) -> None:
    with pytest.raises(UsageProblem, match=said) as refused:
        _ = Target(None, "far:9093", kafka_settings=settings).kafka
    assert "canary" not in str(refused.value)
