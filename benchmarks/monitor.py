"""What the monitor costs at some hundred callbacks a second, on a pseudo-terminal: CPU a tick, memory.

    python -m benchmarks.monitor [--rate 500] [--seconds 60]

Everything between one tick and the next is counted: taking callbacks in, drawing, what Textual writes. The
callbacks are made ahead, so that making them costs nothing here.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import pty
import select
import struct
import sys
import tempfile
import termios
import time
from pathlib import Path

from llmctl.tui.app import Monitor
from llmctl.tui.feeds.mock import MockService
from llmctl.tui.model.clock import LiveClock
from llmctl.tui.model.frames import Callbacks, Figures, Sink
from llmctl.tui.session import Session

SIZES = {"80x24": (80, 24), "120x36": (120, 36), "200x60": (200, 60)}
POOL = 5000
BATCHES_PER_SECOND = 10
WARM_UP_SECONDS = 5


class SteadySource:
    """So many callbacks a second, and figures twice a second."""

    def __init__(self, clock: LiveClock, per_second: int) -> None:
        self._clock = clock
        self._batch = per_second // BATCHES_PER_SECOND
        self._mock = MockService(1)
        self._pool = [self._mock._make_row(clock.now(), place % 50 == 0, False) for place in range(POOL)]  # noqa: SLF001

    async def run(self, sink: Sink) -> None:
        """Runs until cancelled."""
        due = time.monotonic()
        for number in range(10**9):
            now = self._clock.now()
            first = number * self._batch
            sink.take(Callbacks(now, tuple(self._pool[(first + n) % POOL] for n in range(self._batch))))
            if number % 5 == 0:
                sink.take(Figures(now, "mock", self._mock._describe(now, 10, 10, False)))  # noqa: SLF001
            due += 1 / BATCHES_PER_SECOND
            await asyncio.sleep(max(0.0, due - time.monotonic()))


class Measured(Monitor):
    """The monitor, which notes the process's CPU time at each tick and ends by itself."""

    def __init__(self, session: Session, seconds: float) -> None:
        super().__init__(session)
        self.cpu: list[float] = []
        self.memory: list[float] = []
        self._ends = time.monotonic() + WARM_UP_SECONDS + seconds
        self._begins = time.monotonic() + WARM_UP_SECONDS

    def tick(self) -> None:
        """A tick, noted."""
        if time.monotonic() >= self._begins:
            self.cpu.append(time.process_time())
            self.memory.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6)
        super().tick()
        if time.monotonic() >= self._ends:
            self.exit()


def measure(rate: int, seconds: float, result: Path) -> None:
    """Runs the monitor on this terminal and writes what it cost."""
    clock = LiveClock()
    app = Measured(Session("benchmark", clock, [SteadySource(clock, rate)]), seconds)
    app.run()
    spent = sorted(after - before for before, after in zip(app.cpu, app.cpu[1:], strict=False))
    shares = {"p50": 0.5, "p95": 0.95, "max": 1.0}
    figures = {name: spent[min(len(spent) - 1, int(len(spent) * share))] for name, share in shares.items()}
    seen = app.session.store.feed.total
    memory = (app.memory[0], app.memory[-1])
    result.write_text(json.dumps({"ticks": len(spent), "seen": seen, "memory": memory, **figures}))


def run_in_terminal(size: tuple[int, int], rate: int, seconds: float) -> dict[str, float]:
    """The same in a child on a pseudo-terminal of that size."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        child, screen = pty.fork()
        if child == 0:
            os.environ["TERM"] = "xterm-256color"
            time.sleep(0.2)  # until the size is set
            measure(rate, seconds, result)
            os._exit(0)
        fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        while True:
            ready, _, _ = select.select([screen], [], [], 1.0)
            try:
                if ready and not os.read(screen, 65536):
                    break
            except OSError:
                break
        os.waitpid(child, 0)
        return dict(json.loads(result.read_text()))


def main() -> None:
    """Prints one line for each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=60)
    chosen = parser.parse_args()
    print(f"{chosen.rate} callbacks a second for {chosen.seconds:g} s, CPU between two ticks of 250 ms")
    for name, size in SIZES.items():
        found = run_in_terminal(size, chosen.rate, chosen.seconds)
        milliseconds = ", ".join(f"{each} {found[each] * 1000:.1f} ms" for each in ("p50", "p95", "max"))
        begin, end = found["memory"]
        print(
            f"{name:>7}: {milliseconds}; memory {begin:.1f} MB → {end:.1f} MB; "
            f"{found['seen']:,.0f} callbacks, {found['ticks']:.0f} ticks"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
