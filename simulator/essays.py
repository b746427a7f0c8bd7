"""The essays and comparisons that ship with the project: what is asked, and what a good judge would say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import orjson

_PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Essay:
    """A student's essay whose place among those on the same assignment is known."""

    id: str
    prompt_id: str
    prompt: str
    """The assignment, as the students read it."""
    rank: int
    """1 is the best of its assignment."""
    text: str


def fixtures_root(package: Path = _PACKAGE) -> Path:
    """The folder of the shipped data: inside the package once installed, beside it in a checkout.

    Raises `FileNotFoundError` where neither exists.
    """
    for folder in (package / "fixtures", package.parent / "fixtures"):
        if (folder / "essays" / "index.json").is_file():
            return folder
    raise FileNotFoundError(
        f"The shipped essays are neither in {package} nor beside it. Install the package again."
    )


def load_essays(root: Path | None = None) -> tuple[Essay, ...]:
    """Every shipped essay, ordered by assignment and then from the best to the weakest."""
    folder = (root or fixtures_root()) / "essays"
    entries = orjson.loads((folder / "index.json").read_bytes())
    essays = (
        Essay(
            id=entry["id"],
            prompt_id=entry["prompt_id"],
            prompt=entry["prompt"],
            rank=entry["rank"],
            text=(folder / entry["file"]).read_text(encoding="utf-8").strip(),
        )
        for entry in entries
    )
    return tuple(sorted(essays, key=lambda essay: (essay.prompt_id, essay.rank)))


def pairs_path() -> Path:
    """The shipped comparisons, one request body a line, without a callback topic."""
    return fixtures_root() / "pairs.jsonl"
