"""`--version` names what is installed and where, even if a part is broken."""

import re
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import llmctl
from llmctl.installation import describe_installation
from tests.unit.llmctl.conftest import Run

LINES = ("installed", "python", "aiokafka", "librdkafka", "SQLite", "system")


def test_version_comes_first_and_then_where_it_is(run_llmctl: Run) -> None:
    ended = run_llmctl("--version")
    first, *rest = ended.out.splitlines()
    assert (ended.code, ended.err) == (0, "")
    assert first == f"llmctl {version('llmctl')}"
    told = dict(line.split(maxsplit=1) for line in rest)
    assert tuple(told) == LINES
    assert told["installed"].startswith(str(Path(llmctl.__path__[0])))
    assert sys.executable in told["python"]
    assert told["aiokafka"] == version("aiokafka")
    assert re.fullmatch(r"\d+\.\d+\.\d+ of confluent-kafka \d+\.\d+\.\d+", told["librdkafka"])
    assert re.fullmatch(r"\d+\.\d+\.\d+ of apsw \d+\.\d+\.\d+(\.\d+)?", told["SQLite"])


def test_what_cannot_be_loaded_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apsw", None)
    (line,) = [line for line in describe_installation().splitlines() if "SQLite" in line]
    assert "cannot be loaded: " in line
