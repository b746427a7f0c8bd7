"""Checks the addresses of Kafka brokers, for the service and the command line alike."""

import re
from typing import Final

_SERVER: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_MOST_PORT: Final = 65535


def find_wrong_server(servers: str) -> str | None:
    """Returns the first entry that is not `host` or `host:port`, None if all are.

    `servers` is a list with commas; an empty entry, as after a trailing comma, is wrong too.
    """
    for server in servers.split(","):
        found = _SERVER.fullmatch(server.strip())
        if found is None or (found[1] is not None and not 0 < int(found[1]) <= _MOST_PORT):
            return server
    return None
