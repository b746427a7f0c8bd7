"""The release workflow: pinned, with as few rights as it needs, and about the version that stands here."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    """The workflow; YAML reads its key `on` as a truth value."""
    document: dict[Any, Any] = yaml.safe_load(WORKFLOW.read_text())
    return document


def test_every_action_stands_at_a_commit_with_its_version_beside_it() -> None:
    """Somebody else's tag can be moved; a commit cannot."""
    uses = re.findall(r"uses: (.+)", WORKFLOW.read_text())
    assert len(uses) > 5
    assert [
        line for line in uses if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)
    ] == []


def test_no_job_may_do_more_than_it_needs(workflow: dict[Any, Any]) -> None:
    """The jobs that run our code and our dependencies' may only read; the job that publishes runs neither."""
    assert workflow["permissions"] == {}
    assert {name: job["permissions"] for name, job in workflow["jobs"].items()} == {
        "test": {"contents": "read"},
        "build": {"contents": "read"},
        "attest": {"id-token": "write", "attestations": "write"},
        "publish": {"id-token": "write"},
        "announce": {"contents": "write"},
    }
    for name, job in workflow["jobs"].items():
        assert 0 < job["timeout-minutes"] <= 90
        for step in job["steps"]:
            if "actions/checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False
                assert name != "publish"


def test_nothing_is_published_that_was_not_tested_and_tagged(workflow: dict[Any, Any]) -> None:
    jobs = workflow["jobs"]
    assert (jobs["attest"]["needs"], jobs["attest"]["if"]) == (["test", "build"], "github.ref_type == 'tag'")
    assert (jobs["publish"]["needs"], jobs["announce"]["needs"]) == ("attest", "attest")
    assert jobs["publish"]["if"] == "github.ref_type == 'tag' && vars.PYPI_PROJECT != ''"
    assert jobs["publish"]["environment"]["name"] == "pypi"
    assert "bash .ci/run" in [step.get("run") for step in jobs["test"]["steps"]]
    pythons = jobs["test"]["strategy"]["matrix"]["python"]
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    assert all(f"Programming Language :: Python :: {python}" in classifiers for python in pythons)


def test_what_it_makes_can_be_made_here() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wanted = set(re.findall(r"run: make ([a-z-]+)", WORKFLOW.read_text()))
    assert wanted == {"sbom"}
    assert wanted <= targets


def test_the_changelog_is_about_the_version_that_stands_here() -> None:
    newest = re.findall(r"^## \[(.+?)\] - (.+)$", CHANGELOG, re.MULTILINE)[0]
    assert newest[0] == VERSION
    assert newest[1] == "unreleased" or re.fullmatch(r"\d{4}-\d{2}-\d{2}", newest[1])
