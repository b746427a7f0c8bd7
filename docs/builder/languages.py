"""The reference of the small languages and of scenarios: their modules' docstrings, and their names."""

import inspect
from collections.abc import Sequence
from types import ModuleType

import llmctl.tui.model.alerts
import simulator.load.faults
import simulator.load.shape
import simulator.load.thresholds
import simulator.provider.control
import simulator.provider.distributions
import simulator.provider.scenario
import simulator.quantities
from docs.builder.markdown import code, fence, write_page, write_table
from llmctl import filters
from simulator.load.thresholds import LEDGER_COUNTS, METRICS
from simulator.provider.faults import FAULT_NAMES
from simulator.provider.scenario import find_scenario, list_presets

_LANGUAGES_FRONT = (
    "What the options of `llmctl` understand. Each text is the docstring of the module that reads it."
)
_SCENARIOS_FRONT = """\
How the fake provider behaves: `--scenario NAME` or `--scenario FILE.toml` of `up`, `simulate provider` and
`simulate load`. What happens to a call is a pure function of seed, request and attempt, so the same
scenario behaves the same again."""


def read_docstring(module: ModuleType) -> str:
    """What a module says of itself."""
    return inspect.cleandoc(module.__doc__ or "")


def write_languages() -> str:
    """The page of filters, thresholds, alerts, shapes, faults, durations and rates."""
    title, _, terms = read_docstring(filters).partition("\n\n")
    return write_page(
        "# Small languages",
        _LANGUAGES_FRONT,
        "## Durations and rates",
        read_docstring(simulator.quantities),
        "## Filters",
        f"{title} `--where` of `tail-callbacks`, `rank` and `undelivered`, and `/` in the monitor.",
        fence(terms, "text"),
        f"Fields: {_list_codes([*filters.FIELDS, f'{filters.META_PREFIX}KEY'])}.",
        "## Thresholds",
        read_docstring(simulator.load.thresholds),
        f"All metrics: {_list_codes(METRICS)}. The ledger's verdicts: {_list_codes(LEDGER_COUNTS)}.",
        "## Alerts",
        read_docstring(llmctl.tui.model.alerts),
        "## Shapes of a load",
        read_docstring(simulator.load.shape),
        "## Faults of a run",
        read_docstring(simulator.load.faults),
    )


def write_scenarios() -> str:
    """The page of scenario files and presets."""
    presets = [(code(name), find_scenario(name).description) for name in list_presets()]
    return write_page(
        "# Scenarios of the fake provider",
        _SCENARIOS_FRONT,
        "## Presets",
        write_table(("name", "behaves"), presets),
        "## The file",
        read_docstring(simulator.provider.scenario),
        f"Faults: {_list_codes(FAULT_NAMES)}.",
        "## Latencies",
        read_docstring(simulator.provider.distributions),
        "## Asking and changing a running one",
        read_docstring(simulator.provider.control),
    )


def _list_codes(names: Sequence[str]) -> str:
    return ", ".join(code(name) for name in names)
