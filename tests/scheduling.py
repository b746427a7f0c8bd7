"""Which tests stay together on one worker of pytest-xdist.

pytest-xdist 3.8 loses the groups of `--dist loadgroup` under pytest 9.2, so they are chosen by node id here.
"""

import pytest
from xdist.scheduler import LoadScopeScheduling

APACHE = "apache"
"""In the parameters of every test that runs on Apache Kafka."""
SPREAD = "tests/process/"
SHARING = ("test_fake_provider.py", "test_packaging.py", "test_schema_validators.py", "test_vendor_sdks.py")
"""Files in `SPREAD` whose tests share what their module starts."""
SLOW_FOLDERS = ("docs", "process", "long", "flow", "ports", "tui")
"""In the order in which they are started; the other folders come last."""


class GroupScheduling(LoadScopeScheduling):
    """Gives each group of tests to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        return choose_group(nodeid)


def choose_group(nodeid: str) -> str:
    """Returns the group of a test: all on Apache Kafka, those of one file, or the test alone."""
    path, _, test = nodeid.partition("::")
    if APACHE in test.partition("[")[2]:
        return APACHE
    alone = path.startswith(SPREAD) and not path.endswith(SHARING)
    return nodeid if alone else path


def rank(item: pytest.Item) -> int:
    """Returns the place of a test's folder: slow ones first, so that no worker ends alone with one."""
    folder = item.nodeid.split("/")[1]
    return SLOW_FOLDERS.index(folder) if folder in SLOW_FOLDERS else len(SLOW_FOLDERS)
