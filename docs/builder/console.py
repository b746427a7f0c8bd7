"""The commands in the pages: read from console blocks, run as a reader would, held against what is shown.

A block begins with ```` ```console ````. Each command after `$ ` is one for bash, and goes on where a line
ends in a backslash or a here-document is open. `# exit code N` at its end says how it ends, where that is not
0. The lines below it are what it prints: each must come, in that order; `…` stands for anything within a
line, and lines may be left out.

A comment before the block says what is different about it: `<!-- not run: WHY -->`, or `<!-- until: TEXT -->`
for commands that go on until Ctrl-C, which is pressed when the text has been seen.
"""

import codecs
import errno
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

INTERRUPTED = 130
_BLOCK = re.compile(
    r"(?:^ *<!-- (?P<mark>not run|until): (?P<text>[^\n]+?) -->\n\n?)?"
    r"^(?P<indent> *)```console\n(?P<body>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_PROMPT = "$ "
_HERE_DOCUMENT = re.compile(r"<<'?(\w+)'?")
_EXIT_CODE = re.compile(r"# exit code (\d+)$")
_URL, _SERVERS = "http://127.0.0.1:8080", "127.0.0.1:9092"
"""What `llmctl up` prints, and so what the pages say."""
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


@dataclass(frozen=True)
class Command:
    """One command of a page."""

    page: str
    text: str
    output: tuple[str, ...]
    """What the page shows below it."""
    not_run: str | None = None
    """Why it cannot be run here."""
    until: str | None = None
    """What it prints before Ctrl-C is pressed; None where it ends by itself."""

    @property
    def exit_code(self) -> int:
        """How it ends."""
        said = _EXIT_CODE.search(self.text)
        return int(said[1]) if said else 0


@dataclass(frozen=True)
class Ended:
    """What came of a command."""

    code: int
    output: str


def read_commands(page: str, text: str) -> Iterator[Command]:
    """The commands of a page, in their order."""
    for block in _BLOCK.finditer(text):
        mark, said = block["mark"], block["text"]
        for command, output in _split(textwrap.dedent(block["body"]).splitlines()):
            yield Command(
                page,
                command,
                output,
                not_run=said if mark == "not run" else None,
                until=said if mark == "until" else None,
            )


def _split(lines: list[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    command: list[str] = []
    output: list[str] = []
    for line in lines:
        if command and _is_open("\n".join(command)):
            command.append(line)
        elif line.startswith(_PROMPT):
            if command:
                yield "\n".join(command), tuple(output)
            command, output = [line.removeprefix(_PROMPT)], []
        elif line.strip():
            output.append(line)
    if command:
        yield "\n".join(command), tuple(output)


def _is_open(text: str) -> bool:
    """Whether bash would go on reading: after a backslash, in quotes, in a here-document."""
    document = _HERE_DOCUMENT.search(text)
    if document is not None:
        return document[1] not in text[document.end() :].split("\n")
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return True
    return text.endswith("\\")


@dataclass(frozen=True)
class Stack:
    """Where the commands of the pages find service and Kafka, instead of where `llmctl up` has them."""

    url: str
    bootstrap_servers: str

    def move(self, text: str) -> str:
        """A command with these addresses in the place of the usual ones."""
        return text.replace(_URL, self.url).replace(_SERVERS, self.bootstrap_servers)

    def make_environment(self, path: str) -> dict[str, str]:
        """The environment of a reader whose programs are in the folder `path`."""
        kept = {
            name: os.environ[name] for name in ("HOME", "LANG", "PATH", "PYTHONPATH") if name in os.environ
        }
        return {
            **kept,
            "PATH": f"{path}{os.pathsep}{kept.get('PATH', os.defpath)}",
            "TERM": "dumb",
            "NO_COLOR": "1",
            "LLMCTL_URL": self.url,
            "LLMCTL_BOOTSTRAP_SERVERS": self.bootstrap_servers,
        }


def run_command(command: Command, folder: Path, stack: Stack, limit_seconds: float) -> Ended:
    """Runs one command with a terminal of its own; a command that outlasts the limit is killed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(  # noqa: S603 - commands of our own pages
        ["bash", "-o", "pipefail", "-c", stack.move(command.text)],  # noqa: S607
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=folder,
        env=stack.make_environment(str(Path(sys.executable).parent)),
        start_new_session=True,
    )
    os.close(theirs)
    try:
        output = _read_until_end(ours, process, command.until, limit_seconds)
        return Ended(process.wait(limit_seconds), _CONTROL.sub("", output))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        os.close(ours)


def _read_until_end(
    terminal: int, process: subprocess.Popen[bytes], until: str | None, limit_seconds: float
) -> str:
    deadline = time.monotonic() + limit_seconds
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    output, pressed = "", until is None
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([terminal], [], [], left)[0]:
            os.killpg(process.pid, signal.SIGKILL)
            return f"{output}\n(not over after {limit_seconds:g} s)"
        try:
            chunk = os.read(terminal, 65_536)
        except OSError as end:
            if end.errno != errno.EIO:  # how a terminal says that nobody has it open any more
                raise
            return output
        if not chunk:
            return output
        output += decoder.decode(chunk)
        if not pressed and until is not None and until in output:
            os.killpg(process.pid, signal.SIGINT)
            pressed = True


def find_difference(command: Command, ended: Ended) -> str | None:
    """What is not as the page says; None where all is."""
    expected = {0, INTERRUPTED, -signal.SIGINT} if command.until else {command.exit_code}
    if ended.code not in expected:
        return f"ended with {ended.code}"
    lines = iter(_squeeze(line) for line in ended.output.splitlines())
    for shown in command.output:
        pattern = re.compile(".*".join(re.escape(part) for part in _squeeze(shown).split("…")))
        if not any(pattern.fullmatch(line) for line in lines):
            return f"does not print {shown!r}"
    return None


def _squeeze(line: str) -> str:
    return " ".join(line.split())
