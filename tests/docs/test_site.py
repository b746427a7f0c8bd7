"""The site is built without a warning, says all that the code has, and loads nothing from elsewhere."""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer.main

from docs.builder.stage import ROOT, SiteProblem, cut_links_out, lay_out
from llmctl.app import app
from llmctl.exits import ExitCode
from service.contracts.error_codes import LLMErrorCode
from service.settings import Settings
from simulator.load.thresholds import METRICS
from simulator.provider.faults import FAULT_NAMES
from simulator.provider.scenario import list_presets
from tests.contracts.golden import fetch
from tests.waiting import HANG_SECONDS

LOADING = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "object": ("data",),
    "use": ("href",),
}
LINKS_THAT_ONLY_POINT = {"canonical", "next", "prev"}
ELSEWHERE = re.compile(r"^(?:https?:)?//")
LOADED_BY_STYLE = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])(?:https?:)?//[^\s"')]+""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it; where Zensical is missing, a skip at home and an error in CI."""
    if importlib.util.find_spec("zensical") is None:
        message = "zensical is not installed; `make docs` installs it."
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    folder = tmp_path_factory.mktemp("site")
    ended = run_builder(folder)
    assert ended.returncode == 0, ended.stderr
    return folder / "built"


def run_builder(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "docs.builder", "--sources", folder / "laid", "--site", folder / "built"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "link" and given.get("rel", "") not in LINKS_THAT_ONLY_POINT:
            self.loads.append(given.get("href", ""))
        self.loads += [given[name] for name in LOADING.get(tag, ()) if name in given]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read_pages(site: Path) -> Iterator[tuple[Path, Page]]:
    for path in site.rglob("*.html"):
        yield path, Page(path.read_text())


def find_foreign_loads(site: Path) -> list[str]:
    """Whatever a browser would fetch from another host, by page, style sheet or picture."""
    found = [
        f"{path.name}: {each}"
        for path, page in read_pages(site)
        for each in page.loads
        if ELSEWHERE.match(each)
    ]
    for kind in ("*.css", "*.svg", "*.html"):
        for path in site.rglob(kind):
            found += [f"{path.name}: {each}" for each in LOADED_BY_STYLE.findall(path.read_text())]
    return found


def test_every_page_is_built(site: Path) -> None:
    laid = site.parent / "laid" / "docs"
    pages = {path.relative_to(laid).with_suffix("") for path in laid.rglob("*.md")}
    built = {path.parent.relative_to(site) for path in site.rglob("index.html")}
    assert built == {path.parent if path.name == "index" else path for path in pages}
    assert all(path.stat().st_size > 0 for path in site.rglob("*.png"))
    assert all(path.stat().st_size > 0 for path in site.rglob("*.svg"))


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    assert find_foreign_loads(site) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("index.html", '<script src="https://unpkg.com/x.js"></script>'),
        ("index.html", '<link rel="stylesheet" href="//fonts.example.org/a.css">'),
        ("index.html", '<img src="http://example.org/count.gif">'),
        ("site.css", "@font-face { src: url('https://example.org/a.woff2') }"),
        ("demo.svg", "<svg><style>@import 'https://example.org/a.css';</style></svg>"),
    ],
)
def test_what_is_loaded_from_elsewhere_is_found(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert len(find_foreign_loads(tmp_path)) >= 1


def read_text(site: Path, name: str) -> str:
    return " ".join("".join(Page((site / "reference" / name / "index.html").read_text()).words).split())


def find_missing(names: set[str], text: str) -> set[str]:
    return {name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)}


SETTINGS = {name.upper() for name in Settings.model_fields} - {"CALLER_ALLOWLISTS"}
ROUTES = re.findall(
    r'^ {4}"(/[^"]*)": \{', (ROOT / "fixtures/schemas/openapi.json").read_text(), re.MULTILINE
)


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("settings", SETTINGS | {"CALLBACK_TOPIC_ALLOWLIST_<NAME>"}),
        ("errors", {each.value for each in LLMErrorCode}),
        ("http", set(ROUTES)),
        ("languages", set(METRICS)),
        ("scenarios", {*list_presets(), *FAULT_NAMES}),
    ],
)
def test_every_name_of_the_code_is_in_the_reference(site: Path, page: str, names: set[str]) -> None:
    assert len(names) > 5
    assert find_missing(names, read_text(site, page)) == set()


def walk_commands(command: Any, path: str = "llmctl") -> Iterator[tuple[str, set[str]]]:
    yield path, {name for each in command.params for name in each.opts if name.startswith("-")}
    for name, child in getattr(command, "commands", {}).items():
        yield from walk_commands(child, f"{path} {name}")


def test_every_command_option_and_exit_code_is_in_the_reference(site: Path) -> None:
    tree = dict(walk_commands(typer.main.get_command(app)))
    names = set(tree) | {name for options in tree.values() for name in options} - {"-h", "--help"}
    text = read_text(site, "commands")
    assert find_missing(names, text) == set()
    assert (
        find_missing({f"{each.value} {each.name.lower().replace('_', ' ')}" for each in ExitCode}, text)
        == set()
    )


async def test_every_metric_is_in_the_reference(site: Path, tmp_path: Path) -> None:
    served = set(re.findall(r"^# TYPE (\S+) ", (await fetch("/metrics", tmp_path)).text, re.MULTILINE))
    names = {name for name in served if not name.startswith("process_")}
    assert names
    assert find_missing(names, read_text(site, "metrics")) == set()


def test_a_missing_name_is_found() -> None:
    assert find_missing({"PORT", "--file"}, "HTTP_PORT and --files") == {"PORT", "--file"}


def test_a_broken_link_stops_the_build(tmp_path: Path, site: Path) -> None:
    """Warnings are errors: Zensical's own, over pages that were laid out."""
    configuration = lay_out(tmp_path / "laid")
    (tmp_path / "laid" / "docs" / "index.md").write_text("# Home\n\n[gone](nowhere.md)\n")
    ended = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "-f", configuration],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert ended.returncode != 0
    assert "page does not exist" in ended.stdout + ended.stderr


def test_links_into_the_repository_become_names() -> None:
    """The site stands alone; a link to a file that is not there stops the build."""
    page = Path("how-to/size-it.md")
    text = "[a](../scaling.md) [`b`](../../README.md) [c](https://example.org) [d](#here)"
    assert cut_links_out(text, page) == text.replace("[`b`](../../README.md)", "`b`")
    with pytest.raises(SiteProblem, match=r"no \.\./\.\./READ\.md"):
        cut_links_out("[b](../../READ.md)", page)
