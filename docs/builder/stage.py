"""Lays out the sources of the site in one folder: the pages of docs/, the reference, the decisions."""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from docs.builder.commands import write_commands
from docs.builder.contracts import write_event, write_http
from docs.builder.languages import write_languages, write_scenarios
from docs.builder.markdown import write_page
from docs.builder.service import write_errors, write_metrics, write_settings

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs"
CONFIGURATION = ROOT / "mkdocs.yml"
DECISIONS = "adr/index.md"
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")
_DECISIONS_FRONT = "What was chosen, what was rejected, and why: one page a decision, as of its day."

REFERENCE: Mapping[str, Callable[[], str]] = {
    "reference/commands.md": write_commands,
    "reference/settings.md": write_settings,
    "reference/metrics.md": write_metrics,
    "reference/http.md": write_http,
    "reference/event.md": write_event,
    "reference/errors.md": write_errors,
    "reference/languages.md": write_languages,
    "reference/scenarios.md": write_scenarios,
}
"""The pages that are written from the code."""


class SiteProblem(Exception):
    """The site cannot be built as it stands; the text says what to change."""


def lay_out(folder: Path) -> Path:
    """Fills a folder with sources and configuration of the site; returns the configuration's path."""
    shutil.rmtree(folder, ignore_errors=True)
    pages = folder / "docs"
    shutil.copytree(PAGES, pages, ignore=shutil.ignore_patterns("builder", "__pycache__"))
    for name, write in REFERENCE.items():
        target = pages / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(write())
    for page in pages.rglob("*.md"):
        page.write_text(cut_links_out(page.read_text(), page.relative_to(pages)))
    decisions = list_decisions(pages)
    (pages / DECISIONS).write_text(_write_decisions(decisions))
    configuration = _read_configuration(decisions)
    _compare_with_navigation(pages, configuration)
    configuration |= {"docs_dir": "docs", "site_dir": "site"}
    path = folder / "mkdocs.yml"
    path.write_text(yaml.safe_dump(configuration, sort_keys=False, allow_unicode=True))
    return path


def cut_links_out(text: str, page: Path) -> str:
    """A page whose links to files of the repository beside docs/ are names: the site stands alone."""

    def cut(link: re.Match[str]) -> str:
        target = link[2].partition("#")[0]
        path = (PAGES / page.parent / target).resolve()
        if not target or ":" in target or path.is_relative_to(PAGES) or not path.is_relative_to(ROOT):
            return link[0]
        if not path.exists():
            raise SiteProblem(f"docs/{page}: there is no {target}; correct the link.")
        return link[1]

    return _LINK.sub(cut, text)


def list_decisions(pages: Path) -> list[tuple[str, str]]:
    """The records of decisions: file and title."""
    found = []
    for path in sorted((pages / "adr").glob("[0-9]*.md")):
        title = _TITLE.search(path.read_text())
        if title is None:
            raise SiteProblem(f"{path.name} has no title; begin it with `# `.")
        found.append((path.name, title[1]))
    return found


def _write_decisions(decisions: list[tuple[str, str]]) -> str:
    lines = "\n".join(f"- [{title}]({name})" for name, title in decisions)
    return write_page("# Decisions", _DECISIONS_FRONT, lines)


def _read_configuration(decisions: list[tuple[str, str]]) -> dict[str, Any]:
    """mkdocs.yml, with every decision under the one entry that stands for them."""
    configuration: dict[str, Any] = yaml.safe_load(CONFIGURATION.read_text())
    for entry in configuration["nav"]:
        if isinstance(entry, dict) and entry.get("Decisions") == DECISIONS:
            numbered = [
                {title.partition(". ")[0].zfill(2) + " " + _shorten(title): f"adr/{name}"}
                for name, title in decisions
            ]
            entry["Decisions"] = [DECISIONS, *numbered]
    return configuration


def _shorten(title: str) -> str:
    """A title as it fits into the navigation: up to its first comma, colon or semicolon."""
    return re.split(r"[,:;]", title.partition(". ")[2])[0]


def _compare_with_navigation(pages: Path, configuration: Mapping[str, Any]) -> None:
    """A page that nobody can reach, or an entry without a page, is a mistake."""
    entries = list(_walk_navigation(configuration["nav"]))
    named = set(entries)
    if len(entries) != len(named):
        raise SiteProblem("mkdocs.yml: a page stands in nav more than once.")
    there = {str(path.relative_to(pages)) for path in pages.rglob("*.md")}
    if named != there:
        lost, missing = ", ".join(sorted(there - named)), ", ".join(sorted(named - there))
        raise SiteProblem(
            f"mkdocs.yml: not in nav: {lost or 'none'}; in nav without a page: {missing or 'none'}."
        )


def _walk_navigation(entries: Any) -> Iterator[str]:
    if isinstance(entries, str):
        yield entries
    elif isinstance(entries, Mapping):
        for each in entries.values():
            yield from _walk_navigation(each)
    else:
        for each in entries:
            yield from _walk_navigation(each)
