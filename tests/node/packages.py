"""The tools that run on Node.js, from the npm packages that `package-lock.json` names by hash."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import platformdirs

from tests.waiting import HANG_SECONDS

HERE = Path(__file__).parent
MANIFEST = ("package.json", "package-lock.json", "validate.mjs")


class NodeMissing(Exception):
    """The tools cannot be had on this machine; the text says what is missing."""


def install_packages() -> Path:
    """The folder of `node_modules` and `validate.mjs`; the first time, npm brings them, about 200 MB.

    Raises `NodeMissing`.
    """
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise NodeMissing(
                f"The validators need Node.js, 20 or newer, with npm: there is no `{program}` on the PATH."
            )
    wanted = hashlib.blake2b(b"".join((HERE / name).read_bytes() for name in MANIFEST), digest_size=8)
    cache = Path(os.environ.get("LLMCTL_TEST_CACHE") or platformdirs.user_cache_path("llmctl-tests"))
    folder = cache / f"node-{wanted.hexdigest()}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        _install(folder)
    return folder


def _install(folder: Path) -> None:
    # Whole or not at all: another run may be looking, and this one may be cut off.
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        fresh = Path(name) / "packages"
        fresh.mkdir()
        for file in MANIFEST:
            shutil.copy(HERE / file, fresh)
        try:
            done = subprocess.run(
                ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
                cwd=fresh,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=HANG_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise NodeMissing(
                f"npm did not bring the validators within {HANG_SECONDS} s; is there a network?"
            ) from None
        if done.returncode != 0:
            raise NodeMissing(f"npm cannot bring the validators: {_first_error(done.stderr)}")
        try:
            fresh.rename(folder)
        except OSError:
            if not folder.is_dir():  # another run was faster
                raise


def _first_error(output: str) -> str:
    return next((line for line in output.splitlines() if "error" in line), "it does not say why")
