"""Each promise names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "promises.md"
ROWS = re.findall(r"^\| (?!promise|---)(.+?) \| (.+?) \|$", PAGE.read_text(), re.MULTILINE)


@pytest.mark.parametrize(("promise", "tests"), ROWS, ids=[promise for promise, _ in ROWS])
def test_a_promise_names_tests_that_exist(promise: str, tests: str) -> None:
    places = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", tests)

    assert len(places) == tests.count("`") / 2 > 0
    for path, name in places:
        defined = {getattr(node, "name", None) for node in ast.walk(ast.parse((ROOT / path).read_text()))}
        assert name in defined, f"{path} has no {name}"
