"""Addresses are taken from the options, checked, and never show the token."""

import pytest

from llmctl.exits import UsageProblem
from llmctl.targets import DEFAULT_BOOTSTRAP_SERVERS, DEFAULT_URL, Target
from simulator.kafka_address import KafkaAddress


def test_has_local_defaults() -> None:
    """Where nothing is said, the local stack is meant."""
    assert (Target().url, Target().bootstrap_servers) == (DEFAULT_URL, DEFAULT_BOOTSTRAP_SERVERS)


def test_a_commands_own_option_wins() -> None:
    """What stands behind the command is nearer than what stands before it."""
    target = Target("http://a", "a:1", "t").override(url="http://b/", bootstrap_servers="b:2")
    assert (target.url, target.bootstrap_servers, target.bearer_token) == ("http://b", "b:2", "t")


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://a", "http://", "http://a:99999", "http://a?b", "x"])
def test_refuses_what_is_no_url(url: str) -> None:
    """A wrong URL is wrong usage, not an unreachable service."""
    with pytest.raises(UsageProblem, match="is no URL"):
        _ = Target(url).url


@pytest.mark.parametrize("servers", ["a:0", "a:99999", "a:b", "a:1,", "http://a:1", "a b"])
def test_refuses_what_is_no_kafka_address(servers: str) -> None:
    """A wrong address is wrong usage, not an unreachable broker."""
    with pytest.raises(UsageProblem, match="is no Kafka address"):
        _ = Target(None, servers).bootstrap_servers


def test_keeps_the_token_to_itself() -> None:
    """No log and no error shows the token; one that no header can carry is refused."""
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
    """Another Kafka that was named by an option does not get the password; a variable's is for any."""
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
    """Said with its key, never with what is secret."""
    with pytest.raises(UsageProblem, match=said) as refused:
        _ = Target(None, "far:9093", kafka_settings=settings).kafka

    assert "canary" not in str(refused.value)
