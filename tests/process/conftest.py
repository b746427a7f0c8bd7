"""What only tests that start other programs share."""

import os
from pathlib import Path

import pytest

from tests.closing import transports_end  # noqa: F401 - for every test
from tests.node.packages import NodeMissing, install_packages


@pytest.fixture(scope="session")
def node_tools() -> Path:
    """The folder of the tools that run on Node.js; a machine without is a skip at home and an error in CI."""
    try:
        return install_packages()
    except NodeMissing as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))
