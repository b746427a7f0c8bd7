"""`llmctl rank` refuses wrong usage before it reads anything, and names a missing extra."""

import json
import os
import sys

import pytest

from llmctl.exits import ExitCode
from tests.unit.llmctl.conftest import Run


def refuse(words: list[str], run_llmctl: Run) -> str:
    ended = run_llmctl("rank", "--output", "json", *words)
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    return str(json.loads(ended.err)["error"]["message"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "either a topic, or a file"),
        (["t", "--file", "x"], "either a topic, or a file"),
        (["--file", "/nope/x.jsonl"], "cannot be read"),
        (["--file", "-", "--bootstrap-servers", "x:1"], "goes with a topic"),
        (["t", "--run", "r", "--all-runs"], "choose one"),
        (["t", "--names", "one"], "no pair of keys"),
        (["t", "--next", "0", "--across"], "--next 0 leaves out"),
        (["t", "--where", "nope:1"], "no field of a filter"),
    ],
)
def test_wrong_usage_is_code_2(words: list[str], said: str, run_llmctl: Run) -> None:
    assert said in refuse(words, run_llmctl)


@pytest.mark.parametrize("missing", ["numpy", "scipy"])
def test_without_the_extra_it_says_what_to_install(
    missing: str, monkeypatch: pytest.MonkeyPatch, run_llmctl: Run
) -> None:
    for name in [each for each in sys.modules if each.split(".")[0] == missing or "ranking" in each]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    assert "pip install 'llmctl[rank]'" in refuse(["--file", os.devnull], run_llmctl)
