"""What `deploy/` hands out holds true: it can be read, names what exists, and waits long enough."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from llmctl.app import app as cli
from service.settings import ALLOWLIST_OF_CALLER, PREFIX, Settings
from service.web.connection import LINGER_SECONDS
from service.web.server import CLOSE_LIMIT_SECONDS, LAST_REQUESTS_LIMIT_SECONDS
from tests.waiting import HANG_SECONDS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file() and path.name != ".env")
UNITS = sorted((DEPLOY / "systemd").iterdir())
CLOSING_SECONDS = LAST_REQUESTS_LIMIT_SECONDS + CLOSE_LIMIT_SECONDS + LINGER_SECONDS + 5
"""After the drain: what the web side takes at most, and five seconds for the publisher."""


class UnitParser(configparser.RawConfigParser):
    """systemd's files: names keep their case, and a name may come again."""

    def __init__(self) -> None:
        super().__init__(strict=False, delimiters=("=",), comment_prefixes=("#", ";"), interpolation=None)

    def optionxform(self, optionstr: str) -> str:
        """As it is written."""
        return optionstr


def read_unit(name: str) -> configparser.RawConfigParser:
    """A unit file."""
    unit = UnitParser()
    unit.read_string((DEPLOY / "systemd" / name).read_text())
    return unit


def find_objection(words: list[str]) -> str | None:
    """Why this is no command of llmctl; None where it is one. What is no option is an argument."""
    command: Any = typer.main.get_command(cli)
    rest = list(words)
    while hasattr(command, "commands"):
        if not rest or rest[0] not in command.commands:
            return f"{' '.join(words)}: no command {rest[0] if rest else ''}"
        command = command.commands[rest.pop(0)]
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    strange = [word for word in rest if word.startswith("-") and word.partition("=")[0] not in known]
    return f"{' '.join(words)}: no option {strange[0]}" if strange else None


def find_containers(node: Any) -> Iterator[dict[str, Any]]:
    """Everything that runs our image, in a manifest or a compose file."""
    if isinstance(node, dict):
        if str(node.get("image", "")).startswith("llmctl:"):
            yield node
        for each in node.values():
            yield from find_containers(each)
    elif isinstance(node, list):
        for each in node:
            yield from find_containers(each)


def list_commands() -> Iterator[list[str]]:
    """What the files have llmctl do, after the image's entry point or the name of the program."""
    for path in FILES:
        if path.suffix == ".yaml":
            for document in yaml.safe_load_all(path.read_text()):
                for each in find_containers(document):
                    command = each.get("args", each.get("command"))
                    if command is not None:
                        yield [re.sub(r"\$\{\w+:-(\w+)\}", r"\1", word) for word in command]
    for line in re.findall(r"exec llmctl ([^\"]+)\"", (DEPLOY / "kubernetes" / "kafka.yaml").read_text()):
        yield shlex.split(line)
    yield read_unit("llmctl.service")["Service"]["ExecStart"].split()[1:]
    text = "".join(path.read_text() for path in FILES).replace("\\\n", " ")
    yield from (shlex.split(line) for line in re.findall(r"^\$ llmctl ([^#\n]+)", text, re.MULTILINE))
    yield from (line.split() for line in re.findall(r"`llmctl\s([^`]+)`", text))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_setting_that_is_named_exists(path: Path) -> None:
    """No example sets what the service does not know."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    named = set(re.findall(rf"\b{PREFIX}[A-Z_]+", path.read_text()))

    assert {name for name in named if not name.startswith(PREFIX + ALLOWLIST_OF_CALLER)} <= known


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_document_can_be_read(path: Path) -> None:
    """YAML and JSON parse, and no key stands twice."""
    if path.suffix == ".yaml":
        assert all(document for document in yaml.load_all(path.read_text(), UniqueKeys))
    elif path.suffix == ".json":
        assert json.loads(path.read_text())


class UniqueKeys(yaml.SafeLoader):
    """Refuses what YAML lets pass: the second of two equal keys wins in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As the base does, after a look at the keys that are written here, not merged in."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.value != "<<"]
        assert len(keys) == len(set(keys)), f"a key stands twice in {sorted(map(str, keys))}"
        return super().construct_mapping(node, deep)


def test_every_command_that_is_run_exists() -> None:
    """No container, unit or text sends anybody to a command or an option that is not there."""
    commands = list(list_commands())

    assert len(commands) > 10
    assert [objection for each in commands if (objection := find_objection(each)) is not None] == []


@pytest.mark.parametrize("words", [["serv"], ["topics"], ["topics", "bootstrap", "--all"], []])
def test_a_command_that_does_not_exist_is_found(words: list[str]) -> None:
    """The check can fail."""
    assert find_objection(words) is not None


def test_nothing_secret_is_in_the_files() -> None:
    """Keys, tokens and passwords are left empty, refer to something else, or say that they are none."""
    innocent = r"$|\$\{\w+(:[-?][^}]*)?\}|fake$|…"
    for path in FILES:
        for name, value in re.findall(r"(\w*(?:TOKENS?|KEY|PASSWORD))[=:][ \t]*([^\n]*)", path.read_text()):
            assert re.match(innocent, value.strip('"')), f"{path.name}: {name} has a value"


def test_the_readme_names_every_file_and_no_other() -> None:
    """Whoever reads it knows what everything is for."""
    text = (DEPLOY / "README.md").read_text()
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    held = {path.relative_to(DEPLOY) for path in FILES} - {Path("README.md")}

    assert all((DEPLOY / name).exists() for name in named)
    assert [path for path in held if not any(path.is_relative_to(name) for name in named)] == []


def test_systemd_waits_longer_than_the_drain_takes() -> None:
    """SIGKILL cannot come while the service keeps its own limits."""
    service = read_unit("llmctl.service")["Service"]
    text = (DEPLOY / "systemd" / "llmctl.service").read_text()
    drain = float(re.findall(rf"{PREFIX}DRAIN_TIMEOUT_SECONDS=(\d+)", text)[0])

    assert float(service["TimeoutStopSec"]) >= drain + CLOSING_SECONDS
    assert (service["KillSignal"], service["SuccessExitStatus"]) == ("SIGTERM", "4")
    assert service["RestartPreventExitStatus"] == "2"
    assert service["ExecStart"].split()[0].rpartition("/")[2] == "llmctl"


def test_systemd_hands_over_what_the_service_takes() -> None:
    """One listening TCP socket on loopback, accepted by the service itself."""
    unit = read_unit("llmctl.socket")

    assert unit["Socket"]["ListenStream"] == f"127.0.0.1:{Settings.model_fields['port'].default}"
    assert unit["Socket"]["Accept"] == "no"
    assert "llmctl.socket" in read_unit("llmctl.service")["Unit"]["Requires"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_reads_its_units(path: Path, tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say; the program, which is not installed here, stands in."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for unit in UNITS:
        text = unit.read_text().replace("/opt/llmctl/bin/llmctl", shutil.which("true") or "/bin/true")
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / path.name],
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )

    ours = [line for line in done.stderr.splitlines() if "llmctl" in line]
    assert (done.returncode, ours) == (0, []), done.stderr
