"""Options override variables, variables the context, and the context the defaults."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from llmctl.contexts import ConfigFile
from llmctl.exits import UsageProblem
from llmctl.masking import mask
from llmctl.settings import Setting, resolve
from tests.unit.llmctl.conftest import Run

SAID: dict[str, dict[str, Any]] = {
    "option": {"url": "http://option", "bootstrap_servers": "option:1", "token": "option-token"},
    "variable": {"url": "http://variable", "bootstrap_servers": "variable:1", "token": "variable-token"},
    "context": {"url": "http://context", "bootstrap_servers": "context:1", "token": "context-token"},
    "default": {"url": "http://127.0.0.1:8080", "bootstrap_servers": "127.0.0.1:9092", "token": None},
}
NAMES = ("url", "bootstrap_servers", "token")


def show(run_llmctl: Run, *words: str) -> dict[str, dict[str, Any]]:
    ended = run_llmctl(*words, "config", "show", "--output", "json")
    assert ended.code == 0
    return {each["name"]: each for each in json.loads(ended.out)["settings"]}


@pytest.mark.parametrize(("name", "given"), list(product(NAMES, product([True, False], repeat=3))))
def test_option_overrides_variable_overrides_context_overrides_default(
    name: str,
    given: tuple[bool, bool, bool],
    config_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_llmctl: Run,
) -> None:
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
    found = show(run_llmctl, *words)[name]
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
def test_the_context_is_chosen_by_option_variable_or_file(
    words: list[str],
    variable: str | None,
    current: str | None,
    name: str | None,
    origin: str,
    config_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_llmctl: Run,
) -> None:
    if variable is not None:
        monkeypatch.setenv("LLMCTL_CONTEXT", variable)
    tables = "".join(f'[contexts.{each}]\nenvironment = "env-{each}"\n' for each in "abc")
    config_file.write_text((f'current = "{current}"\n' if current else "") + tables, encoding="utf-8")
    found = show(run_llmctl, *words)
    assert found["context"] == {
        "name": "context",
        "value": name,
        "origin": origin.format(file=config_file),
    }
    assert found["environment"]["value"] == (f"env-{name}" if name else None)


def test_a_commands_own_option_is_the_strongest() -> None:
    file = ConfigFile(Path("/c"), "", "a", {"a": {"url": "nonsense", "environment": "PROD"}})
    target = resolve({}, file).make_target()
    assert target.is_production
    with pytest.raises(UsageProblem, match=r"'nonsense' \(context a in /c\) is no URL"):
        _ = target.url
    assert target.override(url="http://b").url == "http://b"
    with pytest.raises(UsageProblem, match=r"^'worse' is no URL"):
        _ = target.override(url="worse").url


def test_an_unknown_context_stops_every_command_but_help(
    config_file: Path, run_llmctl: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    config_file.write_text("[contexts.dev]\n[contexts.prod]\n", encoding="utf-8")
    monkeypatch.setenv("LLMCTL_CONTEXT", "prd")
    for words in (["config", "show"], ["drain"], ["topics", "list"], ["submit", "--file", "/dev/null"]):
        ended = run_llmctl(*words)
        assert ended.code == 2
        assert "'prd' (environment LLMCTL_CONTEXT)" in ended.err
        assert "prod, dev" in ended.err  # the nearest name first
    assert run_llmctl("drain", "--help").code == 0


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
    assert mask(name, value) == shown
    assert value is None or value not in repr(Setting(name, value, "option"))


def test_no_form_of_output_shows_a_token(config_file: Path, run_llmctl: Run) -> None:
    config_file.write_text('current = "a"\n[contexts.a]\ntoken = "secret-token"\n', encoding="utf-8")
    for command, form in product(("show", "contexts"), ("table", "json")):
        ended = run_llmctl("config", command, "--output", form)
        assert "cret" not in ended.out + ended.err
        assert "se\\u2026" in ended.out or "se…" in ended.out


def test_a_token_that_others_can_read_is_warned_of(config_file: Path, run_llmctl: Run) -> None:
    config_file.write_text('[contexts.a]\ntoken = "secret-token"\n', encoding="utf-8")
    config_file.chmod(0o644)
    ended = run_llmctl("config", "contexts")
    assert ended.code == 0
    assert f"`chmod 600 {config_file}`" in ended.err
    assert json.loads(ended.out)["contexts"][0]["token"] == "se…"
