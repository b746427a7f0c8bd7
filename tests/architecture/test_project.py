"""The project as a thing to build and to pass on: locked, licensed, and free of traces of one machine."""

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import HANG_SECONDS

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
NOT_OURS = {"build", "dist", "htmlcov", "__pycache__", "node_modules"}
"""Folders that tools make; hidden ones are left out as well, but for those that are tracked."""
TRACKED_HIDDEN = {".ci", ".github"}

TRACES: dict[str, str] = {
    "a home folder": r"/(?:home|Users)/[a-z_][\w.-]*/|/root/",
    "a workplace's folder": r"(?<![\w.}~-])/(?:work|workspace|workspaces|builds|mnt)/\w",
    "a package index": r"https?://[\w.:-]+/(?:simple|packages|maven2)/",
    "an index option": r"--(?:extra-)?index-url|--find-links|--trusted-host",
    "a private mirror": r"\bartifactory\b|\bnexus\b",
}

_REQUIREMENT = re.compile(r"[a-z0-9][a-z0-9._-]*(?:\[[a-z0-9,._-]+\])?==[^\s;]+(?: ; [^\\]+)?")
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def read_project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def read_lock(path: Path) -> Iterator[tuple[str, list[str]]]:
    logical_lines = path.read_text().replace("\\\n", " ").splitlines()
    for line in logical_lines:
        if line.strip() and not line.startswith("#"):
            requirement, *options = re.split(r"\s+(?=--)", line.strip())
            yield requirement, options


def find_lock_faults(path: Path) -> list[str]:
    return [
        requirement
        for requirement, options in read_lock(path)
        if not _REQUIREMENT.fullmatch(requirement)
        or not options
        or not all(_HASH.fullmatch(option.strip()) for option in options)
    ]


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found.group()).lower()


def walk_files(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = [
            each
            for each in folders
            if each not in NOT_OURS
            and not each.endswith(".egg-info")
            and (not each.startswith(".") or each in TRACKED_HIDDEN)
        ]
        yield from (Path(folder) / each for each in files if not each.endswith((".pyc", ".db")))


def find_traces(root: Path) -> list[str]:
    found = []
    for path in walk_files(root):
        if path == Path(__file__):
            continue
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(lines, start=1):
            for what, pattern in TRACES.items():
                if re.search(pattern, line):
                    found.append(f"{path.relative_to(root)}:{number}: {what}")
    return found


def test_every_version_is_locked_by_hash() -> None:
    assert [path.name for path in LOCKS] == ["dev.lock", "docs.lock", "runtime.lock"]
    for path in LOCKS:
        assert len(list(read_lock(path))) > 10
        assert find_lock_faults(path) == []


@pytest.mark.parametrize(
    "line",
    [
        "httpx>=0.28 --hash=sha256:" + "a" * 64,
        "httpx==0.28.1",
        "httpx==0.28.1 --hash=sha256:abc",
        "httpx==0.28.1 --hash=md5:" + "a" * 64,
        "httpx @ https://example.org/httpx.whl --hash=sha256:" + "a" * 64,
        "--index-url https://example.org/simple",
        "-e .",
    ],
)
def test_a_loose_line_in_a_lock_is_found(line: str, tmp_path: Path) -> None:
    lock = tmp_path / "some.lock"
    good = f"anyio==4.0 ; sys_platform != 'win32' \\\n    --hash=sha256:{'b' * 64}\n"
    lock.write_text(good)
    assert find_lock_faults(lock) == []
    lock.write_text(f"{good}{line}\n")
    assert len(find_lock_faults(lock)) == 1


def test_the_locks_hold_everything_that_is_asked_for() -> None:
    project = read_project()
    runtime, dev = (
        {name_of(each): each for each, _ in read_lock(ROOT / "requirements" / f"{kind}.lock")}
        for kind in ("runtime", "dev")
    )
    asked = {name_of(each) for each in project["project"]["dependencies"]}
    asked_to_develop = {
        name_of(each) for each in project["dependency-groups"]["dev"] if isinstance(each, str)
    }
    assert asked <= set(runtime)
    assert asked_to_develop <= set(dev)
    assert {name: dev.get(name) for name in runtime} == runtime


def test_nothing_names_one_machine() -> None:
    assert find_traces(ROOT) == []


@pytest.mark.parametrize(
    "line",
    [
        "see /home/ann/project/",
        "see /Users/ann/project",
        "cd /root/x",
        "cp /builds/a b",
        "pip install --index-url https://example.org/index x",
        "https://example.org/packages/x.whl",
    ],
)
def test_a_trace_of_a_machine_is_found(line: str, tmp_path: Path) -> None:
    """The check for traces can fail, in any kind of text file; routes and public pages are no traces."""
    innocent = "GET /v1/work/items, a/work/b, fail at home, ~/.config/llmctl, https://example.org/project/x"
    (tmp_path / "notes.txt").write_text(f"{innocent}\n{line}\n")
    (tmp_path / "picture.bin").write_bytes(b"\xff\xfe" + line.encode())
    assert [trace.split(": ")[0] for trace in find_traces(tmp_path)] == ["notes.txt:2"]


def test_license_is_apache_2() -> None:
    project = read_project()["project"]
    text = (ROOT / "LICENSE").read_text()
    assert re.match(r"\s*Apache License\s+Version 2\.0, January 2004\s", text)
    assert "END OF TERMS AND CONDITIONS" in text
    assert (project["license"], project["license-files"]) == ("Apache-2.0", ["LICENSE"])


def test_oldest_python_is_3_11_for_users_and_checkers() -> None:
    document = read_project()
    assert document["project"]["requires-python"] == ">=3.11"
    assert document["tool"]["ruff"]["target-version"] == "py311"
    assert document["tool"]["mypy"]["python_version"] == "3.11"


def test_the_gates_are_shut() -> None:
    tools = read_project()["tool"]
    assert tools["mypy"]["strict"] is True
    assert tools["pytest"]["ini_options"]["filterwarnings"] == ["error"]
    assert HANG_SECONDS < tools["pytest"]["ini_options"]["timeout"] <= 4 * HANG_SECONDS
    assert {"--strict-markers", "--strict-config"} <= set(tools["pytest"]["ini_options"]["addopts"])
    assert tools["coverage"]["run"]["branch"] is True
