"""Changes which context is current: one line of the user's file, and no other byte of it."""

from __future__ import annotations

import json
import os
import re
import tempfile
import tomllib
from contextlib import suppress
from pathlib import Path

from llmctl.contexts import ConfigFile
from llmctl.exits import UsageProblem

_CURRENT = re.compile(
    r"""^([ \t]*(?:current|"current"|'current')[ \t]*=[ \t]*)"""
    r"""(?:"(?:[^"\\\r\n]|\\[^\r\n])*"|'[^'\r\n]*')(?=[ \t]*(?:\#[^\r\n]*)?\r?$)""",
    re.MULTILINE,
)


def switch_context(file: ConfigFile, name: str) -> None:
    """Makes a context the current one; UsageProblem where it does not exist or the file cannot be written."""
    file.find(name, "config use")
    if name != file.current:
        _replace(file.path.resolve(), choose_context(file.text or "", name, file.path).encode())


def choose_context(text: str, name: str, path: Path) -> str:
    """The text of the file with another current context."""
    wanted = tomllib.loads(text) | {"current": name}
    quoted = json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007f")
    newline = "\r\n" if "\r\n" in text else "\n"
    candidates = [f"{text[: found.end(1)]}{quoted}{text[found.end() :]}" for found in _CURRENT.finditer(text)]
    # Before everything else: behind a table's heading it would belong to that table.
    candidates.append(f"current = {quoted}{newline}{text}")
    for candidate in candidates:
        # A line that only looks like it, within a longer string, would change something else.
        with suppress(tomllib.TOMLDecodeError):
            if tomllib.loads(candidate) == wanted:
                return candidate
    raise UsageProblem(f"The line `current` of {path} cannot be changed alone; write current = {quoted}.")


def _replace(path: Path, content: bytes) -> None:
    """Puts new content in the file's place at once, with the mode it had."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), path.stat().st_mode & 0o7777)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as problem:
        raise UsageProblem(f"{path} cannot be written: {problem.strerror or problem}.") from problem
