"""How each of the benchmark's processes begins and ends."""

import gc
import json
import os
import socket
import sys
import threading

BACKLOG_CONNECTIONS = 2048


def end_with_parent() -> None:
    """With `--exit-with-parent`: ends this process when its standard input ends, however the parent does."""
    if "--exit-with-parent" not in sys.argv:
        return

    def wait() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def read_option(name: str, default: float) -> float:
    """The number that follows an option on the command line."""
    return float(sys.argv[sys.argv.index(name) + 1]) if name in sys.argv else default


def bind() -> socket.socket:
    """A listener on a free port of this machine."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(BACKLOG_CONNECTIONS)
    return listener


def announce(listener: socket.socket) -> None:
    """Says that this process is ready and where; collects garbage as seldom as the service does."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    print(json.dumps({"ready": True, "url": url, "pid": os.getpid()}), flush=True)
