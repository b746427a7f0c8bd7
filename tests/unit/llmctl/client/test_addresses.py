"""A program finds service and Kafka as the command line does, with errors that name its parameters."""

from pathlib import Path

import pytest

from llmctl.client.addresses import find_addresses
from llmctl.library import WrongSetting
from llmctl.targets import DEFAULT_BOOTSTRAP_SERVERS, DEFAULT_URL

NOTHING: dict[str, str | None] = dict.fromkeys(("url", "bootstrap_servers", "token", "context"))


def test_defaults() -> None:
    found = find_addresses(NOTHING)
    assert (found.url, found.kafka.servers, found.token) == (DEFAULT_URL, DEFAULT_BOOTSTRAP_SERVERS, None)


def test_arguments_before_variables_before_contexts(
    config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config_file.write_text(
        'current = "a"\n[contexts.a]\nurl = "http://a"\nbootstrap_servers = "a:1"\ntoken = "a-token"\n'
        '[contexts.b]\nurl = "http://b"\n'
    )
    monkeypatch.setenv("LLMCTL_BOOTSTRAP_SERVERS", "variable:2")
    monkeypatch.setenv("LLMCTL_TOKEN", "")
    found = find_addresses(NOTHING | {"url": "http://argument"})
    assert (found.url, found.kafka.servers, found.token) == ("http://argument", "variable:2", "a-token")
    assert find_addresses(NOTHING | {"context": "b"}).url == "http://b"
    monkeypatch.setenv("LLMCTL_CONTEXT", "b")
    assert find_addresses(NOTHING).token is None


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"url": "nowhere"}, "'nowhere' is no URL of a service"),
        ({"bootstrap_servers": "a b"}, "'a b' is no Kafka address"),
        ({"token": "canary\n"}, "check `token=`"),
        ({"context": "x"}, "There is no context 'x'"),
    ],
)
def test_what_makes_no_sense(given: dict[str, str | None], sentence: str) -> None:
    with pytest.raises(WrongSetting, match=sentence) as problem:
        find_addresses(NOTHING | given)
    assert isinstance(problem.value, ValueError)
    assert "canary" not in str(problem.value)


def test_a_token_is_in_no_repr() -> None:
    assert "canary" not in repr(find_addresses(NOTHING | {"token": "canary"}))
