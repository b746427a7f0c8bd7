"""`llmctl rank` refuses what makes no sense before it reads anything, and says what is missing."""

import json
import os
import sys

import pytest

from llmctl.__main__ import main
from llmctl.exits import ExitCode


def refuse(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What is said where the usage is wrong."""
    with pytest.raises(SystemExit) as ended:
        main(["rank", "--output", "json", *words])
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (ExitCode.USAGE, "")
    return str(json.loads(said.err)["error"]["message"])


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
def test_wrong_usage_is_code_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With one sentence about it."""
    assert said in refuse(words, capsys)


@pytest.mark.parametrize("missing", ["numpy", "scipy"])
def test_without_the_extra_it_says_what_to_install(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where NumPy or SciPy is not installed, nothing is read, and the sentence names the extra."""
    for name in [each for each in sys.modules if each.split(".")[0] == missing or "ranking" in each]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    assert "pip install 'llmctl[rank]'" in refuse(["--file", os.devnull], capsys)
