"""A mistyped word is answered with what was meant."""

import pytest

from llmctl.misspellings import rank_near
from tests.unit.llmctl.conftest import Run


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("sumbit", "There is no command 'sumbit'; did you mean `llmctl submit`?"),
        ("tail", "There is no command 'tail'; did you mean `llmctl tail-callbacks`?"),
        ("bootstrap", "There is no command 'bootstrap'; did you mean `llmctl topics bootstrap`?"),
        (
            "topics boostrap",
            "There is no command 'boostrap' of `llmctl topics`; did you mean `llmctl topics bootstrap`?",
        ),
        ("topics drain", "There is no command 'drain' of `llmctl topics`; did you mean `llmctl drain`?"),
        (
            "simulate broker don",
            (
                "There is no command 'don' of `llmctl simulate broker`; "
                "did you mean `llmctl simulate broker down`?"
            ),
        ),
        ("qqqqq", "There is no command 'qqqqq'; `llmctl --help` shows what there is."),
        ("submit --fil x", "There is no option '--fil' of `llmctl submit`; did you mean --file?"),
        (
            "submit --topic x",
            "There is no option '--topic' of `llmctl submit`; did you mean --callback-topic?",
        ),
        ("--contxt a up", "There is no option '--contxt'; did you mean --context?"),
        (
            "topics list --context prod",
            (
                "There is no option '--context' of `llmctl topics list`; "
                "it stands before the command: `llmctl --context NAME topics list`."
            ),
        ),
        (
            "drain --verbose",
            (
                "There is no option '--verbose' of `llmctl drain`; "
                "it stands before the command: `llmctl --verbose drain`."
            ),
        ),
        (
            "submit -x",
            "There is no option '-x' of `llmctl submit`; `llmctl submit --help` shows what there is.",
        ),
        (
            "config show --output jsn",
            (
                "Invalid value for '--output' / '-o': 'jsn' is not one of 'table', 'json'; "
                "--help shows what there is."
            ),
        ),
    ],
)
def test_a_mistyped_word_is_answered_with_what_was_meant(words: str, sentence: str, run_llmctl: Run) -> None:
    ended = run_llmctl(*words.split())
    assert (ended.code, ended.out, ended.err) == (2, "", f"{sentence}\n")


def test_a_group_without_a_command_shows_its_help(run_llmctl: Run) -> None:
    ended = run_llmctl("topics")
    assert (ended.code, ended.err) == (2, "")
    assert "Usage: llmctl topics" in ended.out


def test_the_nearest_comes_first_and_far_ones_not_at_all() -> None:
    assert rank_near("lsit", ["describe", "list", "lists"]) == ["list", "lists"]
    assert rank_near("abcd", ["abce", "abcf", "abcg", "abch"]) == ["abce", "abcf", "abcg"]
    assert rank_near("x", []) == []
