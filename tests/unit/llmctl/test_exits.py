"""Exit codes are the documented ones, and every error carries one."""

import asyncio
import json

import pytest

from llmctl import exits
from llmctl.__main__ import main
from llmctl.exits import CliError, ExitCode
from llmctl.loop import own_tasks


def test_codes_are_the_documented_ones() -> None:
    """Scripts hold on to these numbers."""
    assert [int(code) for code in ExitCode] == [0, 1, 2, 3, 4, 5, 6, 130]


def test_every_error_has_its_own_code() -> None:
    """No two kinds of error end alike."""
    kinds = CliError.__subclasses__()
    assert {kind.code for kind in kinds} == set(ExitCode) - {ExitCode.DONE}
    assert all(getattr(exits, kind.__name__) is kind for kind in kinds)


@pytest.mark.parametrize(
    "words",
    [
        ["--nope"],
        ["nope"],
        ["submit"],
        ["submit", "--file", "x", "--prompt", "p"],
        ["submit", "--prompt", "p", "--essay-a", "-", "--essay-b", "-"],
        ["submit", "--prompt", "p", "--essay-a", "/nope/a", "--essay-b", "/nope/b", "--callback-topic", "t"],
        ["submit", "--file", "/nope/pairs.jsonl"],
        ["submit", "--file", "/"],
        ["submit", "--file", "/dev/null"],
        ["submit", "--file", "x", "--timeout", "5s"],
        ["submit", "--file", "x", "--concurrency", "0"],
        ["submit", "--file", "x", "--wait", "--dry-run"],
        ["submit", "--file", "/dev/null", "--metadata", "novalue"],
        ["--url", "nonsense", "submit", "--file", "/dev/stdin"],
        ["tail-callbacks", "--from-beginning", "--since", "5m"],
        ["tail-callbacks", "--run", "a", "--all-runs"],
        ["tail-callbacks", "--where", "stauts:error"],
        ["tail-callbacks", "--since", "yesterday"],
        ["tail-callbacks", "--count", "0"],
        ["--bootstrap-servers", "a:b", "tail-callbacks"],
        ["topics", "bootstrap", "no such name"],
        ["topics", "bootstrap", "--partitions", "0"],
        ["simulate", "broker", "slow", "soon"],
        ["simulate", "broker", "error", "NO_SUCH_ERROR"],
        ["up", "--port", "99999"],
        ["up", "--kafka-port", "1", "--bootstrap-servers", "a:1"],
    ],
)
def test_wrong_usage_is_one_sentence_and_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is wrong with the words: code 2, one line on stderr, nothing on stdout."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    said = capsys.readouterr()
    assert ended.value.code == ExitCode.USAGE
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert said.err.endswith((".\n", "there is.\n"))


def test_errors_are_json_where_data_is(capsys: pytest.CaptureFixture[str]) -> None:
    """A program that asked for JSON reads its errors as JSON too."""
    with pytest.raises(SystemExit) as ended:
        main(["submit", "--output", "json"])
    said = capsys.readouterr()
    assert ended.value.code == ExitCode.USAGE
    assert json.loads(said.err)["error"] | {"message": ""} == {"kind": "usage", "message": "", "exit_code": 2}


def test_hostile_words_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """An error that quotes what was typed quotes it harmlessly."""
    with pytest.raises(SystemExit):
        main(["submit", "--file", "/nope/\x1b]0;title\x07"])
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["submit", "--help"], ["topics", "--help"]])
def test_asking_is_no_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Help and version go to stdout and end with 0."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    said = capsys.readouterr()
    assert (ended.value.code, said.err) == (0, "")
    assert "llmctl" in said.out


async def test_a_task_groups_first_problem_is_raised_itself() -> None:
    """What a task says is not hidden in a group."""

    async def fail() -> None:
        raise exits.Unreachable("nobody there")

    async def work() -> None:
        async with own_tasks() as tasks:
            tasks.create_task(fail())
            await asyncio.Event().wait()

    with pytest.raises(exits.Unreachable, match="nobody there"):
        await work()
