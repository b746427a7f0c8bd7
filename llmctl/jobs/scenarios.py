"""The scenarios of the fake provider, as commands name them."""

from __future__ import annotations

from llmctl.exits import UsageProblem
from simulator.provider.scenario import ScenarioError, find_scenario


def check_scenario(name: str) -> None:
    """Raises `UsageProblem` where there is no such scenario, before anything is started."""
    try:
        find_scenario(name)
    except ScenarioError as problem:
        raise UsageProblem(str(problem)) from problem
