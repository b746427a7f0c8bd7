"""A mistyped word is answered with what was meant."""

import pytest

from llmctl.__main__ import main
from llmctl.misspellings import rank_near


def complain(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said about the words, which are wrong usage."""
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    (sentence,) = said.err.splitlines()
    return sentence


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
def test_says_what_was_meant(words: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Here or in another group, in whole or in part, behind the command or before it."""
    assert complain(words, capsys) == sentence


def test_a_group_alone_shows_its_help_and_complains_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage still, but the help is the whole answer."""
    with pytest.raises(SystemExit) as ended:
        main(["topics"])
    said = capsys.readouterr()
    assert (ended.value.code, said.err) == (2, "")
    assert "Usage: llmctl topics" in said.out


def test_the_nearest_comes_first_and_far_ones_not_at_all() -> None:
    """At most three, without those that are much farther than the nearest."""
    assert rank_near("lsit", ["describe", "list", "lists"]) == ["list", "lists"]
    assert rank_near("abcd", ["abce", "abcf", "abcg", "abch"]) == ["abce", "abcf", "abcg"]
    assert rank_near("x", []) == []
