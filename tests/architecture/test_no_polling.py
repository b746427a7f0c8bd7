"""There is no way to poll for a result, and no code that keeps one to be asked for."""

import ast
from collections.abc import Iterator
from pathlib import Path

from service.settings import Settings
from service.web.front_door import FrontDoor
from service.wiring import build

SERVICE = Path(__file__).parents[2] / "service"
FORBIDDEN = ("cache", "redis", "poll_result", "get_result", "result_store", "queue_status")
ALLOWED = {
    "cached_property", "cached_tokens", "cached_prompt_usd_per_million", "cached",
    "cache_logger_on_first_use",
}  # fmt: skip


def find_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case (
                ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name))
            ):
                yield name
            case ast.alias(name=name):
                yield name


def find_breaches(source: str) -> list[str]:
    names = set(find_names(ast.parse(source)))
    return sorted(
        name for name in names - ALLOWED if any(forbidden in name.lower() for forbidden in FORBIDDEN)
    )


def test_no_module_keeps_results() -> None:
    breaches = {path.name: find_breaches(path.read_text()) for path in SERVICE.rglob("*.py")}

    assert len(breaches) > 50
    assert {name: found for name, found in breaches.items() if found} == {}


def test_the_search_finds_a_cache() -> None:
    source = "class ResultCache:\n    def get_result(self, queue_id): return self.redis[queue_id]"

    assert find_breaches(source) == ["ResultCache", "get_result", "redis"]


async def test_no_route_returns_a_status_or_a_result(tmp_path: Path) -> None:
    service = build(
        Settings(
            _env_file=None,
            queue_path=tmp_path / "queue.db",
            allow_mock_provider=True,
            default_llm_provider="mock",
        )
    )
    assert isinstance(service.app, FrontDoor)
    routes = {
        (route.path, method) for route in service.app.app.routes for method in getattr(route, "methods", ())
    }

    comparison = {(path, method) for path, method in routes if "comparison" in path}
    assert comparison == {("/api/v1/comparison", "POST"), ("/api/v1/comparison/{queue_id}", "DELETE")}
    assert not [path for path, _ in routes if "status" in path or "result" in path]
