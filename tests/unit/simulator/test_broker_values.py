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
    assert TopicSpec.parse("essays.v1_x-y:12") == TopicSpec("essays.v1_x-y", 12)
    for text in ("", "a", "a:", "a:x", "a:-1", "a:0", "a:10001", ":3", "a b:3", "..:1", "a:²"):
        with pytest.raises(ValueError):
            TopicSpec.parse(text)


def test_an_error_is_given_by_name_or_number() -> None:
    names = {"NOT_LEADER_OR_FOLLOWER": 6, " message_too_large ": 10, "UNKNOWN_SERVER_ERROR": -1}
    for text, code in {**names, "29": 29, "-1": -1}.items():
        assert parse_error_code(text) == code
    for text in ("", "0", "-2", "-195", "32768", "NO_SUCH_ERROR", "1.5", "-", "6²"):
        with pytest.raises(ValueError, match="no error that a broker answers"):
            parse_error_code(text)


def test_the_error_numbers_are_those_of_another_kafka_implementation() -> None:
    """Each number carries the same name in aiokafka's table, except names that Kafka has changed since."""
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
        b"not json", b"{}", b'{"op": "explode"}', b'{"op": "slow"}',
        b'{"op": "slow", "milliseconds": -1}', b'{"op": "slow", "milliseconds": 600001}',
        b'{"op": "error", "code": "NO_SUCH_ERROR"}', b'{"op": "error", "code": 6, "count": 0}',
        b'{"op": "create_topics", "topics": []}',
        b'{"op": "create_topics", "topics": [{"name": "a b", "partitions": 1}]}',
        b'{"op": "status", "surplus": 1}',
    ],
)  # fmt: skip
def test_a_wrong_control_request_is_refused(line: bytes) -> None:
    with pytest.raises(ValidationError):
        REQUEST.validate_json(line)


@pytest.mark.parametrize("code", [b'"MESSAGE_TOO_LARGE"', b"10"])
def test_a_control_request_may_name_the_error_either_way(code: bytes) -> None:
    request = REQUEST.validate_json(b'{"op": "error", "code": %s, "count": 2}' % code)
    assert isinstance(request, RefuseProduce)
    assert request.number == 10


def test_a_library_without_mock_cluster_is_named_as_such() -> None:
    with pytest.raises(BrokerUnsupported, match="rd_kafka_conf_new"):
        load_library("libc.so.6" if os.uname().sysname == "Linux" else "libSystem.dylib")


def test_the_runtime_folder_is_its_owners(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anyone else who could write there could pose as a broker."""
    monkeypatch.setenv(RUNTIME_DIR_VARIABLE, str(short_folder / "run"))
    assert open_runtime_folder() == short_folder / "run"
    assert (short_folder / "run").stat().st_mode & 0o777 == 0o700
    short_folder.chmod(0o750)
    with pytest.raises(ControlError, match="chmod 700"):
        check_runtime_folder(short_folder)
    (short_folder / "file").touch()
    monkeypatch.setenv(RUNTIME_DIR_VARIABLE, str(short_folder / "file"))
    with pytest.raises(ControlError, match="file cannot be created"):
        open_runtime_folder()


def test_the_runtime_folder_needs_no_login_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RUNTIME_DIR_VARIABLE, raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert find_runtime_folder().is_absolute()


def test_a_socket_path_too_long_for_the_system_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match=r"103 fit.*LLMCTL_RUNTIME_DIR"):
        control_path(tmp_path / ("x" * 100), 9092)


async def test_no_broker_is_found_elsewhere(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other hosts, lists, nonsense and addresses without a control socket."""
    monkeypatch.setenv(RUNTIME_DIR_VARIABLE, str(short_folder))
    for servers in ("kafka.example:9092", "192.0.2.1:9092", "[::1]:9092", "127.0.0.1:9092,127.0.0.1:9093"):
        assert await find_control(servers) is None
    for servers in ("127.0.0.1:x", "127.0.0.1:99999", "", ":9092", "localhost"):
        assert await find_control(servers) is None
