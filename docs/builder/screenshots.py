"""`python -m docs.builder.screenshots`: the pictures of docs/images, taken from the real program."""

import asyncio
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from docs.builder.stage import PAGES, ROOT
from llmctl.tui.app import Monitor
from llmctl.tui.feeds.recording import Recording
from llmctl.tui.feeds.replay import Replay, ReplayClock
from llmctl.tui.session import Session
from simulator.load.reports.folder import read_run
from simulator.load.reports.html import render_page

IMAGES = PAGES / "images"
RECORDING = ROOT / "fixtures" / "monitor" / "outage.llmrec"
RUN = ROOT / "fixtures" / "runs" / "broker-outage"
COLUMNS, ROWS = 118, 36
DEMO_LINES = 12
PAGE_WIDTH, PAGE_HEIGHT = 1000, 620
LIMIT_SECONDS = 120
MOMENT_SECONDS, LATER_SECONDS = 18.0, 26.0
"""Within the recording: the provider's outage is under way, and over."""
MOVING_COLUMNS, MOVING_ROWS = 104, 30
MOVING_MOMENTS = (8.0, 11.0, 14.0, 17.0, 20.0, 22.0, 26.0)
FRAME_SECONDS = 2
_VIEW_BOX = re.compile(r'viewBox="[^"]+"')
_FONT_FACES = re.compile(r"@font-face\s*\{[^}]*\}\s*")
_UNIQUE = re.compile(r"(?<=terminal-)\d+")
_THEME = TerminalTheme(
    (30, 33, 39),
    (216, 218, 222),
    [
        (30, 33, 39),
        (224, 108, 117),
        (126, 192, 110),
        (229, 192, 123),
        (97, 175, 239),
        (198, 120, 221),
        (86, 182, 194),
        (216, 218, 222),
    ],
    [
        (110, 116, 130),
        (240, 128, 137),
        (150, 210, 134),
        (240, 210, 145),
        (120, 190, 245),
        (210, 140, 235),
        (110, 200, 210),
        (255, 255, 255),
    ],
)


def make_still(svg: str) -> str:
    """A picture that loads no font and does not change where nothing else does."""
    return _UNIQUE.sub("picture", _FONT_FACES.sub("", svg))


def make_moving(frames: Sequence[str]) -> str:
    """One picture that shows frames in turns; where motion is not wanted, the last one."""
    shown = 100 / len(frames)
    turns = " ".join(
        f".frame:nth-of-type({number}) {{ animation-delay: {(number - 1) * FRAME_SECONDS}s }}"
        for number in range(1, len(frames) + 1)
    )
    style = f"""
@keyframes turn {{
  0%, {shown:.2f}% {{ visibility: visible }}
  {shown + 0.01:.2f}%, 100% {{ visibility: hidden }}
}}
.frame {{ visibility: hidden; animation: turn {FRAME_SECONDS * len(frames)}s step-end infinite }}
{turns}
@media (prefers-reduced-motion) {{
  .frame {{ animation: none }}
  .frame:last-of-type {{ visibility: visible }}
}}
"""
    box = _VIEW_BOX.search(frames[0])
    assert box is not None, "a picture of Textual's has a box"
    parts = [
        f'<g class="frame">{_UNIQUE.sub(f"frame-{number}", _FONT_FACES.sub("", frame))}</g>'
        for number, frame in enumerate(frames, start=1)
    ]
    head = f'<svg {box[0]} xmlns="http://www.w3.org/2000/svg"><style>{style}</style>'
    return "\n".join([head, *parts, "</svg>"])


def run_in_terminal(words: Sequence[str]) -> str:
    """What a command shows a person, with its colors."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "COLORTERM": ""}
    env.pop("NO_COLOR", None)
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "llmctl", *words], stdout=theirs, stderr=subprocess.DEVNULL, env=env
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65_536):
                shown += chunk
        except OSError:  # the terminal is closed: the command is over
            pass
        finally:
            os.close(ours)
    if process.returncode:
        raise SystemExit(f"llmctl {' '.join(words)} ended with {process.returncode}.")
    return shown.decode()


def picture_demo() -> None:
    """The end of the demo's table, and its ledger."""
    lines = run_in_terminal(["demo"]).replace("\r", "").strip("\n").splitlines()
    shown = "\n".join([*lines[:2], "…", *lines[-DEMO_LINES:]])
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=COLUMNS - 14, file=nowhere, force_terminal=True)
        console.print(Text.from_ansi(shown), no_wrap=True)
        svg = console.export_svg(title="llmctl demo", theme=_THEME, unique_id="terminal-picture")
    (IMAGES / "demo.svg").write_text(make_still(svg))


async def picture_monitor() -> None:
    """The overview during an outage, the way of one request, and the whole outage as a moving picture."""
    steps: list[tuple[float, tuple[str, ...]]] = [(MOMENT_SECONDS, ()), (LATER_SECONDS, ("2", "enter"))]
    overview, callback = await take_pictures((COLUMNS, ROWS), steps)
    (IMAGES / "monitor.svg").write_text(make_still(overview))
    (IMAGES / "monitor-callback.svg").write_text(make_still(callback))
    moving = await take_pictures((MOVING_COLUMNS, MOVING_ROWS), [(seconds, ()) for seconds in MOVING_MOMENTS])
    (IMAGES / "outage.svg").write_text(make_moving(moving))


async def take_pictures(size: tuple[int, int], steps: Sequence[tuple[float, tuple[str, ...]]]) -> list[str]:
    """Plays the recording to each moment in turn, presses the keys there, and takes what is shown."""
    recording = Recording(RECORDING)
    try:
        clock = ReplayClock(recording.begin, recording.end, 1.0)
        clock.hold(True)
        clock.move_to(recording.begin + steps[0][0])
        app = Monitor(Session("recorded", clock, replay=Replay(recording, clock)))
        taken = []
        async with app.run_test(size=size) as pilot:
            for seconds, keys in steps:
                clock.move_to(recording.begin + seconds)
                await pilot.press(*keys)
                await pilot.pause()
                app.tick()
                await pilot.pause()
                taken.append(app.export_screenshot(title="llmctl monitor"))
        return taken
    finally:
        recording.close()


def picture_report() -> None:
    """The first screen of a run's report, where there is a browser to show it."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        sys.stderr.write("No Chromium is installed: report.png stays as it is.\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        page.write_text(render_page(read_run(RUN)))
        subprocess.run(  # noqa: S603 - found on the path
            [
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                f"--window-size={PAGE_WIDTH},{PAGE_HEIGHT}",
                f"--screenshot={IMAGES / 'report.png'}",
                page.as_uri(),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=LIMIT_SECONDS,
            check=True,
        )


def main() -> None:
    """Takes all of them."""
    IMAGES.mkdir(exist_ok=True)
    picture_demo()
    asyncio.run(picture_monitor())
    picture_report()
    for path in sorted(IMAGES.iterdir()):
        sys.stderr.write(f"{path.relative_to(ROOT)}  {path.stat().st_size / 1024:.0f} KiB\n")


if __name__ == "__main__":
    main()
