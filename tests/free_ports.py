"""Ports that stay free while what listened on them is down."""

import random
import socket
from contextlib import suppress
from pathlib import Path

HOST = "127.0.0.1"
FIRST_PORT = 20_000
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def find_free_ports(count: int) -> list[int]:
    """Returns free ports below those that the kernel gives to outgoing connections."""
    ephemeral = int(EPHEMERAL.read_text().split()[0]) if EPHEMERAL.exists() else 32_768
    free: list[int] = []
    # Drawn at random: other workers look for ports at the same time.
    for port in random.sample(range(FIRST_PORT, ephemeral), ephemeral - FIRST_PORT):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            free.append(port)
        if len(free) == count:
            break
    return free
