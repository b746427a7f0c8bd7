"""Checks of the file of contexts and of the addresses."""

from pathlib import Path

import pytest

from llmctl.doctor.checks import Check, Unknown
from llmctl.doctor.configuration import (
    Places,
    find_places,
    is_loopback,
    judge_configuration,
    read_configuration,
)
from llmctl.settings import Setting
from simulator.kafka_address import KafkaAddress
from tests.unit.llmctl.doctor.conftest import find, read

CONTEXT = '[contexts.far]\nurl = "{url}"\nbootstrap_servers = "k:9092"\ntoken = "canary"\n'


def examine(**spoken: str) -> tuple[list[Check], Places]:
    said = {name: Setting(name, value, "option") for name, value in spoken.items()}
    found = read_configuration(said)
    places = find_places(found)
    return judge_configuration(found, places), places


def test_the_chosen_context_is_told_with_where_each_value_is_from(config_file: Path) -> None:
    config_file.write_text('current = "far"\n' + CONTEXT.format(url="https://far.example"))
    checks, places = examine(bootstrap_servers="own:9092")
    assert read(checks) == {"file": "pass", "service": "pass", "kafka": "pass"}
    assert "context far (current in" in find(checks, "file").seen
    assert find(checks, "service").seen.startswith("https://far.example (context far")
    assert find(checks, "kafka").seen == "own:9092 (option)"
    assert (places.url, str(places.kafka), places.token) == (
        "https://far.example",
        "own:9092",
        "canary",
    )
    assert "canary" not in str(checks) + repr(places)


def test_no_file_is_no_fault(config_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LLMCTL_CONFIG")
    monkeypatch.setattr("platformdirs.user_config_dir", lambda _: str(tmp_path / "nothing"))
    checks, places = examine()
    assert read(checks) == {"file": "pass", "service": "pass", "kafka": "pass"}
    assert (places.url, str(places.kafka)) == ("http://127.0.0.1:8080", "127.0.0.1:9092")


def test_an_exposed_token_is_a_warning(config_file: Path) -> None:
    config_file.write_text(CONTEXT.format(url="https://far.example"))
    config_file.chmod(0o644)
    check = find(examine()[0], "file")
    assert (check.verdict, check.advice) == ("warn", f"`chmod 600 {config_file}` keeps it yours.")


def test_a_token_over_plain_http_is_a_warning_but_on_this_machine(config_file: Path) -> None:
    config_file.write_text(CONTEXT.format(url="http://far.example"))
    far, _ = examine(context="far")
    near, _ = examine(context="far", url="http://127.0.0.1:8080")
    assert (find(far, "service").verdict, find(near, "service").verdict) == ("warn", "pass")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[contexts", "no TOML"),
        ('curent = "x"\n', "'curent' is unknown"),
        ('current = "x"\n', "no context 'x'"),
    ],
)
def test_a_faulty_file_leaves_the_addresses_open(config_file: Path, text: str, said: str) -> None:
    config_file.write_text(text)
    checks, places = examine(url="http://here:1")
    assert read(checks) == {"file": "fail", "service": "skip", "kafka": "skip"}
    assert said in find(checks, "file").seen
    assert isinstance(places.url, Unknown)
    assert isinstance(places.kafka, Unknown)


def test_each_wrong_address_is_a_failure_of_its_own() -> None:
    checks, places = examine(url="ftp://x", bootstrap_servers="k:9092")
    others, _ = examine(url="http://x", bootstrap_servers="k:none")
    assert read(checks) == {"file": "pass", "service": "fail", "kafka": "pass"}
    assert find(checks, "service").advice == "Write for example http://127.0.0.1:8080."
    assert places.kafka == KafkaAddress("k:9092")
    assert find(others, "kafka").verdict == "fail"


def test_a_token_that_no_header_can_carry_is_a_failure() -> None:
    checks, places = examine(token="schlüssel")
    assert (find(checks, "service").verdict, isinstance(places.url, Unknown)) == ("fail", True)


def test_the_default_kafka_of_a_service_elsewhere_is_a_warning() -> None:
    far, _ = examine(url="https://far.example")
    near, _ = examine(url="http://localhost:8081")
    assert (find(far, "kafka").verdict, find(near, "kafka").verdict) == ("warn", "pass")


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.2:1", True),
        ("http://[::1]:1", True),
        ("http://localhost", True),
        ("http://localhost.example", False),
        ("http://10.0.0.1", False),
    ],
)
def test_this_machine_is_known_by_its_names(url: str, here: bool) -> None:
    assert is_loopback(url) is here
