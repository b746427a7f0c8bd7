"""Every command that changes something says so first where it is production's."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.flow.cli.conftest import RunHere, read_shown

CHANGES = (
    ("submit", "--prompt", "p", "--essay-a", "ESSAY", "--essay-b", "ESSAY", "--callback-topic", "t"),
    ("cancel", "some-id"),
    ("topics", "bootstrap", "some-topic"),
    ("drain", "--yes"),
    ("drain", "--resume"),
    ("providers", "hold", "openai", "--yes"),
    ("providers", "release", "openai"),
    ("undelivered", "resend", "some-id"),
    ("log-level", "debug"),
)
LOOK = ("topics", "bootstrap", "some-topic", "--dry-run")


@pytest.fixture
def run_on_terminal(
    llmctl_here: RunHere,
    config_file: Path,
    terminal: tuple[int, int],
    dead_port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., str]:
    """Runs a command in a context that is production, where nobody listens; returns its stderr."""
    url, servers = f"http://127.0.0.1:{dead_port}", f"127.0.0.1:{dead_port}"
    text = f'current = "live"\n[contexts.live]\nurl = "{url}"\nbootstrap_servers = "{servers}"\n'
    config_file.write_text(f'{text}environment = "prod"\n')

    def run(*words: str) -> str:
        with os.fdopen(os.dup(terminal[1]), "w") as stderr:
            monkeypatch.setattr(sys, "stderr", stderr)
            ended = llmctl_here(*(str(config_file) if word == "ESSAY" else word for word in words))
        assert ended.code == 3, "nobody is there who could obey"
        return read_shown(terminal)

    return run


@pytest.mark.parametrize("words", CHANGES, ids=" ".join)
def test_a_change_of_production_is_framed(
    run_on_terminal: Callable[..., str], words: tuple[str, ...], dead_port: int
) -> None:
    said = run_on_terminal(*words)
    place = f"{'' if words[0] == 'topics' else 'http://'}127.0.0.1:{dead_port}"
    assert f"PRODUCTION · context live · {place}" in said
    assert said.index("PRODUCTION") < said.index("answers at")


def test_a_look_at_production_is_not(run_on_terminal: Callable[..., str]) -> None:
    """A warning that always appears is not noticed any more."""
    assert "PRODUCTION" not in run_on_terminal(*LOOK)
