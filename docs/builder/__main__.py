"""`python -m docs.builder`: builds the site into site/; exit 1 with the reason where anything is wrong."""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from docs.builder.stage import ROOT, SiteProblem, lay_out

LIMIT_SECONDS = 300


def build_site(sources: Path, site: Path) -> None:
    """Lays the sources out and runs Zensical on them; SiteProblem where it finds fault with a page."""
    configuration = lay_out(sources)
    ended = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "-f", str(configuration)],
        cwd=sources,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    said, _, _ = (ended.stdout + ended.stderr).partition("Traceback (most recent call last)")
    if ended.returncode or "Warning" in said:
        raise SiteProblem(said.strip())
    shutil.rmtree(site, ignore_errors=True)
    shutil.copytree(sources / "site", site)


def main() -> int:
    """Builds the site where the options say."""
    options = argparse.ArgumentParser(prog="python -m docs.builder", description=__doc__)
    options.add_argument("--sources", type=Path, default=ROOT / "build" / "site", help="laid out here")
    options.add_argument("--site", type=Path, default=ROOT / "site", help="built into this folder")
    chosen = options.parse_args()
    try:
        build_site(chosen.sources.absolute(), chosen.site.absolute())
    except SiteProblem as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    sys.stderr.write(f"The site is in {chosen.site}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
