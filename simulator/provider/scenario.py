"""Scenarios: how the fake provider behaves, as a TOML file says it.

Every section may be left out. Durations are `300ms`, `5s`, `10m`, `2h`; shares are `0.02` or `"2%"`.

| section | keys |
|---|---|
| (top) | `description`, `seed`, `time_scale` (0.1: ten times as fast), `outage` (a fault all calls meet) |
| `[latency]` | `response`, `per_prompt_token`, `per_completion_token` (see `distributions.py`) |
| `[tokens]` | `prompt`, `completion`: counted and billed whatever the texts are |
| `[capacity]` | `slots`, `queue`, `overflow` (a fault), `slowdown_when_full` |
| `[limits]` | `rpm`, `tpm`, `burst_requests`, `burst_tokens`, `retry_after` (see `limits.py`) |
| `[faults]` | a share for each fault (see `faults.py`), `retry_after`, `drip_bytes_per_second` |
| `[retries]` | `fail_first` = N, `fail_with` (a fault) |
| `[expect]` | what callers are held to: `max_concurrency`, `breaker_after_failures`, `probes_per_second`, |
| | `round_trip` |
| `[[timeline]]` | `at`, `for`, `every`, and `set`: sections that take the place of the usual ones meanwhile |
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from simulator.essays import fixtures_root
from simulator.provider.behaviour import Behaviour, Latency, Retries, Tokens
from simulator.provider.capacity import Capacity
from simulator.provider.distributions import (
    Distribution,
    read_distribution,
    read_duration,
    scale_to_median,
)
from simulator.provider.faults import FAULT_NAMES, Fault, Faults, find_fault
from simulator.provider.limits import MINUTE_SECONDS, Limits, RetryAfterStyle
from simulator.provider.timeline import Phase

DEFAULT_SCENARIO = "calm"
MAX_FILE_BYTES = 1024 * 1024
_PART = TypeVar("_PART")


class ScenarioError(ValueError):
    """A scenario cannot be had; the message is one sentence with the file, the key and what is allowed."""


@dataclass(frozen=True)
class Expectations:
    """What callers are held to; None holds them to nothing."""

    max_concurrency: int | None = None
    """Calls of one vendor's API under way at once."""
    breaker_after_failures: int | None = None
    """So many failures in a row during an outage must open a breaker."""
    probes_per_second: float = 1.0
    """What an open breaker may let through, in real time."""
    round_trip_seconds: float = 0.05
    """A call that comes so soon after a refusal was sent before its caller knew; real time. Where many
    processes share few cores it takes longer."""


@dataclass(frozen=True)
class Scenario:
    """Everything that decides how the fake provider behaves."""

    name: str
    description: str = ""
    seed: int = 0
    """Another seed is another run; the same seed answers the same request in the same way."""
    time_scale: float = 1.0
    """Real seconds for each of the scenario's."""
    behaviour: Behaviour = field(default_factory=Behaviour)
    expectations: Expectations = field(default_factory=Expectations)
    timeline: tuple[Phase, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict)
    """What it was read from."""

    def with_seed(self, seed: int) -> Scenario:
        """The same behavior, drawn anew."""
        return replace(self, seed=seed)

    def with_latency_p50_ms(self, p50_ms: float) -> Scenario:
        """The same behavior with another median latency, whatever the tokens; ValueError if it is none."""
        response = scale_to_median(self.behaviour.latency.response, p50_ms / 1000)
        return replace(self, behaviour=replace(self.behaviour, latency=Latency(response)))

    def behaviour_at(self, seconds: float) -> Behaviour:
        """What holds so long after the start; of phases that overlap the later one in the file wins."""
        changes: dict[str, Any] = {}
        for phase in self.timeline:
            if phase.is_on(seconds):
                changes |= phase.changes
        return replace(self.behaviour, **changes) if changes else self.behaviour


def list_presets() -> tuple[str, ...]:
    """The names of the shipped scenarios."""
    return tuple(sorted(path.stem for path in _presets_folder().glob("*.toml")))


def find_scenario(text: str) -> Scenario:
    """The scenario of a name or of a file, which has a slash or ends in `.toml`; raises `ScenarioError`."""
    if is_file_name(text):
        return _read_file(Path(text))
    if text not in list_presets():
        known = ", ".join(list_presets())
        raise ScenarioError(f"There is no scenario {text!r}; choose one of: {known}, or name a .toml file.")
    return _read_file(_presets_folder() / f"{text}.toml")


def is_file_name(text: str) -> bool:
    """Whether a `--scenario` means a file."""
    return "/" in text or text.endswith(".toml")


def read_scenario(text: str, name: str, source: str, folder: Path | None = None) -> Scenario:
    """A scenario from TOML text; `source` is how complaints call it. Raises `ScenarioError`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{source} is no TOML: {str(error)[:1].lower()}{str(error)[1:]}.") from error
    try:
        return build_scenario(document, name, folder)
    except _Wrong as wrong:
        line = _find_line(text, wrong.path)
        place = f"{source}, line {line}" if line else source
        raise ScenarioError(f"{place}: {wrong}.") from wrong


def parse_scenario(document: Any, name: str, source: str) -> Scenario:
    """A scenario from a document that came some other way; raises `ScenarioError`."""
    try:
        return build_scenario(document, name, None)
    except _Wrong as wrong:
        raise ScenarioError(f"{source}: {wrong}.") from wrong


class _Wrong(Exception):
    """What is wrong with the value at a path."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path


def build_scenario(document: Any, name: str, folder: Path | None) -> Scenario:
    """The scenario that a document describes."""
    top = _Section(document, "", folder)
    top.allow("description", "seed", "time_scale", "expect", "timeline", *_PARTS)
    return Scenario(
        name=name,
        description=top.read("description", _text, ""),
        seed=top.read("seed", _whole(-(2**63), 2**63 - 1), 0),
        time_scale=top.read("time_scale", _number(0.001, 1000), 1.0),
        behaviour=Behaviour(**_read_parts(top)),
        expectations=_read_expectations(top.section("expect")),
        timeline=tuple(_read_phase(entry) for entry in top.sections("timeline")),
        document=document,
    )


class _Section:
    """A table of the document, and where it stands."""

    def __init__(self, value: Any, path: str, folder: Path | None) -> None:
        if not isinstance(value, Mapping):
            raise _Wrong(path, "this must be a table of keys and values")
        self.values = value
        self.path = path
        self.folder = folder

    def allow(self, *names: str) -> None:
        """Refuses every other key."""
        for name in self.values:
            if name not in names:
                raise _Wrong(self.at(name), f"there is no such key; allowed are {', '.join(names)}")

    def at(self, name: str) -> str:
        """The path of a key."""
        return f"{self.path}.{name}" if self.path else name

    def read(self, name: str, reader: Callable[[Any], _PART], default: _PART) -> _PART:
        """A value, or the default where there is none."""
        return self.require(name, reader) if name in self.values else default

    def require(self, name: str, reader: Callable[[Any], _PART]) -> _PART:
        """A value that must be there."""
        if name not in self.values:
            raise _Wrong(self.at(name), "this is missing")
        try:
            return reader(self.values[name])
        except ValueError as error:
            raise _Wrong(self.at(name), str(error)) from error

    def section(self, name: str) -> _Section:
        """A table within, empty where there is none."""
        return _Section(self.values.get(name, {}), self.at(name), self.folder)

    def sections(self, name: str) -> list[_Section]:
        """A list of tables within."""
        entries = self.values.get(name, [])
        if not isinstance(entries, list):
            raise _Wrong(self.at(name), f"this must be a list; write [[{name}]]")
        return [_Section(entry, f"{self.at(name)}[{n}]", self.folder) for n, entry in enumerate(entries)]


def _read_parts(section: _Section) -> dict[str, Any]:
    """Those parts of a behavior that the section holds."""
    return {name: read(section) for name, read in _PARTS.items() if name in section.values}


def _read_latency(section: _Section) -> Latency:
    inner = section.section("latency")
    inner.allow("response", "per_prompt_token", "per_completion_token")

    def read(value: Any) -> Distribution:
        return read_distribution(value, inner.folder)

    none = Latency()
    return Latency(
        response=inner.read("response", read, none.response),
        per_prompt_token=inner.read("per_prompt_token", read, none.per_prompt_token),
        per_completion_token=inner.read("per_completion_token", read, none.per_completion_token),
    )


def _read_tokens(section: _Section) -> Tokens:
    inner = section.section("tokens")
    inner.allow("prompt", "completion")
    return Tokens(
        prompt=inner.read("prompt", _whole(1, 10_000_000), None),
        completion=inner.read("completion", _whole(1, 10_000_000), None),
    )


def _read_capacity(section: _Section) -> Capacity:
    inner = section.section("capacity")
    inner.allow("slots", "queue", "overflow", "slowdown_when_full")
    return Capacity(
        slots=inner.require("slots", _whole(1, 1_000_000)),
        queue=inner.read("queue", _whole(0, 1_000_000), 0),
        overflow=inner.read("overflow", _error, find_fault("overloaded")),
        slowdown_when_full=inner.read("slowdown_when_full", _number(1, 1000), 1.0),
    )


def _read_limits(section: _Section) -> Limits:
    inner = section.section("limits")
    inner.allow("rpm", "tpm", "burst_requests", "burst_tokens", "retry_after")
    rpm = inner.read("rpm", _number(0.001, 1e9), None)
    tpm = inner.read("tpm", _number(0.001, 1e12), None)
    return Limits(
        rpm=rpm,
        tpm=tpm,
        burst_requests=inner.read("burst_requests", _number(1, 1e9), max(1.0, (rpm or 0) / MINUTE_SECONDS)),
        burst_tokens=inner.read("burst_tokens", _number(1, 1e12), max(1.0, (tpm or 0) / MINUTE_SECONDS)),
        retry_after=inner.read("retry_after", _style, RetryAfterStyle.VENDOR),
    )


def _read_faults(section: _Section) -> Faults:
    inner = section.section("faults")
    settings = {"retry_after", "drip_bytes_per_second"}
    shares: list[tuple[Fault, float]] = []
    for name in inner.values:
        if name not in settings:
            try:
                fault = find_fault(name)
            except ValueError as error:
                raise _Wrong(inner.at(name), f"{error}, {', '.join(sorted(settings))}") from error
            shares.append((fault, inner.require(name, _share)))
    if sum(share for _, share in shares) > 1 + 1e-9:
        raise _Wrong(inner.path, "the shares add up to more than 100%")
    return Faults(
        shares=tuple(shares),
        retry_after_seconds=inner.read("retry_after", read_duration, None),
        drip_bytes_per_second=inner.read("drip_bytes_per_second", _number(0.1, 1e9), 20.0),
    )


def _read_retries(section: _Section) -> Retries:
    inner = section.section("retries")
    inner.allow("fail_first", "fail_with")
    return Retries(
        fail_first=inner.read("fail_first", _whole(0, 1000), 0),
        fail_with=inner.read("fail_with", _fault, find_fault("http_503")),
    )


def _read_outage(section: _Section) -> Fault:
    return section.require("outage", _fault)


def _read_expectations(section: _Section) -> Expectations:
    section.allow("max_concurrency", "breaker_after_failures", "probes_per_second", "round_trip")
    return Expectations(
        max_concurrency=section.read("max_concurrency", _whole(1, 1_000_000), None),
        breaker_after_failures=section.read("breaker_after_failures", _whole(1, 1_000_000), None),
        probes_per_second=section.read("probes_per_second", _number(0, 1_000_000), 1.0),
        round_trip_seconds=section.read("round_trip", read_duration, Expectations.round_trip_seconds),
    )


def _read_phase(entry: _Section) -> Phase:
    entry.allow("at", "for", "every", "set")
    lasts = entry.read("for", read_duration, None)
    every = entry.read("every", _period, None)
    if every is not None and (lasts is None or lasts > every):
        raise _Wrong(entry.at("every"), "a phase that comes again needs 'for', no longer than 'every'")
    changes = entry.section("set")
    changes.allow(*_PARTS)
    if not changes.values:
        raise _Wrong(entry.at("set"), f"it must hold one of {', '.join(_PARTS)}")
    return Phase(entry.require("at", read_duration), lasts, every, _read_parts(changes))


_PARTS: dict[str, Callable[[_Section], Any]] = {
    "latency": _read_latency,
    "tokens": _read_tokens,
    "capacity": _read_capacity,
    "limits": _read_limits,
    "faults": _read_faults,
    "retries": _read_retries,
    "outage": _read_outage,
}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("this must be a text")  # noqa: TRY004 - of a document, not of our code
    return value


def _number(least: float, greatest: float) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        number = math.nan if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
        if not least <= number <= greatest:
            raise ValueError(f"{value!r} is not allowed; give a number from {least:g} to {greatest:g}")
        return number

    return read


def _whole(least: int, greatest: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= greatest:
            raise ValueError(f"{value!r} is not allowed; give a whole number from {least} to {greatest}")
        return value

    return read


def _share(value: Any) -> float:
    number = math.nan
    if isinstance(value, str) and re.fullmatch(r"\d{1,3}(\.\d{1,9})?%", value, re.ASCII):
        number = float(value[:-1]) / 100
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    if not 0 <= number <= 1:
        raise ValueError(f"{value!r} is no share; give a number from 0 to 1, or for example '2.5%'")
    return number


def _period(value: Any) -> float:
    seconds = read_duration(value)
    if seconds <= 0:
        raise ValueError(f"{value!r} is not allowed; a phase cannot come again every 0 seconds")
    return seconds


def _fault(value: Any) -> Fault:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no fault; choose among {', '.join(FAULT_NAMES)}")  # noqa: TRY004
    return find_fault(value)


def _error(value: Any) -> Fault:
    fault = _fault(value)
    if fault.trouble is None:
        raise ValueError(f"{value!r} is no error; choose for example http_429, http_503 or http_529")
    return fault


def _style(value: Any) -> RetryAfterStyle:
    try:
        return RetryAfterStyle(value)
    except ValueError:
        raise ValueError(f"{value!r} is not allowed; choose among {', '.join(RetryAfterStyle)}") from None


def _presets_folder() -> Path:
    return fixtures_root() / "scenarios"


def _read_file(path: Path) -> Scenario:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise ScenarioError(f"The scenario {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ScenarioError(f"The scenario {path} is no text in UTF-8.") from error
    if len(content) > MAX_FILE_BYTES:
        raise ScenarioError(f"The scenario {path} is larger than 1 MiB.")
    return read_scenario(text, path.stem, str(path), path.parent)


_TABLE = re.compile(r"\[\[?\s*([\w.]+)\s*\]\]?")
_KEY = re.compile(r"""["']?([\w-]+)["']?((?:\.[\w-]+)*)\s*=""")


def _find_line(text: str, path: str) -> int | None:
    """The line of the key with that path, or of the table around it; None where neither is found."""
    table, entries = "", 0
    best: tuple[int, int | None] = (0, None)
    for number, line in enumerate(text.splitlines(), start=1):
        if found := _TABLE.match(line.strip()):
            table = found[1]
            if line.strip().startswith("[["):
                table, entries = f"{table}[{entries}]", entries + 1
            elif table.startswith("timeline."):
                table = f"timeline[{entries - 1}].{table.removeprefix('timeline.')}"
            here = table
        elif found := _KEY.match(line.strip()):
            here = ".".join(filter(None, (table, found[1] + found[2])))
        else:
            continue
        if (path == here or path.startswith(f"{here}.")) and len(here) > best[0]:
            best = (len(here), number)
    return best[1]
