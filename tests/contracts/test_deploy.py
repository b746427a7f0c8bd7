"""What `deploy/` hands out holds true: it can be read, names what exists, and waits long enough."""

import configparser
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from llmctl.app import app as cli
from service.settings import ALLOWLIST_OF_CALLER, PREFIX, Settings
from tests.contracts.deploying import CLOSING_SECONDS, DEPLOY, run_tool

FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file() and path.name != ".env")
UNITS = sorted((DEPLOY / "systemd").iterdir())


class UnitParser(configparser.RawConfigParser):
    """systemd's files: names keep their case, and a name may come again."""

    def __init__(self) -> None:
        super().__init__(strict=False, delimiters=("=",), comment_prefixes=("#", ";"), interpolation=None)

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def read_unit(name: str) -> configparser.RawConfigParser:
    unit = UnitParser()
    unit.read_string((DEPLOY / "systemd" / name).read_text())
    return unit


def find_objection(words: list[str]) -> str | None:
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
    if isinstance(node, dict):
        if str(node.get("image", "")).startswith("llmctl:"):
            yield node
        for each in node.values():
            yield from find_containers(each)
    elif isinstance(node, list):
        for each in node:
            yield from find_containers(each)


def list_commands() -> Iterator[list[str]]:
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


def test_every_setting_that_is_named_exists() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for path in FILES:
        named = set(re.findall(rf"\b{PREFIX}[A-Z_]+", path.read_text()))
        assert {name for name in named if not name.startswith(PREFIX + ALLOWLIST_OF_CALLER)} <= known, path


def test_every_document_can_be_parsed_and_has_unique_keys() -> None:
    for path in FILES:
        if path.suffix == ".yaml":
            assert all(yaml.load_all(path.read_text(), UniqueKeys)), path
        elif path.suffix == ".json":
            assert json.loads(path.read_text()), path


class UniqueKeys(yaml.SafeLoader):
    """Refuses what YAML lets pass: the second of two equal keys wins in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.value != "<<"]
        assert len(keys) == len(set(keys)), f"a key stands twice in {sorted(map(str, keys))}"
        return super().construct_mapping(node, deep)


def test_every_command_that_is_run_exists() -> None:
    commands = list(list_commands())

    assert len(commands) > 10
    assert [objection for each in commands if (objection := find_objection(each)) is not None] == []


@pytest.mark.parametrize("words", [["serv"], ["topics"], ["topics", "bootstrap", "--all"], []])
def test_a_command_that_does_not_exist_is_found(words: list[str]) -> None:
    assert find_objection(words) is not None


def test_nothing_secret_is_in_the_files() -> None:
    innocent = r"$|\$\{\w+(:[-?][^}]*)?\}|fake$|…"
    for path in FILES:
        for name, value in re.findall(r"(\w*(?:TOKENS?|KEY|PASSWORD))[=:][ \t]*([^\n]*)", path.read_text()):
            assert re.match(innocent, value.strip('"')), f"{path.name}: {name} has a value"


def test_the_readme_names_every_file_and_no_other() -> None:
    text = (DEPLOY / "README.md").read_text()
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    held = {path.relative_to(DEPLOY) for path in FILES} - {Path("README.md")}

    assert all((DEPLOY / name).exists() for name in named)
    assert [path for path in held if not any(path.is_relative_to(name) for name in named)] == []


def test_systemd_waits_longer_than_the_drain_takes() -> None:
    service = read_unit("llmctl.service")["Service"]
    text = (DEPLOY / "systemd" / "llmctl.service").read_text()
    drain = float(re.findall(rf"{PREFIX}DRAIN_TIMEOUT_SECONDS=(\d+)", text)[0])

    assert float(service["TimeoutStopSec"]) >= drain + CLOSING_SECONDS
    assert (service["KillSignal"], service["SuccessExitStatus"]) == ("SIGTERM", "4")
    assert service["RestartPreventExitStatus"] == "2"
    assert service["ExecStart"].split()[0].rpartition("/")[2] == "llmctl"


def test_systemd_hands_over_what_the_service_takes() -> None:
    unit = read_unit("llmctl.socket")

    assert unit["Socket"]["ListenStream"] == f"127.0.0.1:{Settings.model_fields['port'].default}"
    assert unit["Socket"]["Accept"] == "no"
    assert "llmctl.socket" in read_unit("llmctl.service")["Unit"]["Requires"]


def test_systemd_reads_its_units(tmp_path: Path) -> None:
    """The paths of programs that are not installed here are replaced by that of `true`."""
    for unit in UNITS:
        text = unit.read_text().replace("/opt/llmctl/bin/llmctl", shutil.which("true") or "/bin/true")
        (tmp_path / unit.name).write_text(text)
    for unit in UNITS:
        done = run_tool("systemd-analyze", "verify", "--man=no", tmp_path / unit.name)
        ours = [line for line in done.stderr.splitlines() if "llmctl" in line]
        assert (done.returncode, ours) == (0, []), done.stderr
