"""The file of contexts: where each value comes from, what is refused, what is never shown."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from llmctl.__main__ import main
from llmctl.app import app
from llmctl.contexts import parse_config
from llmctl.exits import UsageProblem
from llmctl.switching import choose_context

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


def run_main(*arguments: str) -> int:
    """Runs llmctl in this process; its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


Ask = Callable[..., tuple[int, dict[str, dict[str, str | None]], str]]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with two contexts."""
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    path.chmod(0o600)
    monkeypatch.setenv("LLMCTL_CONFIG", str(path))
    return path


@pytest.fixture
def ask(config: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Runs `llmctl … config show`; the settings by name."""

    def run(*arguments: str) -> tuple[int, dict[str, dict[str, str | None]], str]:
        code = run_main(*arguments, "config", "show", "--output", "json")
        out, err = capsys.readouterr()
        rows = json.loads(out)["settings"] if out else []
        return code, {row["name"]: row for row in rows}, err

    return run


def test_current_context_gives_values_and_defaults_the_rest(ask: Ask, config: Path) -> None:
    """What no option, variable or context says is a default, and each value says where it is from."""
    _, settings, _ = ask()

    assert settings["url"] == {
        "name": "url",
        "value": "http://127.0.0.1:8080",
        "origin": f"context laptop in {config}",
    }
    assert settings["bootstrap_servers"]["origin"] == "default"
    assert settings["token"]["value"] is None


def test_option_beats_variable_beats_context(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of precedence, one step after the other."""
    monkeypatch.setenv("LLMCTL_CONTEXT", "live")
    _, by_context, _ = ask()
    monkeypatch.setenv("LLMCTL_URL", "http://127.0.0.1:1111")
    _, by_variable, _ = ask()
    _, by_option, _ = ask("--url", "http://127.0.0.1:2222")

    assert by_context["url"]["value"] == "https://live.example.com"
    assert (by_variable["url"]["value"], by_variable["url"]["origin"]) == (
        "http://127.0.0.1:1111",
        "environment LLMCTL_URL",
    )
    assert (by_option["url"]["value"], by_option["url"]["origin"]) == ("http://127.0.0.1:2222", "option")


def test_token_is_masked(ask: Ask) -> None:
    """A token is never shown whole."""
    _, settings, err = ask("--context", "live")

    assert settings["token"]["value"] == "ca…"
    assert "canary" not in err


def test_token_that_others_can_read_is_pointed_out(ask: Ask, config: Path) -> None:
    """A file with a token and a loose mode is told on stderr, and works."""
    config.chmod(0o644)

    code, _, err = ask()

    assert code == 0
    assert "chmod 600" in err


def test_unknown_context_names_the_nearest_first(ask: Ask) -> None:
    """A misspelled context ends in exit 2 and the names there are."""
    code, _, err = ask("--context", "lve")

    assert code == 2
    assert "live, laptop" in err


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
def test_faulty_file_is_refused_with_its_line(text: str, said: str) -> None:
    """What is wrong in the file is said with the file and the line."""
    with pytest.raises(UsageProblem, match=r"config\.toml") as caught:
        parse_config(text, Path("config.toml"))

    assert said in str(caught.value)


def test_use_changes_one_line_and_no_other_byte(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Comments, order, spacing and the mode of the file stay."""
    code = run_main("config", "use", "live")

    assert code == 0
    assert config.read_text() == CONFIG.replace('current = "laptop"', 'current = "live"')
    assert config.stat().st_mode & 0o777 == 0o600
    assert "live" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "[contexts.a]\nurl = 'http://x'\n", 'note = """\ncurrent = "x"\n"""\n'])
def test_use_writes_a_first_line_where_there_is_none(text: str) -> None:
    """A file without a current context gets one, before its tables."""
    changed = choose_context(text, "a", Path("config.toml"))

    assert changed == f'current = "a"\n{text}'


def test_contexts_are_listed_with_the_current_one_marked(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The list tells names and addresses, and no token."""
    assert run_main("config", "contexts", "--output", "json") == 0

    document = json.loads(capsys.readouterr().out)
    assert document["current"] == "laptop"
    assert [row["name"] for row in document["contexts"]] == ["laptop", "live"]
    assert document["contexts"][1]["token"] == "ca…"


def test_help_needs_no_readable_file(config: Path) -> None:
    """A broken file does not keep anybody from reading the help."""
    config.write_text("broken")

    assert CliRunner().invoke(app, ["drain", "--help"]).exit_code == 0
