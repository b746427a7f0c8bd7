"""What tests of `deploy/` share."""

import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from service.web.connection import LINGER_SECONDS
from service.web.server import CLOSE_LIMIT_SECONDS, LAST_REQUESTS_LIMIT_SECONDS
from tests.waiting import HANG_SECONDS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CLOSING_SECONDS = LAST_REQUESTS_LIMIT_SECONDS + CLOSE_LIMIT_SECONDS + LINGER_SECONDS + 5
"""After the drain: what the web side takes at most, and five seconds for the publisher."""


def read_project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def name_image() -> str:
    project = read_project()["project"]
    return f"{project['name']}:{project['version']}"


def run_tool(*words: str | Path, hint: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed{hint}")
    return subprocess.run(words, capture_output=True, text=True, timeout=HANG_SECONDS, check=False, **options)
