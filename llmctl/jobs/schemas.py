"""Hands out the contracts. They stand in files that were validated and ship with the program."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from llmctl.exits import Failed, UsageProblem
from llmctl.render.terminal import Terminal
from service.contracts.published import DIALECT, PUBLISHED
from simulator.essays import fixtures_root


def print_openapi() -> None:
    """The document that the service serves."""
    _print(_render(_read_document("openapi")))


def print_asyncapi() -> None:
    """The document of the callbacks."""
    _print(_render(_read_document("asyncapi")))


def print_contracts(name: str | None) -> None:
    """One contract, or all of them in one document. Raises `UsageProblem` where there is no such contract."""
    if name is None:
        _print(_render(_bundle()))
    elif name in PUBLISHED:
        _print(_read(name))
    else:
        raise UsageProblem(f"There is no contract {name!r}; there are: {', '.join(PUBLISHED)}.")


def write_contracts(folder: str, terminal: Terminal) -> None:
    """A file for each contract; those of the same names are written over. Raises `Failed`."""
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
        for name in PUBLISHED:
            path = place / f"{name}.json"
            path.write_text(_read(name), encoding="utf-8", newline="\n")
            if terminal.as_json:
                terminal.write({"contract": name, "file": str(path)})
            else:
                terminal.show(str(path), whole=True)
    except BrokenPipeError:
        raise
    except OSError as problem:
        reason = problem.strerror or "no reason is given"
        raise Failed(f"{problem.filename or place} cannot be written: {reason}.") from None


def _read(name: str) -> str:
    try:
        return (fixtures_root() / "schemas" / f"{name}.json").read_text(encoding="utf-8")
    except OSError:
        raise Failed(f"The schema {name!r} is missing from this installation; install it again.") from None


def _read_document(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(_read(name))
    # No release alone changes the files: what they are part of is known only here.
    document["info"]["version"] = version("llmctl")
    return document


def _bundle() -> dict[str, Any]:
    """All contracts under their names in `$defs`, beside what they share."""
    definitions: dict[str, Any] = {}
    for name in PUBLISHED:
        schema = json.loads(_read(name))
        del schema["$schema"]
        definitions.update(schema.pop("$defs", {}))
        definitions[name] = schema
    return {"$schema": DIALECT, "$defs": definitions}


def _render(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _print(text: str) -> None:
    # Bytes: the document is UTF-8 wherever it goes, also where the terminal's encoding is another.
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()
