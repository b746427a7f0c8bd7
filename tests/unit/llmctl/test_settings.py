"""An option is stronger than a variable, a variable than the context, the context than the default."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from llmctl.__main__ import main
from llmctl.contexts import ConfigFile
from llmctl.exits import UsageProblem
from llmctl.masking import mask
from llmctl.settings import Setting, resolve

SAID: dict[str, dict[str, Any]] = {
    "option": {"url": "http://option", "bootstrap_servers": "option:1", "token": "option-token"},
    "variable": {"url": "http://variable", "bootstrap_servers": "variable:1", "token": "variable-token"},
    "context": {"url": "http://context", "bootstrap_servers": "context:1", "token": "context-token"},
    "default": {"url": "http://127.0.0.1:8080", "bootstrap_servers": "127.0.0.1:9092", "token": None},
}
NAMES = ("url", "bootstrap_servers", "token")


def show(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, dict[str, Any]]:
    """What `config show` says, by name."""
    with pytest.raises(SystemExit) as ended:
        main([*words, "config", "show", "--output", "json"])
    assert ended.value.code == 0
    return {each["name"]: each for each in json.loads(capsys.readouterr().out)["settings"]}


@pytest.mark.parametrize(("name", "given"), list(product(NAMES, product([True, False], repeat=3))))
def test_the_nearest_wins(
    name: str,
    given: tuple[bool, bool, bool],
    config_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every combination of option, variable and context, for every value, with its origin in words."""
    by_option, by_variable, by_context = given
    words = [f"--{name.replace('_', '-')}", str(SAID["option"][name])] if by_option else []
    if by_variable:
        monkeypatch.setenv(f"LLMCTL_{name.upper()}", str(SAID["variable"][name]))
    values = f'{name} = "{SAID["context"][name]}"' if by_context else ""
    config_file.write_text(f'current = "c"\n[contexts.c]\n{values}\n', encoding="utf-8")
    origins = {
        "option": "option",
        "variable": f"environment LLMCTL_{name.upper()}",
        "context": f"context c in {config_file}",
        "default": "default",
    }
    winner = next(
        origin
        for origin, there in zip(origins, (by_option, by_variable, by_context, True), strict=True)
        if there
    )
    found = show(capsys, *words)[name]
    assert found["origin"] == origins[winner]
    assert found["value"] == mask(name, SAID[winner][name])


@pytest.mark.parametrize(
    ("words", "variable", "current", "name", "origin"),
    [
        (["--context", "a"], "b", "c", "a", "option"),
        ([], "b", "c", "b", "environment LLMCTL_CONTEXT"),
        ([], "", "c", "c", "current in {file}"),
        ([], None, "c", "c", "current in {file}"),
        ([], None, None, None, "default"),
    ],
)
def test_the_context_itself_is_chosen_alike(
    words: list[str],
    variable: str | None,
    current: str | None,
    name: str | None,
    origin: str,
    config_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An empty variable is none; without any choice no context is in force."""
    if variable is not None:
        monkeypatch.setenv("LLMCTL_CONTEXT", variable)
    tables = "".join(f'[contexts.{each}]\nenvironment = "env-{each}"\n' for each in "abc")
    config_file.write_text((f'current = "{current}"\n' if current else "") + tables, encoding="utf-8")
    found = show(capsys, *words)
    assert found["context"] == {
        "name": "context",
        "value": name,
        "origin": origin.format(file=config_file),
    }
    assert found["environment"]["value"] == (f"env-{name}" if name else None)


def test_a_commands_own_option_is_the_strongest() -> None:
    """What stands behind the command beats everything, and is not blamed on the context."""
    file = ConfigFile(Path("/c"), "", "a", {"a": {"url": "nonsense", "environment": "PROD"}})
    target = resolve({}, file).make_target()
    assert target.is_production
    with pytest.raises(UsageProblem, match=r"'nonsense' \(context a in /c\) is no URL"):
        _ = target.url
    assert target.override(url="http://b").url == "http://b"
    with pytest.raises(UsageProblem, match=r"^'worse' is no URL"):
        _ = target.override(url="worse").url


def test_an_unknown_context_stops_the_command(
    config_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever chose it is named; nothing goes to the default instead. Help is not in need of it."""
    config_file.write_text("[contexts.dev]\n[contexts.prod]\n", encoding="utf-8")
    monkeypatch.setenv("LLMCTL_CONTEXT", "prd")
    for words in (["config", "show"], ["drain"], ["topics", "list"], ["submit", "--file", "/dev/null"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
        assert "'prd' (environment LLMCTL_CONTEXT)" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["drain", "--help"])
    assert ended.value.code == 0


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("token", "secret-token", "se…"),
        ("token", "abcde", "ab…"),
        ("token", "abcd", "…"),
        ("token", None, None),
        ("url", "http://u:password@h:1/p", "http://u:…@h:1/p"),
        ("url", "http://u@h:1", "http://u@h:1"),
        ("url", "http://h:1", "http://h:1"),
        ("url", "http://[u:password@h", "…"),
        ("url", "u:password@h:1", "…@h:1"),
        ("url", "http:/u:password@h", "…@h"),
        ("url", "http://u:pass/word@h", "…@h"),
        ("kafka_sasl_password", "canary-of-mine", "…"),
        ("environment", "prod", "prod"),
    ],
)
def test_secrets_are_masked(name: str, value: str | None, shown: str | None) -> None:
    """A token shows its first two characters, a short one nothing; a URL no password."""
    assert mask(name, value) == shown
    assert value is None or value not in repr(Setting(name, value, "option"))


def test_no_form_of_output_shows_a_token(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither table nor JSON, neither `show` nor `contexts`."""
    config_file.write_text('current = "a"\n[contexts.a]\ntoken = "secret-token"\n', encoding="utf-8")
    for command, form in product(("show", "contexts"), ("table", "json")):
        with pytest.raises(SystemExit):
            main(["config", command, "--output", form])
        said = capsys.readouterr()
        assert "cret" not in said.out + said.err
        assert "se\\u2026" in said.out or "se…" in said.out


def test_a_token_that_others_can_read_is_warned_of(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr; the data stays data."""
    config_file.write_text('[contexts.a]\ntoken = "secret-token"\n', encoding="utf-8")
    config_file.chmod(0o644)
    with pytest.raises(SystemExit) as ended:
        main(["config", "contexts"])
    said = capsys.readouterr()
    assert ended.value.code == 0
    assert f"`chmod 600 {config_file}`" in said.err
    assert json.loads(said.out)["contexts"][0]["token"] == "se…"
