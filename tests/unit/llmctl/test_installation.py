"""`--version` says what is installed and where, also where a part of it is broken."""

import re
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import llmctl
from llmctl.__main__ import main
from llmctl.installation import describe_installation

LINES = ("installed", "python", "aiokafka", "librdkafka", "SQLite", "system")


def test_version_comes_first_and_then_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """The first line is for scripts, the others are what a bug report needs."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    said = capsys.readouterr()
    first, *rest = said.out.splitlines()
    assert (ended.value.code, said.err) == (0, "")
    assert first == f"llmctl {version('llmctl')}"
    told = dict(line.split(maxsplit=1) for line in rest)
    assert tuple(told) == LINES
    assert told["installed"].startswith(str(Path(llmctl.__path__[0])))
    assert sys.executable in told["python"]
    assert told["aiokafka"] == version("aiokafka")
    assert re.fullmatch(r"\d+\.\d+\.\d+ of confluent-kafka \d+\.\d+\.\d+", told["librdkafka"])
    assert re.fullmatch(r"\d+\.\d+\.\d+ of apsw \d+\.\d+\.\d+(\.\d+)?", told["SQLite"])


def test_what_cannot_be_loaded_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """That it is broken is why somebody asks."""
    monkeypatch.setitem(sys.modules, "apsw", None)
    (line,) = [line for line in describe_installation().splitlines() if "SQLite" in line]
    assert "cannot be loaded: " in line
