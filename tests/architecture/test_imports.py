"""Which module may import which, read from the source."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.waiting import HANG_SECONDS

ROOT = Path(__file__).parents[2]
PACKAGES = ("service", "simulator", "llmctl")

ROOMS: dict[str, tuple[str, ...]] = {
    "service.contracts": (),
    "service.core": ("service.contracts",),
    "service.engine": ("service.contracts", "service.core"),
    "service.kafka": ("service.contracts", "service.core"),
    "service.queues": ("service.contracts", "service.core", "service.kafka"),
    "service.providers": ("service.contracts", "service.core"),
    "service.callbacks": ("service.contracts", "service.core", "service.kafka"),
    "service.telemetry": ("service.contracts", "service.core"),
    "service.web": ("service.contracts", "service.core", "service.engine"),
    "service.settings": ("service.contracts", "service.core"),
    "service.wiring": ("service",),
    "service.lifecycle": ("service",),
    "service.__main__": ("service",),
    "simulator": ("service.contracts",),
    "llmctl": ("service.contracts", "simulator"),
}
"""Each room and which of our rooms it may import beside itself; only those of the start reach the wiring."""

PURE_STDLIB = frozenset(
    {
        "__future__", "collections", "dataclasses", "datetime", "enum", "fnmatch", "functools", "hashlib",
        "json", "math", "re", "typing", "uuid",
    }
)  # fmt: skip
FOREIGN: dict[str, frozenset[str]] = {
    "service.contracts": PURE_STDLIB | {"pydantic"},
    "service.core": PURE_STDLIB | {"pydantic", "pydantic_core"},
    "service.engine": frozenset(sys.stdlib_module_names) | {"structlog"},
}
"""Everything outside this project that a room may import, where that is limited: the middle does no I/O."""

STARTS_A_TASK = {"create_task", "ensure_future"}


@dataclass(frozen=True)
class Module:
    name: str
    place: str
    tree: ast.Module
    is_package: bool


@dataclass(frozen=True)
class Import:
    line: int
    target: str


@cache
def read_modules(root: Path) -> dict[str, Module]:
    modules = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            place = path.relative_to(root)
            is_package = path.name == "__init__.py"
            name = ".".join(place.parent.parts if is_package else place.with_suffix("").parts)
            modules[name] = Module(name, place.as_posix(), ast.parse(path.read_text()), is_package)
    return modules


def imports_of(module: Module, modules: Mapping[str, Module]) -> Iterator[Import]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = resolve(module, node)
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                yield Import(node.lineno, inner if inner in modules else origin)
        elif isinstance(node, ast.Call) and name_of_call(node) in {"import_module", "__import__"}:
            literal = node.args[0] if node.args else None
            if isinstance(literal, ast.Constant) and isinstance(literal.value, str):
                yield Import(node.lineno, literal.value)


def resolve(module: Module, node: ast.ImportFrom) -> str:
    if node.level == 0:
        return node.module or ""
    parts = module.name.split(".")
    base = parts[: len(parts) - node.level + module.is_package]
    return ".".join([*base, *([node.module] if node.module else [])])


def name_of_call(node: ast.Call) -> str:
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def is_in(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def room_of(name: str) -> str | None:
    return next((room for room in ROOMS if is_in(name, room)), None)


def find_breaches(root: Path) -> list[str]:
    modules = read_modules(root)
    return sorted(
        {breach for module in modules.values() for breach in judge_module(module, modules)}
        | set(find_cycles(modules))
    )


def judge_module(module: Module, modules: Mapping[str, Module]) -> Iterator[str]:
    if module.is_package and len(module.tree.body) > (ast.get_docstring(module.tree) is not None):
        yield f"{module.place}: an __init__.py holds a docstring at most"
    room = room_of(module.name)
    if room is None and not module.is_package:
        yield f"{module.place}: {module.name} stands in no room of the house"
    elif room is not None:
        for imported in imports_of(module, modules):
            yield from judge_import(module, room, imported)
    for line in find_lost_tasks(module.tree):
        yield f"{module.place}:{line}: the task that is started here has no owner"


def judge_import(module: Module, room: str, imported: Import) -> Iterator[str]:
    target = imported.target
    place = f"{module.place}:{imported.line}"
    if target.split(".")[0] in PACKAGES:
        allowed = any(is_in(target, other) for other in (room, *ROOMS[room]))
    else:
        allowed = room not in FOREIGN or target.split(".")[0] in FOREIGN[room]
    if not allowed:
        yield f"{place}: {room} must not import {target}"


def find_lost_tasks(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        thrown_away = isinstance(node, ast.Expr) or (
            isinstance(node, ast.Assign)
            and all(isinstance(target, ast.Name) and target.id == "_" for target in node.targets)
        )
        if thrown_away and isinstance(node, ast.Expr | ast.Assign) and isinstance(node.value, ast.Call):
            call = node.value
            if name_of_call(call) in STARTS_A_TASK and not is_owned(call):
                yield node.lineno


def is_owned(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Attribute) or call.func.attr == "ensure_future":
        return False
    starter = ast.unparse(call.func.value)
    return starter != "asyncio" and "loop" not in starter


def find_cycles(modules: Mapping[str, Module]) -> Iterator[str]:
    graph = {
        name: {each.target for each in imports_of(module, modules) if each.target in modules}
        for name, module in modules.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1][:-1]
        first = circle.index(min(circle))
        yield "cycle: " + " <- ".join([*circle[first:], *circle[:first], circle[first]])


def test_no_module_breaks_a_rule() -> None:
    names = set(read_modules(ROOT))
    assert set(ROOMS) <= names, "a rule about a room that is gone holds for nothing"
    assert len(names) > 60
    assert find_breaches(ROOT) == []


HOUSE = {
    "service/contracts/__init__.py": '"""The language everyone speaks."""\n',
    "service/contracts/events.py": "import json\nfrom pydantic import BaseModel\n",
    "service/core/records.py": (
        "from service.contracts.events import json\nfrom pydantic_core import from_json\n"
    ),
    "service/engine/pool.py": (
        "import asyncio\nimport structlog\nfrom service.core import records\n"
        "async def work(group, keep):\n"
        "    group.create_task(keep())\n"
        "    kept = asyncio.create_task(keep())\n"
        "    keep(asyncio.ensure_future(kept))\n"
    ),
    "service/queues/memory.py": "import sqlite3\nfrom service.core.records import json\n",
    "service/queues/sqlite.py": "from .memory import sqlite3\n",
    "service/providers/mock.py": "import httpx\nimport service.contracts.events\n",
    "service/web/app.py": "from service.engine.pool import work\n",
    "service/wiring.py": "from service.queues.memory import sqlite3\nfrom service.web.app import work\n",
    "service/lifecycle.py": "from service import wiring\n",
    "simulator/stack.py": "from service.contracts.events import json\n",
    "llmctl/app.py": (
        "def main():\n    from simulator.stack import json\n    import service.contracts.events\n"
    ),
}


def build(root: Path, changes: Mapping[str, str]) -> Path:
    """Writes a small project with the same rooms; `changes` adds or replaces files."""
    for place, text in {**HOUSE, **changes}.items():
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in path.relative_to(root).parents[:-1]:
            (root / folder / "__init__.py").touch()
        path.write_text(text)
    return root


def test_allowed_imports_are_not_reported(tmp_path: Path) -> None:
    assert find_breaches(build(tmp_path, {})) == []


FORBIDDEN_IMPORTS = [
    # place, line of the import, source, what is imported
    ("service/contracts/topics.py", 1, "from service.core.records import json", "service.core.records"),
    ("service/contracts/topics.py", 1, "import orjson", "orjson"),
    ("service/contracts/topics.py", 1, "from pathlib import Path", "pathlib"),
    ("service/core/retry.py", 1, "from service.engine.pool import work", "service.engine.pool"),
    *[
        ("service/core/retry.py", 2, f"import json\nimport {library}", library)
        for library in ("asyncio", "socket", "sqlite3", "os", "time", "random", "logging")
    ],
    *[
        ("service/core/retry.py", 1, f"import {library}", library)
        for library in ("httpx", "aiokafka", "structlog")
    ],
    ("service/engine/relay.py", 1, "from service.queues import memory", "service.queues.memory"),
    ("service/engine/relay.py", 1, "import httpx", "httpx"),
    *[
        (f"service/{adapter}/other.py", 1, f"from service.{target} import x", f"service.{target}")
        for adapter, target in [
            ("queues", "providers.mock"), ("providers", "queues.memory"), ("callbacks", "queues.memory"),
            ("telemetry", "providers.mock"), ("queues", "engine.pool"), ("providers", "engine.pool"),
            ("callbacks", "engine.pool"), ("telemetry", "engine.pool"), ("providers", "web.app"),
        ]
    ],
    ("service/web/server.py", 1, "from service.queues.memory import x", "service.queues.memory"),
    ("service/web/server.py", 1, "from service.wiring import build", "service.wiring"),
    ("service/settings.py", 1, "from service import wiring", "service.wiring"),
    ("service/lifecycle.py", 1, "from llmctl.app import main", "llmctl.app"),
    ("simulator/stack.py", 1, "import llmctl", "llmctl"),
    ("simulator/stack.py", 1, "from service.core.records import json", "service.core.records"),
    ("simulator/stack.py", 1, "import service", "service"),
    ("llmctl/app.py", 2, "def main():\n    from service.lifecycle import run", "service.lifecycle"),
    # for type checkers, in a function, relative, and by name
    (
        "service/queues/other.py",
        3,
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from service.providers import mock",
        "service.providers.mock",
    ),
    ("service/queues/other.py", 2, "def f():\n    import service.engine.pool", "service.engine.pool"),
    ("service/queues/other.py", 1, "from ..providers.mock import httpx", "service.providers.mock"),
    (
        "service/queues/other.py",
        2,
        "import importlib\nimportlib.import_module('service.engine.pool')",
        "service.engine.pool",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("place", "line", "source", "imported"), FORBIDDEN_IMPORTS)
def test_forbidden_import_is_found(place: str, line: int, source: str, imported: str, tmp_path: Path) -> None:
    """One bad line in a small project in order is reported, and nothing but that line."""
    room = room_of(place.removesuffix(".py").replace("/", "."))
    breach = f"{place}:{line}: {room} must not import {imported}"

    assert find_breaches(build(tmp_path, {place: f"{source}\n"})) == [breach]


BREACHES = [
    ("service/utils/text.py", "", "{place}: service.utils.text stands in no room of the house"),
    ("service/globals.py", "", "{place}: service.globals stands in no room of the house"),
    (
        "service/core/__init__.py",
        '"""Core."""\nfrom service.core.records import json\n',
        "{place}: an __init__.py holds a docstring at most",
    ),
    (
        "service/queues/memory.py",
        "def f():\n    from service.queues.sqlite import sqlite3\n",
        "cycle: service.queues.memory <- service.queues.sqlite <- service.queues.memory",
    ),
    *[
        (
            "service/engine/relay.py",
            f"import asyncio\nasync def f(work, loop):\n    {statement}\n",
            "{place}:3: the task that is started here has no owner",
        )
        for statement in (
            "asyncio.create_task(work())", "asyncio.ensure_future(work())",
            "asyncio.get_running_loop().create_task(work())", "loop.create_task(work())",
            "_ = asyncio.create_task(work())", "create_task(work())",
        )
    ],
]  # fmt: skip


@pytest.mark.parametrize(("place", "source", "breach"), BREACHES)
def test_broken_rule_is_found(place: str, source: str, breach: str, tmp_path: Path) -> None:
    assert find_breaches(build(tmp_path, {place: source})) == [breach.format(place=place)]


def load_in_turn(*groups: list[str]) -> list[set[str]]:
    """Imports groups of modules one after the other in a fresh interpreter; returns all loaded after each."""
    program = "import sys\n" + "".join(
        f"import {', '.join(names)}\nprint(*sys.modules)\n" for names in groups
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=HANG_SECONDS,
        check=True,
    )
    return [set(line.split()) for line in done.stdout.splitlines()]


def test_contracts_and_core_load_no_other_module_and_no_library_for_io() -> None:
    groups = [
        [name for name in read_modules(ROOT) if is_in(name, room)]
        for room in ("service.contracts", "service.core")
    ]
    with_contracts, with_core = load_in_turn(*groups)
    ours, ours_with_core = (
        {name for name in loaded if name.split(".")[0] in PACKAGES} for loaded in (with_contracts, with_core)
    )
    io = {"httpx", "aiokafka", "sqlite3", "fastapi", "starlette", "structlog", "uvicorn"}

    assert ours == {"service", *groups[0]}
    assert ours_with_core == {"service", *groups[0], *groups[1]}
    assert not (io | {"orjson"}) & with_contracts
    assert not io & with_core
