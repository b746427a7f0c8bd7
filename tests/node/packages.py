"""The tools that run on Node.js, from the npm packages that `package-lock.json` names by hash."""

import shutil
from pathlib import Path

from tests.apache_kafka.artifacts import download_once

HERE = Path(__file__).parent
MANIFEST = ("package.json", "package-lock.json", "validate.mjs")


class NodeMissing(Exception):
    """The tools cannot be had on this machine; the text says what is missing."""


def install_packages() -> Path:
    """Returns the folder of `node_modules` and `validate.mjs`; the first time, npm downloads 200 MB.

    Raises `NodeMissing`.
    """
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise NodeMissing(
                f"The validators need Node.js, 20 or newer, with npm: there is no `{program}` on the PATH."
            )
    manifest = [HERE / name for name in MANIFEST]
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    return download_once("node", manifest, lambda _: command, NodeMissing)
