"""Completion as a shell has it: bash loads the script and asks; what other shells ask is asked for them."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.flow.cli.conftest import Ended, Run
from tests.waiting import HANG_SECONDS

CONTEXTS = """
current = "laptop"
[contexts.production]
url = "https://llm.example.com"
environment = "prod"
[contexts.laptop]
url = "http://127.0.0.1:8080"
bootstrap_servers = "{servers}"
"""

Bash = Callable[[str], Awaitable[Ended]]


@pytest.fixture
def bash(tmp_path: Path, config_file: Path) -> Bash:
    """Runs lines in bash, with `llmctl` on the path and a home of its own."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    program = tmp_path / "bin" / "llmctl"
    program.parent.mkdir()
    patient = (
        "import llmctl.completion as c; c.TOPICS_LIMIT_SECONDS = 300; import llmctl.__main__ as m; m.main()"
    )
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c "{patient}" "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"

    async def run(lines: str) -> Ended:
        process = await asyncio.create_subprocess_exec(
            *("bash", "--norc", "-c", f"{lines}\n:"),  # the last word keeps bash from becoming the program
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PATH": path, "HOME": str(tmp_path), "LLMCTL_CONFIG": str(config_file)},
        )
        async with asyncio.timeout(HANG_SECONDS):
            out, err = await process.communicate()
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())

    return run


def ask(*words: str) -> str:
    """Returns what bash runs when somebody presses tab behind these words."""
    listed = " ".join(shlex.quote(word) for word in ("llmctl", *words))
    return (
        f"COMP_WORDS=({listed}); COMP_CWORD={len(words)}; "
        "_llmctl_completion llmctl; printf '%s\\n' \"${COMPREPLY[*]}\""
    )


async def test_bash_completes_what_the_script_says(
    bash: Bash, config_file: Path, bootstrap_servers: str, topic: str
) -> None:
    text = CONTEXTS.format(servers=bootstrap_servers)
    await asyncio.to_thread(config_file.write_text, text)
    questions = (
        ("undel",),
        ("--context", "prod"),
        ("up", "--scenario", "rate"),
        ("providers", "hold", "openr"),
        ("submit", "--wait", "--callback-topic", topic[:-3]),
    )
    lines = "\n".join(['eval "$(llmctl --show-completion)"', *(ask(*words) for words in questions)])
    answered = await bash(lines)
    assert answered.err == ""
    assert answered.out.splitlines() == ["undelivered", "production", "rate-limited", "openrouter", topic]


async def test_it_can_be_installed_for_good(bash: Bash, tmp_path: Path) -> None:
    installed = await bash("llmctl --install-completion")
    assert installed.code == 0
    assert str(tmp_path) in installed.out
    answered = await bash(f". ~/.bashrc\n{ask('dr')}")
    assert (answered.out, answered.err) == ("drain\n", "")


@pytest.mark.parametrize(
    ("shell", "begins", "question", "answer"),
    [
        ("zsh", "#compdef llmctl", {"_TYPER_COMPLETE_ARGS": "llmctl dr"}, '"drain":"Stop acceptance'),
        (
            "fish",
            "complete --command llmctl",
            {"_TYPER_COMPLETE_ARGS": "llmctl dr", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
            "drain\tStop acceptance",
        ),
        (
            "powershell",
            "Import-Module PSReadLine",
            {"_TYPER_COMPLETE_ARGS": "llmctl dr", "_TYPER_COMPLETE_WORD_TO_COMPLETE": "dr"},
            "drain:::Stop acceptance",
        ),
    ],
)
async def test_every_shell_has_its_script_and_its_answers(
    llmctl: Run, shell: str, begins: str, question: dict[str, str], answer: str
) -> None:
    script = await llmctl(env={"_LLMCTL_COMPLETE": f"source_{shell}"})
    assert (script.code, script.err) == (0, "")
    assert script.out.strip().startswith(begins)
    answered = await llmctl(env={"_LLMCTL_COMPLETE": f"complete_{shell}", **question})
    assert answer in answered.out


@pytest.fixture
def silent_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield int(listening.getsockname()[1])


async def test_a_broker_that_does_not_answer_is_none_of_the_prompts_business(
    llmctl: Run, silent_port: int
) -> None:
    words = f"llmctl --bootstrap-servers 127.0.0.1:{silent_port} tail-callbacks "
    ended = await llmctl(env={"_LLMCTL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "4"})
    assert (ended.code, ended.out.strip(), ended.err) == (0, "", "")
