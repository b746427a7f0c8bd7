"""Addresses are taken from the options, checked, and never show the token."""

import pytest

from llmctl.exits import UsageProblem
from llmctl.targets import DEFAULT_BOOTSTRAP_SERVERS, DEFAULT_URL, Target


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
