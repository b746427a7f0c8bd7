"""Completion of words in the shell."""

from collections.abc import Callable
from pathlib import Path

import pytest
import shellingham

from llmctl.completion import complete_contexts, complete_providers, complete_scenarios
from tests.unit.llmctl.conftest import Run

CONTEXTS = """
[contexts.production]
url = "https://llm.example.com"
environment = "prod"
[contexts.laptop]
url = "http://127.0.0.1:8080"
[contexts.bare]
"""


Complete = Callable[[str, int], list[str]]


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch, run_llmctl: Run) -> Complete:
    """What bash offers at a place in these words."""

    def run(words: str, place: int) -> list[str]:
        monkeypatch.setenv("_LLMCTL_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(place))
        ended = run_llmctl()
        assert (ended.code, ended.err) == (0, "")
        return ended.out.split()

    return run


def test_contexts_are_offered_with_what_they_are(config_file: Path) -> None:
    config_file.write_text(CONTEXTS, encoding="utf-8")
    assert complete_contexts() == [
        ("production", "prod"),
        ("laptop", "http://127.0.0.1:8080"),
        ("bare", "context"),
    ]


@pytest.mark.parametrize("text", ["current = ", '[contexts.a]\nnonsense = "y"\n'])
@pytest.mark.parametrize("words", ["llmctl --context ", "llmctl tail-callbacks "])
def test_a_broken_file_of_contexts_offers_nothing(
    config_file: Path, text: str, words: str, complete: Complete
) -> None:
    """A command reports what is wrong with it; completion must not."""
    config_file.write_text(text, encoding="utf-8")
    assert complete(words, 2) == []


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
    words: str, place: int, offered: list[str], config_file: Path, complete: Complete
) -> None:
    config_file.write_text(CONTEXTS, encoding="utf-8")
    assert complete(words, place) == offered


def test_the_providers_and_scenarios_are_those_that_there_are() -> None:
    assert complete_providers() == ["openai", "anthropic", "google", "openrouter"]
    assert {"calm", "chaos"} <= set(complete_scenarios())


@pytest.mark.parametrize("option", ["--install-completion", "--show-completion"])
def test_an_unknown_shell_is_said_in_one_sentence(
    option: str, monkeypatch: pytest.MonkeyPatch, run_llmctl: Run
) -> None:
    def fail() -> None:
        raise shellingham.ShellDetectionFailure

    monkeypatch.setattr(shellingham, "detect_shell", fail)
    ended = run_llmctl(option)
    assert (ended.code, ended.out) == (2, "")
    (sentence,) = ended.err.splitlines()
    assert sentence.startswith("Nothing says which shell this is; `_LLMCTL_COMPLETE=source_bash llmctl`")
