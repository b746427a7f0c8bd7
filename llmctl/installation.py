"""What is installed here, where it stands, and the versions of what decides how it behaves."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable
from importlib.metadata import Distribution, distribution, version
from pathlib import Path

NAME = "llmctl"
_WIDTH = 12


def describe_installation() -> str:
    """The version in the first line, then where it is and what it runs on: what a bug report needs."""
    own = distribution(NAME)
    found = {
        "installed": _say_place(own),
        "python": f"{platform.python_version()} at {sys.executable}",
        "aiokafka": _try(lambda: version("aiokafka")),
        "librdkafka": _try(_find_librdkafka),
        "SQLite": _try(_find_sqlite),
        "system": f"{platform.system()} {platform.release()} on {platform.machine()}",
    }
    return "\n".join([f"{NAME} {own.version}", *(f"  {name:{_WIDTH}}{said}" for name, said in found.items())])


def _say_place(own: Distribution) -> str:
    place = str(Path(__file__).parent)
    origin = json.loads(own.read_text("direct_url.json") or "{}")
    return f"{place} (editable)" if origin.get("dir_info", {}).get("editable") else place


def _find_librdkafka() -> str:
    from confluent_kafka import libversion

    return f"{libversion()[0]} of confluent-kafka {version('confluent-kafka')}"


def _find_sqlite() -> str:
    import apsw

    return f"{apsw.sqlite_lib_version()} of apsw {version('apsw')}"


def _try(find: Callable[[], str]) -> str:
    """What is broken is what whoever asks wants to know: so it is said, not raised."""
    try:
        return find()
    except (ImportError, OSError) as problem:
        return f"cannot be loaded: {problem}"
