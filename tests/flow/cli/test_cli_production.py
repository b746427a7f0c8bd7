"""Every command that changes something says so first where it is production's."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.waiting import HANG_SECONDS

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


async def run_on(terminal: tuple[int, int], words: tuple[str, ...], config_file: Path, port: int) -> str:
    """What a command says on its terminal in a context that is production, where nobody listens."""
    url, servers = f"http://127.0.0.1:{port}", f"127.0.0.1:{port}"
    text = f'current = "live"\n[contexts.live]\nurl = "{url}"\nbootstrap_servers = "{servers}"\n'
    await asyncio.to_thread(config_file.write_text, f'{text}environment = "prod"\n')
    ours, theirs = terminal
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "llmctl", *(str(config_file) if word == "ESSAY" else word for word in words)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=theirs,
    )
    async with asyncio.timeout(HANG_SECONDS):
        assert await process.wait() == 3, "nobody is there who could obey"
    return (await asyncio.to_thread(os.read, ours, 65536)).decode()


@pytest.mark.parametrize("words", CHANGES, ids=" ".join)
async def test_a_change_of_production_is_framed(
    words: tuple[str, ...], config_file: Path, terminal: tuple[int, int], dead_port: int
) -> None:
    """Before anything else is said: which context, and where."""
    said = await run_on(terminal, words, config_file, dead_port)
    place = f"{'' if words[0] == 'topics' else 'http://'}127.0.0.1:{dead_port}"
    assert f"PRODUCTION · context live · {place}" in said
    assert said.index("PRODUCTION") < said.index("answers at")


async def test_a_look_at_production_is_not(
    config_file: Path, terminal: tuple[int, int], dead_port: int
) -> None:
    """A frame that is always there is not seen any more."""
    assert "PRODUCTION" not in await run_on(terminal, LOOK, config_file, dead_port)
