"""The wheel as a user gets it: built, installed into an empty environment, and run from an empty folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.waiting import HANG_SECONDS

PACKAGES = ("llmctl", "service", "simulator")
DATA = ("essays", "pairs.jsonl", "scenarios", "schemas")
"""What the program reads of fixtures/."""
LOCK = ROOT / "requirements" / "runtime.lock"
PAIR = '{"user_prompt": "Which is better?", "essay_a": "One.", "essay_b": "Two."}\n'


@dataclass(frozen=True)
class Built:
    """The files of a build."""

    wheel: Path
    sdist: Path

    def read_wheel(self) -> dict[str, bytes]:
        with zipfile.ZipFile(self.wheel) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


def build(source: Path, folder: Path, *targets: str) -> None:
    """Builds offline, with the backend that is installed here."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder), *targets],
        cwd=source,
        check=True,
        capture_output=True,
        timeout=HANG_SECONDS,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Builds wheel and sdist of this tree."""
    folder = tmp_path_factory.mktemp("dist")
    build(ROOT, folder)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return Built(wheel, sdist)


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel and its dependencies, and an empty working folder."""

    bin: Path
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables of its programs: none of ours, and no other Python."""
        return {"HOME": str(self.folder), "PATH": f"{self.bin}:/usr/bin:/bin", "LANG": "C.UTF-8"}

    def run(
        self, *words: str, stdin: str = "", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program of the environment until it ends."""
        return subprocess.run(
            [str(self.bin / words[0]), *words[1:]],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={**self.environment, **(env or {})},
            timeout=HANG_SECONDS,
            check=False,
        )


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Installs the wheel with its dependencies, in the locked versions."""
    place = tmp_path_factory.mktemp("installed")
    uv, environment = str(Path(sys.executable).with_name("uv")), place / "environment"
    for words in (
        ("venv", "--python", sys.executable, str(environment)),
        (
            "pip",
            "install",
            "--python",
            str(environment / "bin" / "python"),
            "-c",
            str(LOCK),
            str(built.wheel),
        ),
    ):
        command = [uv, "--quiet", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS, check=False)
        if done.returncode:
            # Without a network nothing can be installed: a skip locally, an error in CI.
            offline = "error sending request" in done.stderr or "Could not connect" in done.stderr
            (pytest.skip if offline and not os.environ.get("CI") else pytest.fail)(done.stderr)
    folder = place / "empty"
    folder.mkdir()
    return Installed(environment / "bin", folder)


def list_sources() -> set[str]:
    """Returns every file of our packages, as git keeps it."""
    return {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def list_data() -> set[str]:
    """Returns every file of fixtures/ that the program reads."""
    return {
        path.relative_to(ROOT).as_posix()
        for name in DATA
        for path in [ROOT / "fixtures" / name, *(ROOT / "fixtures" / name).rglob("*")]
        if path.is_file()
    }


def test_the_wheel_holds_our_packages_their_data_and_nothing_else(built: Built) -> None:
    """It has no tests, and each package has a py.typed file."""
    names = {name for name in built.read_wheel() if ".dist-info/" not in name}
    assert names == list_sources() | {f"simulator/{name}" for name in list_data()}
    assert {f"{package}/py.typed" for package in PACKAGES} <= names


def test_the_metadata_says_what_a_registry_shows(built: Built) -> None:
    """Description, license with its text, Python version, readme in Markdown, and one program."""
    files = built.read_wheel()
    (info,) = {name.partition("/")[0] for name in files if ".dist-info/" in name}
    metadata = Parser().parsestr(files[f"{info}/METADATA"].decode())
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (metadata["Name"], metadata["Version"]) == (project["name"], project["version"])
    assert metadata["Summary"] == project["description"]
    assert (metadata["License-Expression"], metadata["Requires-Python"]) == ("Apache-2.0", ">=3.11")
    assert files[f"{info}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload() == (ROOT / "README.md").read_text()
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert (
        files[f"{info}/entry_points.txt"].split()
        == b"[console_scripts] llmctl = llmctl.__main__:main".split()
    )


def test_the_sdist_makes_the_same_wheel_again(built: Built, tmp_path: Path) -> None:
    """It has no tests, and the wheel depends neither on when nor on where it is built."""
    subprocess.run(["tar", "-xzf", str(built.sdist), "-C", str(tmp_path)], check=True, timeout=HANG_SECONDS)
    (source,) = tmp_path.iterdir()
    inside = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    beside = {"README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml", "PKG-INFO", ".gitignore"}
    assert inside == list_sources() | list_data() | beside
    build(source, tmp_path / "again", "-t", "wheel")
    (wheel,) = (tmp_path / "again").iterdir()
    assert wheel.read_bytes() == built.wheel.read_bytes()


COMMANDS: dict[str, tuple[str, ...]] = {
    "version by module": ("python", "-m", "llmctl", "--version"),
    "help": ("llmctl", "--help"),
    "help of the service": ("python", "-m", "service", "--help"),
    "submit --dry-run": ("llmctl", "submit", "--file", "-", "--callback-topic", "results", "--dry-run"),
    "schema openapi": ("llmctl", "schema", "openapi"),
    "schema asyncapi": ("llmctl", "schema", "asyncapi"),
    "schema jsonschema": ("llmctl", "schema", "jsonschema"),
    "capacity": ("llmctl", "simulate", "capacity", "--rate", "20/s", "--requests", "2000"),
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=list(COMMANDS))
def test_runs_in_an_empty_environment(installed: Installed, words: tuple[str, ...]) -> None:
    """No dependency is missing, and nothing is read from the source tree."""
    ended = installed.run(*words, stdin=PAIR)
    assert ended.returncode == 0, ended.stderr
    assert str(ROOT) not in ended.stdout + ended.stderr


def test_it_says_where_it_is_installed(installed: Installed) -> None:
    """In the environment, not in the source tree."""
    said = installed.run("llmctl", "--version").stdout
    assert str(installed.bin.parent) in said
    assert "editable" not in said


def test_the_demo_proves_itself(installed: Installed) -> None:
    ended = installed.run("llmctl", "demo", "--output", "json")
    assert ended.returncode == 0, ended.stderr
    ledger = json.loads(ended.stdout)["ledger"]
    assert (ledger["accepted"], ledger["ok"]) == (28, 28)
    assert list(installed.folder.iterdir()) == []


CLIENT = """
import asyncio, os
from llmctl.library import connect
async def main():
    async with connect(os.environ["URL"], os.environ["SERVERS"]) as client:
        result = await client.compare("Which is better?", "One.", "Two.", callback_topic=os.environ["TOPIC"])
        print(result.winner.value)
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def standing(installed: Installed) -> Iterator[dict[str, str]]:
    """Returns the addresses of `llmctl up`, and a topic."""
    ports = ("--port", "0", "--kafka-port", "0", "--provider-port", "0")
    process = subprocess.Popen(
        [str(installed.bin / "llmctl"), "up", *ports, "--output", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=installed.folder,
        env=installed.environment,
    )
    try:
        assert process.stdout is not None
        addresses = json.loads(process.stdout.readline())
        servers, topic = addresses["bootstrap_servers"], addresses["topics"][0]
        yield {"URL": addresses["url"], "SERVERS": servers, "TOPIC": topic}
    finally:
        process.terminate()
        process.communicate(timeout=HANG_SECONDS)


def test_doctor_submit_and_the_client_library_get_results(
    installed: Installed, standing: dict[str, str]
) -> None:
    places = ("--url", standing["URL"], "--bootstrap-servers", standing["SERVERS"], "--output", "json")
    doctor = installed.run("llmctl", "doctor", standing["TOPIC"], "--round-trip", *places)
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    words = ("submit", "--file", "-", "--callback-topic", standing["TOPIC"], "--wait")
    submit = installed.run("llmctl", *words, *places, stdin=PAIR)
    assert submit.returncode == 0, submit.stderr
    assert json.loads(submit.stdout)["result"]
    client = installed.run("python", "-c", CLIENT, env=standing)
    assert client.returncode == 0, client.stderr
    assert client.stdout.strip() in {"essay_a", "essay_b"}


def test_a_missing_extra_is_named(installed: Installed) -> None:
    """One sentence has the command that installs it."""
    for words, extra in ((("rank", "--file", "-"), "rank"), (("monitor", "--serve"), "web")):
        ended = installed.run("llmctl", *words, stdin=PAIR)
        assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
        assert f"`pip install 'llmctl[{extra}]'`" in ended.stderr


def test_the_bill_of_materials_names_what_is_installed(installed: Installed, tmp_path: Path) -> None:
    """Each component has its version and license, and our direct dependencies are among them."""
    tool, bill = Path(sys.executable).with_name("cyclonedx-py"), tmp_path / "bill.cdx.json"
    # `make sbom` has it validated against its schema too, which takes longer than all else here.
    options = ("--no-validate", "--pyproject", str(ROOT / "pyproject.toml"), "-o", str(bill))
    subprocess.run(
        [str(tool), "environment", *options, str(installed.bin / "python")],
        check=True,
        capture_output=True,
        timeout=HANG_SECONDS,
    )
    document = json.loads(bill.read_text())
    assert document["metadata"]["component"]["name"] == "llmctl"
    locked = {line.split(" ")[0] for line in LOCK.read_text().splitlines() if "==" in line}
    locked = {re.sub(r"\[.*\]", "", line) for line in locked}
    names = [(each["name"].lower().replace("_", "-"), each["version"]) for each in document["components"]]
    assert len(names) > 30
    assert {f"{name}=={number}" for name, number in names} <= locked
    assert all(each.get("licenses") for each in document["components"])
    (ours,) = [each for each in document["dependencies"] if each["ref"] == "root-component"]
    assert {"aiokafka", "typer"} <= {each.split("==")[0] for each in ours["dependsOn"]}
