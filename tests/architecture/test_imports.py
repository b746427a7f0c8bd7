"""The house keeps its rules: who may import whom, and what a room may name. Read from the source itself."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

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
    """One source file."""

    name: str
    place: str
    tree: ast.Module
    is_package: bool


@dataclass(frozen=True)
class Import:
    """One name that a module imports, wherever in the file that stands."""

    line: int
    target: str


def read_modules(root: Path) -> dict[str, Module]:
    """Every module of our packages under `root`, by its dotted name."""
    modules = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            place = path.relative_to(root)
            is_package = path.name == "__init__.py"
            name = ".".join(place.parent.parts if is_package else place.with_suffix("").parts)
            modules[name] = Module(name, place.as_posix(), ast.parse(path.read_text()), is_package)
    return modules


def imports_of(module: Module, modules: Mapping[str, Module]) -> Iterator[Import]:
    """All imports: at the top, in functions, under TYPE_CHECKING, relative, and by a literal name."""
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
    """The absolute name of what a `from` import imports from."""
    if node.level == 0:
        return node.module or ""
    parts = module.name.split(".")
    base = parts[: len(parts) - node.level + module.is_package]
    return ".".join([*base, *([node.module] if node.module else [])])


def name_of_call(node: ast.Call) -> str:
    """The last name of what is called."""
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def is_in(name: str, room: str) -> bool:
    """Whether a module is a room or stands in it."""
    return name == room or name.startswith(f"{room}.")


def room_of(name: str) -> str | None:
    """The room that a module stands in."""
    return next((room for room in ROOMS if is_in(name, room)), None)


def find_breaches(root: Path) -> list[str]:
    """Every place under `root` where a rule of the house is broken."""
    modules = read_modules(root)
    return sorted(
        {breach for module in modules.values() for breach in judge_module(module, modules)}
        | set(find_cycles(modules))
    )


def judge_module(module: Module, modules: Mapping[str, Module]) -> Iterator[str]:
    """The breaches that one module can be blamed for alone."""
    if module.is_package and not is_empty(module.tree):
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
    """The breaches of one import."""
    target = imported.target
    place = f"{module.place}:{imported.line}"
    if target.split(".")[0] in PACKAGES:
        allowed = any(is_in(target, other) for other in (room, *ROOMS[room]))
    else:
        allowed = room not in FOREIGN or target.split(".")[0] in FOREIGN[room]
    if not allowed:
        yield f"{place}: {room} must not import {target}"


def is_empty(tree: ast.Module) -> bool:
    """Whether a file holds nothing, or a docstring alone."""
    return not tree.body or (len(tree.body) == 1 and ast.get_docstring(tree) is not None)


def find_lost_tasks(tree: ast.Module) -> Iterator[int]:
    """Lines that start a task outside a TaskGroup and keep no hold of it: it could vanish half done."""
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
    """Whether what starts the task keeps it too: anything but asyncio itself and an event loop."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr == "ensure_future":
        return False
    starter = ast.unparse(call.func.value)
    return starter != "asyncio" and "loop" not in starter


def find_cycles(modules: Mapping[str, Module]) -> Iterator[str]:
    """The first cycle of imports, if there is one."""
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


def test_the_house_keeps_its_rules() -> None:
    """No module of ours breaks any of them."""
    assert find_breaches(ROOT) == []


def test_every_room_is_there() -> None:
    """A rule about a room that is gone would hold for nothing."""
    names = set(read_modules(ROOT))
    assert set(ROOMS) <= names
    assert len(names) > 60


HOUSE = {
    "service/__init__.py": "",
    "service/contracts/__init__.py": '"""The language everyone speaks."""\n',
    "service/contracts/events.py": "import json\nfrom pydantic import BaseModel\n",
    "service/core/__init__.py": "",
    "service/core/records.py": (
        "from service.contracts.events import json\nfrom pydantic_core import from_json\n"
    ),
    "service/engine/__init__.py": "",
    "service/engine/pool.py": (
        "import asyncio\nimport structlog\nfrom service.core import records\n"
        "async def work(group, keep):\n"
        "    group.create_task(keep())\n"
        "    kept = asyncio.create_task(keep())\n"
        "    keep(asyncio.ensure_future(kept))\n"
    ),
    "service/queues/__init__.py": "",
    "service/queues/memory.py": "import sqlite3\nfrom service.core.records import json\n",
    "service/queues/sqlite.py": "from .memory import sqlite3\n",
    "service/providers/__init__.py": "",
    "service/providers/mock.py": "import httpx\nimport service.contracts.events\n",
    "service/web/__init__.py": "",
    "service/web/app.py": "from service.engine.pool import work\n",
    "service/wiring.py": "from service.queues.memory import sqlite3\nfrom service.web.app import work\n",
    "service/lifecycle.py": "from service import wiring\n",
    "simulator/__init__.py": "",
    "simulator/stack.py": "from service.contracts.events import json\n",
    "llmctl/__init__.py": "",
    "llmctl/app.py": (
        "def main():\n    from simulator.stack import json\n    import service.contracts.events\n"
    ),
}


def build(root: Path, changes: Mapping[str, str]) -> Path:
    """A small house of the same rooms, with some files added or others in their place."""
    for place, text in {**HOUSE, **changes}.items():
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_house_in_order_has_no_breach(tmp_path: Path) -> None:
    """What is allowed is not reported."""
    assert find_breaches(build(tmp_path, {})) == []


BREACHES: list[tuple[str, str, str, str]] = [
    (
        "contracts know nobody",
        "service/contracts/topics.py",
        "from service.core.records import json\n",
        "service/contracts/topics.py:1: service.contracts must not import service.core.records",
    ),
    (
        "contracts know pydantic and plain values only",
        "service/contracts/topics.py",
        "import orjson\n",
        "service/contracts/topics.py:1: service.contracts must not import orjson",
    ),
    (
        "contracts do no I/O",
        "service/contracts/topics.py",
        "from pathlib import Path\n",
        "service/contracts/topics.py:1: service.contracts must not import pathlib",
    ),
    *[
        (
            f"core does no I/O: {library}",
            "service/core/retry.py",
            f"import json\nimport {library}\n",
            f"service/core/retry.py:2: service.core must not import {library}",
        )
        for library in (
            "asyncio", "socket", "sqlite3", "os", "time", "random", "logging",
            "httpx", "aiokafka", "structlog",
        )
    ],
    (
        "core knows no engine",
        "service/core/retry.py",
        "from service.engine.pool import work\n",
        "service/core/retry.py:1: service.core must not import service.engine.pool",
    ),
    (
        "the engine knows no adapter",
        "service/engine/relay.py",
        "from service.queues import memory\n",
        "service/engine/relay.py:1: service.engine must not import service.queues.memory",
    ),
    (
        "the engine knows no library of an adapter",
        "service/engine/relay.py",
        "import httpx\n",
        "service/engine/relay.py:1: service.engine must not import httpx",
    ),
    *[
        (
            f"adapters know only the middle: {owner} and {target}",
            f"service/{owner}/other.py",
            f"from service.{target} import x\n",
            f"service/{owner}/other.py:1: service.{owner} must not import service.{target}",
        )
        for owner, target in [
            ("queues", "providers.mock"),
            ("providers", "queues.memory"),
            ("callbacks", "queues.memory"),
            ("telemetry", "providers.mock"),
            ("queues", "engine.pool"),
            ("providers", "engine.pool"),
            ("callbacks", "engine.pool"),
            ("telemetry", "engine.pool"),
            ("providers", "web.app"),
        ]
    ],
    (
        "the door knows no adapter",
        "service/web/server.py",
        "from service.queues.memory import x\n",
        "service/web/server.py:1: service.web must not import service.queues.memory",
    ),
    (
        "only the start knows the wiring",
        "service/web/server.py",
        "from service.wiring import build\n",
        "service/web/server.py:1: service.web must not import service.wiring",
    ),
    (
        "settings do not know the wiring",
        "service/settings.py",
        "from service import wiring\n",
        "service/settings.py:1: service.settings must not import service.wiring",
    ),
    (
        "the service does not know the command line",
        "service/lifecycle.py",
        "from llmctl.app import main\n",
        "service/lifecycle.py:1: service.lifecycle must not import llmctl.app",
    ),
    (
        "the simulator does not know the command line",
        "simulator/stack.py",
        "import llmctl\n",
        "simulator/stack.py:1: simulator must not import llmctl",
    ),
    (
        "the simulator shares the contracts and nothing else",
        "simulator/stack.py",
        "from service.core.records import json\n",
        "simulator/stack.py:1: simulator must not import service.core.records",
    ),
    (
        "the command line starts the service and does not import it",
        "llmctl/app.py",
        "def main():\n    from service.lifecycle import run\n",
        "llmctl/app.py:2: llmctl must not import service.lifecycle",
    ),
    (
        "an import for type checkers counts",
        "service/queues/other.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from service.providers import mock\n",
        "service/queues/other.py:3: service.queues must not import service.providers.mock",
    ),
    (
        "an import in a function counts",
        "service/queues/other.py",
        "def f():\n    import service.engine.pool\n",
        "service/queues/other.py:2: service.queues must not import service.engine.pool",
    ),
    (
        "a relative import counts",
        "service/queues/other.py",
        "from ..providers.mock import httpx\n",
        "service/queues/other.py:1: service.queues must not import service.providers.mock",
    ),
    (
        "an import by name counts",
        "service/queues/other.py",
        "import importlib\nimportlib.import_module('service.engine.pool')\n",
        "service/queues/other.py:2: service.queues must not import service.engine.pool",
    ),
    (
        "importing all of the service counts",
        "simulator/stack.py",
        "import service\n",
        "simulator/stack.py:1: simulator must not import service",
    ),
    (
        "every folder is a room",
        "service/utils/text.py",
        "",
        "service/utils/text.py: service.utils.text stands in no room of the house",
    ),
    (
        "every file of the service is a room",
        "service/globals.py",
        "",
        "service/globals.py: service.globals stands in no room of the house",
    ),
    (
        "a package exports nothing",
        "service/core/__init__.py",
        '"""Core."""\nfrom service.core.records import json\n',
        "service/core/__init__.py: an __init__.py holds a docstring at most",
    ),
    (
        "no cycle",
        "service/queues/memory.py",
        "def f():\n    from service.queues.sqlite import sqlite3\n",
        "cycle: service.queues.memory <- service.queues.sqlite <- service.queues.memory",
    ),
    *[
        (
            f"a task has an owner: {statement}",
            "service/engine/relay.py",
            f"import asyncio\nasync def f(work, loop):\n    {statement}\n",
            "service/engine/relay.py:3: the task that is started here has no owner",
        )
        for statement in (
            "asyncio.create_task(work())",
            "asyncio.ensure_future(work())",
            "asyncio.get_running_loop().create_task(work())",
            "loop.create_task(work())",
            "_ = asyncio.create_task(work())",
            "create_task(work())",
        )
    ],
]  # fmt: skip


@pytest.mark.parametrize(
    ("place", "text", "breach"), [row[1:] for row in BREACHES], ids=[row[0] for row in BREACHES]
)
def test_a_broken_rule_is_found(place: str, text: str, breach: str, tmp_path: Path) -> None:
    """Each rule can fail: one bad line in a house in order is reported, and nothing but that line."""
    assert find_breaches(build(tmp_path, {place: text})) == [breach]


def load_alone(*names: str) -> set[str]:
    """What stands in `sys.modules` of a fresh interpreter after importing only these."""
    program = f"import sys, {', '.join(names)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=30, check=True
    )
    return set(done.stdout.split())


def test_the_contracts_come_alone() -> None:
    """Whoever reads our events loads no other part of the service and no library of the rim."""
    names = [name for name in read_modules(ROOT) if is_in(name, "service.contracts")]
    loaded = load_alone(*names)
    assert {name for name in loaded if name.split(".")[0] in PACKAGES} == {"service", *names}
    assert not {"httpx", "aiokafka", "fastapi", "starlette", "structlog", "orjson"} & loaded


def test_the_middle_loads_no_library_of_the_rim() -> None:
    """The pure decisions run where nothing of the outside is installed."""
    names = [name for name in read_modules(ROOT) if is_in(name, "service.core")]
    loaded = load_alone(*names)
    ours = {name for name in loaded if name.split(".")[0] in PACKAGES}
    assert all(is_in(name, "service.core") or is_in(name, "service.contracts") for name in ours - {"service"})
    assert not {"httpx", "aiokafka", "sqlite3", "fastapi", "starlette", "structlog", "uvicorn"} & loaded
