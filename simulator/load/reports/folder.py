"""The folder of a report: writing it whole, and reading a run back."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from simulator.load.reports.html import render_page
from simulator.load.reports.junit import render_junit
from simulator.load.reports.summary import render_summary
from simulator.load.run_document import SCHEMA_VERSION, RunDocument

RUN = "run.json"
PAGE = "report.html"
SUMMARY = "summary.md"
JUNIT = "junit.xml"


class ReportError(Exception):
    """A report cannot be written or read; its text is one sentence."""


def write_report(folder: Path, document: RunDocument) -> None:
    """Writes `run.json`, `report.html`, `summary.md` and `junit.xml`; whatever bears those names is replaced.

    All are written beside their places first and renamed at the end, so that nobody reads half a file and a
    full disk leaves an earlier report whole. Raises `ReportError`.
    """
    texts = {
        RUN: format_run(document),
        PAGE: render_page(document),
        SUMMARY: render_summary(document),
        JUNIT: render_junit(document),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace_files(folder, texts)
    except OSError as error:
        raise ReportError(f"The report cannot be written to {folder}: {_describe(error)}.") from error


def format_run(document: RunDocument) -> str:
    """`run.json`: fields in the order of the schema, names that are not fixed by it in alphabetical order.

    What holds only plain values stands on one line, so that a second of the run or a bucket is a line to read
    and to compare. Raises `ReportError` for what JSON cannot hold, such as a figure that is no number.
    """
    data = document.model_dump()
    data["configuration"] = _sort(data["configuration"])
    try:
        return "".join(_write(_simplify(data), "")) + "\n"
    except ValueError as error:
        raise ReportError(f"The run {document.run_id} cannot be written as JSON: {error}.") from error


def read_run(path: Path) -> RunDocument:
    """The run in a `run.json`, or in the folder that holds one; raises `ReportError`."""
    file = path / RUN if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ReportError(f"There is no {file}; name a folder that --report wrote, or its {RUN}.") from None
    except UnicodeDecodeError:
        raise ReportError(f"{file} is no JSON, so it is no run; name a folder that --report wrote.") from None
    except OSError as error:
        raise ReportError(f"{file} cannot be read: {_describe(error)}.") from error
    return _parse(text, file)


def _parse(text: str, file: Path) -> RunDocument:
    try:
        data = json.loads(text, parse_constant=_refuse, parse_float=_read_finite)
    except (ValueError, RecursionError):
        raise ReportError(f"{file} is no JSON, so it is no run; name a folder that --report wrote.") from None
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version is None:
        raise ReportError(f"{file} is no run: it has no schema_version; name a folder that --report wrote.")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise ReportError(
            f"{file} has schema version {version!r}, and this llmctl reads only {SCHEMA_VERSION}; "
            "use the llmctl that wrote it, or run again."
        )
    try:
        return RunDocument.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(each) for each in first["loc"])
        raise ReportError(f"{file} is no whole run: {where}: {first['msg']}.") from None


def _replace_files(folder: Path, texts: Mapping[str, str]) -> None:
    parts = {name: folder / f".{name}.part" for name in texts}
    try:
        for name, text in texts.items():
            parts[name].write_text(text, encoding="utf-8", newline="\n")
        for name, part in parts.items():
            part.replace(folder / name)
    finally:
        for part in parts.values():
            with suppress(OSError):
                part.unlink(missing_ok=True)


def _write(value: Any, margin: str) -> Iterator[str]:
    """JSON in which only what holds other lists or objects is spread over several lines."""
    inner = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list) or not any(isinstance(each, dict | list) for each in inner):
        yield json.dumps(value)
        return
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    yield opening
    items = value.items() if isinstance(value, dict) else ((None, each) for each in value)
    for number, (name, each) in enumerate(items):
        yield f"{',' if number else ''}\n{margin}  "
        if name is not None:
            yield f"{json.dumps(name)}: "
        yield from _write(each, margin + "  ")
    yield f"\n{margin}{closing}"


def _simplify(value: Any) -> Any:
    """What JSON knows; pydantic alone would turn a figure that is no number into nothing, silently."""
    match value:
        case dict():
            return {str(name): _simplify(each) for name, each in value.items()}
        case list() | tuple():
            return [_simplify(each) for each in value]
        case float() if not math.isfinite(value):
            raise ValueError(f"it holds {value}, which is no figure")
        case _:
            return to_jsonable_python(value)


def _sort(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _sort(value[name]) for name in sorted(value)}
    return [_sort(each) for each in value] if isinstance(value, list | tuple) else value


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def _read_finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _describe(error: OSError) -> str:
    return error.strerror or type(error).__name__
