"""What is offered for a value, and how it is said where nothing can be."""

from __future__ import annotations

from pathlib import Path

import pytest
import shellingham

from llmctl.__main__ import main
from llmctl.completion import complete_contexts, complete_providers, complete_scenarios

CONTEXTS = """
[contexts.production]
url = "https://llm.example.com"
environment = "prod"
[contexts.laptop]
url = "http://127.0.0.1:8080"
[contexts.bare]
"""


def complete(
    words: str, place: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """What bash is offered at a place in these words; nothing may be complained of."""
    monkeypatch.setenv("_LLMCTL_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(place))
    with pytest.raises(SystemExit) as ended:
        main([])
    said = capsys.readouterr()
    assert (ended.value.code, said.err) == (0, "")
    return said.out.split()


def test_contexts_are_offered_with_what_they_are(config_file: Path) -> None:
    """Production is to be seen before it is chosen."""
    config_file.write_text(CONTEXTS, encoding="utf-8")
    assert complete_contexts() == [
        ("production", "prod"),
        ("laptop", "http://127.0.0.1:8080"),
        ("bare", "context"),
    ]


@pytest.mark.parametrize("text", ["current = ", '[contexts.a]\nnonsense = "y"\n'])
@pytest.mark.parametrize("words", ["llmctl --context ", "llmctl tail-callbacks "])
def test_a_broken_file_of_contexts_offers_nothing(
    config_file: Path,
    text: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever runs a command is told what is wrong with it; a prompt is not."""
    config_file.write_text(text, encoding="utf-8")
    assert complete(words, 2, monkeypatch, capsys) == []


@pytest.mark.parametrize(
    ("words", "place", "offered"),
    [
        ("llmctl co", 1, ["config"]),
        ("llmctl providers ", 2, ["list", "hold", "release"]),
        ("llmctl submit --callback-t", 2, ["--callback-topic"]),
        ("llmctl config show --output ", 4, ["table", "json"]),
        ("llmctl simulate load --provider an", 4, ["anthropic"]),
        ("llmctl submit --provider an", 3, ["anthropic"]),
        ("llmctl simulate provider --scenario slow", 4, ["slow-drip"]),
        ("llmctl --context production config use ", 5, ["production", "laptop", "bare"]),
    ],
)
def test_words_are_completed(
    words: str,
    place: int,
    offered: list[str],
    config_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Commands, options, and the values that are known."""
    config_file.write_text(CONTEXTS, encoding="utf-8")
    assert complete(words, place, monkeypatch, capsys) == offered


def test_the_providers_and_scenarios_are_those_that_there_are() -> None:
    """The one for tests is nobody's to ask."""
    assert complete_providers() == ["openai", "anthropic", "google", "openrouter"]
    assert {"calm", "chaos"} <= set(complete_scenarios())


@pytest.mark.parametrize("option", ["--install-completion", "--show-completion"])
def test_an_unknown_shell_is_said_in_one_sentence(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no shell is among the parents, it is said how to name one."""

    def fail() -> None:
        raise shellingham.ShellDetectionFailure

    monkeypatch.setattr(shellingham, "detect_shell", fail)
    with pytest.raises(SystemExit) as ended:
        main([option])
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    (sentence,) = said.err.splitlines()
    assert sentence.startswith("Nothing says which shell this is; `_LLMCTL_COMPLETE=source_bash llmctl`")
