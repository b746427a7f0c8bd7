"""The embedded broker's values: topics, error codes, control requests, the place of its socket."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import errors as kafka_errors
from pydantic import ValidationError

from simulator.broker.cluster import load_library
from simulator.broker.control import find_control
from simulator.broker.errors import BrokerUnsupported, ControlError
from simulator.broker.messages import REQUEST, RefuseProduce
from simulator.broker.produce_errors import ProduceError, parse_error_code
from simulator.broker.runtime import (
    RUNTIME_DIR_VARIABLE,
    check_runtime_folder,
    control_path,
    find_runtime_folder,
    open_runtime_folder,
)
from simulator.broker.topic import TopicSpec


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="llmctl-", dir="/tmp") as name:
        yield Path(name)


def test_a_topic_is_read_from_name_and_partitions() -> None:
    """`name:partitions` gives the topic that it says."""
    assert TopicSpec.parse("essays.v1_x-y:12") == TopicSpec("essays.v1_x-y", 12)


@pytest.mark.parametrize(
    "text", ["", "a", "a:", "a:x", "a:-1", "a:0", "a:10001", ":3", "a b:3", "..:1", "a:²"]
)
def test_a_topic_that_kafka_would_refuse_is_refused(text: str) -> None:
    """Every illegal name or number of partitions raises ValueError."""
    with pytest.raises(ValueError):
        TopicSpec.parse(text)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("NOT_LEADER_OR_FOLLOWER", 6),
        (" message_too_large ", 10),
        ("29", 29),
        ("-1", -1),
        ("UNKNOWN_SERVER_ERROR", -1),
    ],
)
def test_an_error_is_given_by_name_or_number(text: str, code: int) -> None:
    """Names are read in either case, numbers as they are."""
    assert parse_error_code(text) == code


@pytest.mark.parametrize("text", ["", "0", "-2", "-195", "32768", "NO_SUCH_ERROR", "1.5", "-", "6²"])
def test_what_is_no_error_of_a_broker_is_refused(text: str) -> None:
    """Success, librdkafka's private codes and unknown names raise ValueError."""
    with pytest.raises(ValueError, match="no error that a broker answers"):
        parse_error_code(text)


def test_the_error_numbers_are_those_of_another_kafka_implementation() -> None:
    """Each number carries the same name in aiokafka's table, but for names that Kafka has changed since."""
    renamed = {
        ProduceError.UNKNOWN_SERVER_ERROR: "UNKNOWN",
        ProduceError.NOT_LEADER_OR_FOLLOWER: "NOT_LEADER_FOR_PARTITION",
        ProduceError.MESSAGE_TOO_LARGE: "MESSAGE_SIZE_TOO_LARGE",
        ProduceError.INVALID_TOPIC_EXCEPTION: "INVALID_TOPIC",
        ProduceError.NETWORK_EXCEPTION: "STALE_LEADER_EPOCH_CODE",
    }
    theirs = {error: kafka_errors.for_code(error.value) for error in ProduceError}
    known = {error: found.message for error, found in theirs.items() if found.errno == error.value}
    assert len(known) > 20
    assert known == {error: renamed.get(error, error.name) for error in known}


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"{}",
        b'{"op": "explode"}',
        b'{"op": "slow"}',
        b'{"op": "slow", "milliseconds": -1}',
        b'{"op": "slow", "milliseconds": 600001}',
        b'{"op": "error", "code": "NO_SUCH_ERROR"}',
        b'{"op": "error", "code": 6, "count": 0}',
        b'{"op": "create_topics", "topics": []}',
        b'{"op": "create_topics", "topics": [{"name": "a b", "partitions": 1}]}',
        b'{"op": "status", "surplus": 1}',
    ],
)
def test_a_wrong_control_request_is_refused(line: bytes) -> None:
    """No malformed request reaches the broker."""
    with pytest.raises(ValidationError):
        REQUEST.validate_json(line)


def test_a_control_request_may_name_the_error_either_way() -> None:
    """Name and number lead to the same request."""
    by_name, by_number = (
        REQUEST.validate_json(b'{"op": "error", "code": %s, "count": 2}' % code)
        for code in (b'"MESSAGE_TOO_LARGE"', b"10")
    )
    assert isinstance(by_name, RefuseProduce)
    assert isinstance(by_number, RefuseProduce)
    assert by_name.number == by_number.number == 10


def test_a_library_without_mock_cluster_is_named_as_such() -> None:
    """A librdkafka that lacks the symbols ends in one sentence, not in an AttributeError."""
    with pytest.raises(BrokerUnsupported, match="rd_kafka_conf_new"):
        load_library("libc.so.6" if os.uname().sysname == "Linux" else "libSystem.dylib")


def test_the_runtime_folder_is_created_for_its_owner_alone(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LLMCTL_RUNTIME_DIR decides, and the folder is 0700."""
    monkeypatch.setenv(RUNTIME_DIR_VARIABLE, str(short_folder / "run"))
    assert open_runtime_folder() == short_folder / "run"
    assert (short_folder / "run").stat().st_mode & 0o777 == 0o700


def test_without_a_login_session_there_is_a_runtime_folder_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A missing XDG_RUNTIME_DIR is no warning and no error."""
    monkeypatch.delenv(RUNTIME_DIR_VARIABLE, raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert find_runtime_folder().is_absolute()


def test_a_runtime_folder_open_to_others_is_refused(short_folder: Path) -> None:
    """Whoever could write there could pose as a broker."""
    short_folder.chmod(0o750)
    with pytest.raises(ControlError, match="chmod 700"):
        check_runtime_folder(short_folder)


def test_a_file_in_place_of_the_runtime_folder_is_refused(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of that name ends in one sentence."""
    (short_folder / "run").touch()
    monkeypatch.setenv(RUNTIME_DIR_VARIABLE, str(short_folder / "run"))
    with pytest.raises(ControlError, match="run cannot be created"):
        open_runtime_folder()


def test_a_socket_path_too_long_for_the_system_is_refused(tmp_path: Path) -> None:
    """The limit of sun_path is named before bind() fails on it."""
    with pytest.raises(ControlError, match=r"103 fit.*LLMCTL_RUNTIME_DIR"):
        control_path(tmp_path / ("x" * 100), 9092)


@pytest.mark.parametrize(
    "servers",
    [
        "kafka.example:9092",
        "192.0.2.1:9092",
        "[::1]:9092",
        "127.0.0.1:9092,127.0.0.1:9093",
        "127.0.0.1:x",
        "127.0.0.1:99999",
        "",
        ":9092",
        "localhost",
    ],
)
async def test_no_embedded_broker_is_found_where_none_can_be(
    servers: str, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other hosts, lists, nonsense and addresses without a control socket give None."""
    monkeypatch.setenv(RUNTIME_DIR_VARIABLE, str(short_folder))
    assert await find_control(servers) is None
