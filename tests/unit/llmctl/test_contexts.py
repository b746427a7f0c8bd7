"""The file of contexts is checked when it is read, and listed without its tokens."""

import json
from pathlib import Path

import pytest

from llmctl.contexts import parse_config
from llmctl.exits import UsageProblem
from tests.unit.llmctl.conftest import Run

CONFIG = """# mine
current = "laptop"  # for now

[contexts.laptop]
url = "http://127.0.0.1:8080"

[contexts.live]
url = "https://live.example.com"
bootstrap_servers = "kafka:9092"
token = "canary-token"
environment = "prod"
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("current = \n", "line 1"),
        ("[contexts.a]\nurl = 7\n", "line 2"),
        ("[contexts.a]\nurl = ''\n", "line 2"),
        ("[contexts.a]\nulr = 'http://x'\n", "did you mean url"),
        ("contexts = 3\n", "no table"),
        ("currnt = 'a'\n", "did you mean current"),
    ],
)
def test_a_faulty_file_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(UsageProblem, match=r"config\.toml") as caught:
        parse_config(text, Path("config.toml"))
    assert said in str(caught.value)


def test_contexts_are_listed_with_the_current_one_marked(config_file: Path, run_llmctl: Run) -> None:
    config_file.write_text(CONFIG)
    ended = run_llmctl("config", "contexts", "--output", "json")
    document = json.loads(ended.out)
    assert (ended.code, document["current"]) == (0, "laptop")
    assert [row["name"] for row in document["contexts"]] == ["laptop", "live"]
    assert document["contexts"][1]["token"] == "ca…"


def test_help_needs_no_readable_file(config_file: Path, run_llmctl: Run) -> None:
    config_file.write_text("broken")
    assert run_llmctl("drain", "--help").code == 0
