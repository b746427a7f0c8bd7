"""The golden schemas in `fixtures/schemas`: what `llmctl schema` hands out, and what it has to be.

    make schemas

writes them anew after a deliberate change; look at the difference before it is committed. What may change is
told in `docs/adr/0019-published-contracts.md`.
"""

import asyncio
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from service.contracts.asyncapi import describe_events
from service.contracts.published import DIALECT, PUBLISHED, describe_contract
from service.contracts.requests import QueuedRequest
from service.settings import Settings
from service.wiring import build

FIXTURES = Path(__file__).parents[2] / "fixtures"
SCHEMAS = FIXTURES / "schemas"
NO_VERSION = "0.0.0"
"""In the files, where `llmctl schema` says its own: a release changes no contract."""

EVENT_EXAMPLES = {"an essay won": "comparison-succeeded", "the comparison failed": "comparison-failed"}
USAGE_EXAMPLES = {"a request was answered at the second call": "usage/answered"}


def describe_all() -> dict[str, Any]:
    contracts = {name: describe_contract(name) for name in PUBLISHED}
    # Not handed out: only the service itself reads what stands in its queue.
    queued = QueuedRequest.model_json_schema(mode="serialization")
    contracts["queued-request"] = {"$schema": DIALECT, **queued}
    return {**contracts, "openapi": describe_openapi(), "asyncapi": describe_asyncapi()}


def describe_asyncapi() -> dict[str, Any]:
    return describe_events(NO_VERSION, _read_events(EVENT_EXAMPLES), _read_events(USAGE_EXAMPLES))


def _read_events(names: Mapping[str, str]) -> dict[str, bytes]:
    return {line: (FIXTURES / "events" / f"{name}.json").read_bytes() for line, name in names.items()}


def describe_openapi() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        document: dict[str, Any] = asyncio.run(fetch("/openapi.json", Path(folder))).json()
    document["info"]["version"] = NO_VERSION
    return document


async def fetch(path: str, folder: Path) -> httpx.Response:
    settings = Settings(
        _env_file=None,
        queue_path=folder / "queue.db",
        allow_mock_provider=True,
        default_llm_provider="mock",
    )
    transport = httpx.ASGITransport(app=build(settings).app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        return (await client.get(path)).raise_for_status()


def render(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def read_golden(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))


def write_all() -> list[str]:
    """Writes what differs and removes what has no contract any more; the names of what was changed."""
    wanted = {f"{name}.json": render(document) for name, document in describe_all().items()}
    standing = {path.name: path.read_text(encoding="utf-8") for path in SCHEMAS.iterdir()}
    changed = sorted(name for name in {*wanted, *standing} if wanted.get(name) != standing.get(name))
    for name in changed:
        if name in wanted:
            (SCHEMAS / name).write_text(wanted[name], encoding="utf-8")
        else:
            (SCHEMAS / name).unlink()
    return changed


if __name__ == "__main__":
    for changed in write_all():
        print(f"{SCHEMAS.name}/{changed} written anew")
