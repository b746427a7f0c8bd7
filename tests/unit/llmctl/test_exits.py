"""Exit codes are the documented ones, and every error carries one."""

import asyncio
import json
import shlex

import pytest

from llmctl import exits
from llmctl.exits import CliError, ExitCode
from llmctl.loop import own_tasks
from tests.unit.llmctl.conftest import Run


def test_codes_are_the_documented_ones() -> None:
    assert [int(code) for code in ExitCode] == [0, 1, 2, 3, 4, 5, 6, 130]


def test_every_error_has_its_own_code() -> None:
    kinds = CliError.__subclasses__()
    assert {kind.code for kind in kinds} == set(ExitCode) - {ExitCode.DONE}
    assert all(getattr(exits, kind.__name__) is kind for kind in kinds)


@pytest.mark.parametrize(
    "words",
    [
        *(
            "--nope",
            "nope",
            "submit",
            "submit --file x --prompt p",
            "submit --prompt p --essay-a - --essay-b -",
        ),
        "submit --prompt p --essay-a /nope/a --essay-b /nope/b --callback-topic t",
        *("submit --file /nope/pairs.jsonl", "submit --file /", "submit --file /dev/null"),
        *(
            "submit --file x --timeout 5s",
            "submit --file x --concurrency 0",
            "submit --file x --wait --dry-run",
        ),
        *("submit --file /dev/null --metadata novalue", "--url nonsense submit --file /dev/stdin"),
        *("tail-callbacks --from-beginning --since 5m", "tail-callbacks --run a --all-runs"),
        *(
            "tail-callbacks --where stauts:error",
            "tail-callbacks --since yesterday",
            "tail-callbacks --count 0",
        ),
        *("--bootstrap-servers a:b tail-callbacks", "topics bootstrap 'no such name'"),
        *(
            "topics bootstrap --partitions 0",
            "simulate broker slow soon",
            "simulate broker error NO_SUCH_ERROR",
        ),
        *("up --port 99999", "up --kafka-port 1 --bootstrap-servers a:1"),
    ],
)
def test_wrong_usage_is_one_sentence_and_code_2(words: str, run_llmctl: Run) -> None:
    ended = run_llmctl(*shlex.split(words))
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    assert len(ended.err.splitlines()) == 1
    assert ended.err.endswith((".\n", "there is.\n"))


def test_errors_are_json_if_data_is(run_llmctl: Run) -> None:
    ended = run_llmctl("submit", "--output", "json")
    assert ended.code == ExitCode.USAGE
    assert json.loads(ended.err)["error"] | {"message": ""} == {
        "kind": "usage",
        "message": "",
        "exit_code": 2,
    }


def test_hostile_words_do_not_reach_the_terminal(run_llmctl: Run) -> None:
    assert "\x1b" not in run_llmctl("submit", "--file", "/nope/\x1b]0;title\x07").err


@pytest.mark.parametrize("words", [["--help"], ["submit", "--help"], ["topics", "--help"]])
def test_help_goes_to_stdout_and_exits_0(words: list[str], run_llmctl: Run) -> None:
    ended = run_llmctl(*words)
    assert (ended.code, ended.err) == (0, "")
    assert "llmctl" in ended.out


async def test_a_task_groups_first_problem_is_raised_itself() -> None:
    async def fail() -> None:
        raise exits.Unreachable("nobody there")

    async def work() -> None:
        async with own_tasks() as tasks:
            tasks.create_task(fail())
            await asyncio.Event().wait()

    with pytest.raises(exits.Unreachable, match="nobody there"):
        await work()
