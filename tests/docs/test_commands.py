"""Every command in the pages does what the pages say: run page by page, as a reader would, on one stack."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from docs.builder.console import Command, Ended, Stack, find_difference, read_commands, run_command
from docs.builder.stage import PAGES, ROOT
from llmctl.app import app
from tests.waiting import HANG_SECONDS

GENERATOR_LIMITED = 6
USAGE_TOPIC = "huleedu.llm_provider.usage.v1"
"""As the pages name it."""
NOT_RUN = {
    "it sets up a virtual environment of its own; the tutorial runs `llmctl demo`",
    "it changes the shell that it is typed into",
    "the commands below have such a stack, on ports of its own",
    "needs systemd",
    "needs a cluster",
    "needs Docker",
    "needs two installed versions",
    "it takes the whole terminal; tests/tui drives it",
    "needs a collector; tests/flow/test_traces.py has one",
    "it is the service itself, with a key that costs money",
    "needs a system that is not this one",
    "it takes minutes and both cores; tests/process tests it",
}
"""Why a command may be left out; another reason is for whoever reads this list to weigh."""
MOST_LEFT_OUT = 0.25
READERS_TOOLS = ("bash", "curl", "jq")
DONE_WHILE_READ = {"--version", "--help", "-h", "--install-completion", "--show-completion"}
"""Options that the parser carries out itself."""


def list_pages() -> dict[str, list[Command]]:
    found = {}
    for path in sorted(PAGES.rglob("*.md")):
        name = str(path.relative_to(PAGES))
        commands = list(read_commands(name, path.read_text()))
        if commands:
            found[name] = commands
    return found


ALL_PAGES = list_pages()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    missing = [name for name in READERS_TOOLS if shutil.which(name) is None]
    if missing:
        message = f"The pages use {', '.join(missing)}, which this machine has not."
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    folder = tmp_path_factory.mktemp("stack")
    with (folder / "up.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "llmctl", "up", "--usage-topic", USAGE_TOPIC, "--output", "json"]
            + [word for name in ("--port", "--kafka-port", "--provider-port") for word in (name, "0")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=folder,
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, (folder / "up.log").read_text()
    where = json.loads(line)
    yield Stack(where["url"], where["bootstrap_servers"])
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    process.stdout.close()
    process.wait(HANG_SECONDS)


@pytest.mark.parametrize(
    "page", [name for name, page in ALL_PAGES.items() if any(not each.not_run for each in page)]
)
def test_a_page_does_what_it_says(page: str, stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    for command in ALL_PAGES[page]:
        if command.not_run is None:
            ended = run_command(command, tmp_path, stack, HANG_SECONDS)
            if (
                ended.code == GENERATOR_LIMITED
            ):  # the machine was too busy to send in time: nothing was measured
                ended = run_command(command, tmp_path, stack, HANG_SECONDS)
            difference = find_difference(command, ended)
            assert difference is None, f"{page}: {command.text}\n{difference}; it printed:\n{ended.output}"


def test_few_commands_are_left_out_and_each_says_why() -> None:
    """Only for reasons that are listed here, and every reason is of use."""
    commands = [command for page in ALL_PAGES.values() for command in page]
    left_out = [command for command in commands if command.not_run is not None]
    assert {command.not_run for command in left_out} == NOT_RUN
    assert len(left_out) / len(commands) <= MOST_LEFT_OUT


def list_unrun_lines() -> list[str]:
    """What only the parser sees: commands of ours that are left out, and those of the README."""
    readme = read_commands("README.md", (ROOT / "README.md").read_text())
    left_out = (command for page in ALL_PAGES.values() for command in page if command.not_run)
    words = (shlex.split(command.text, comments=True) for command in [*readme, *left_out])
    return [shlex.join(cut_pipe(each)) for each in words if each and "llmctl" in each]


def cut_pipe(words: list[str]) -> list[str]:
    """A command of ours alone, without variables before it and what reads its output."""
    begin = words.index("llmctl")
    ends = [words.index(mark) for mark in ("|", "&&", ">") if mark in words]
    return words[begin : min(ends, default=None)]


@pytest.mark.parametrize("line", list_unrun_lines())
def test_a_command_that_is_not_run_is_what_the_parser_takes(line: str) -> None:
    parse_line(line)


def parse_line(line: str) -> None:
    """Reads a command line; raises where the parser does not take it. Nothing of it is carried out."""
    words = shlex.split(line)[1:]
    command = typer.main.get_command(app)
    if words[0] in DONE_WHILE_READ:
        assert any(words[0] in option.opts for option in command.params)
        return
    context = command.make_context("llmctl", words)
    while context._protected_args:
        rest = [*context._protected_args, *context.args]
        name, command, rest = context.command.resolve_command(context, rest)  # type: ignore[attr-defined]
        context = command.make_context(name, rest, parent=context)


PAGE = """\
# A page

<!-- not run: needs Docker -->

```console
$ docker ps
```

1. In a list:

    ```console
    $ cat > note.txt <<'EOF'
    one
    $ two
    EOF
    $ cat note.txt && \\
        false  # exit code 1
    one
    …
    ```

<!-- until: ready -->

```console
$ echo 'a
b'; echo ready; sleep 60
```
"""


def test_commands_are_read_as_bash_reads_them() -> None:
    docker, note, cat, echo = read_commands("page.md", PAGE)
    assert (docker.text, docker.not_run) == ("docker ps", "needs Docker")
    assert note.text == "cat > note.txt <<'EOF'\none\n$ two\nEOF"
    assert (cat.text, cat.exit_code) == ("cat note.txt && \\\n    false  # exit code 1", 1)
    assert cat.output == ("one", "…")
    assert (echo.text, echo.until) == ("echo 'a\nb'; echo ready; sleep 60", "ready")


def test_commands_are_run_as_a_reader_runs_them(tmp_path: Path) -> None:
    """In one folder, each with a terminal, until Ctrl-C where the page says so."""
    stack = Stack("http://service", "kafka:9092")
    _, note, cat, echo = read_commands("page.md", PAGE)
    for command in (note, cat, echo):
        assert find_difference(command, run_command(command, tmp_path, stack, HANG_SECONDS)) is None
    moved = Command("page.md", "test -t 1 && echo http://127.0.0.1:8080/x 127.0.0.1:9092", ())
    assert run_command(moved, tmp_path, stack, HANG_SECONDS).output.split() == [
        "http://service/x",
        "kafka:9092",
    ]


@pytest.mark.parametrize(
    ("ended", "difference"),
    [
        (Ended(0, "topic state\nresults   created 3\nend"), None),
        (Ended(0, "results created 3\ntopic state"), "does not print"),
        (Ended(0, "topic state\nresults exists 3"), "does not print"),
        (Ended(1, "topic state\nresults created 3"), "ended with 1"),
    ],
)
def test_what_differs_from_the_page_is_found(ended: Ended, difference: str | None) -> None:
    command = Command("page.md", "llmctl topics", ("topic  state", "results created …"))
    found = find_difference(command, ended)
    assert found is None if difference is None else found is not None and found.startswith(difference)
