"""Wrong usage of `llmctl doctor` is refused before anything is checked."""

import pytest

from tests.unit.llmctl.conftest import Run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a b"], "'a b' is no legal topic name"),
        (["--timeout", "0s"], "--timeout 0s waits for nothing"),
        (["--timeout", "soon"], "no duration"),
        (["--max-lag", "-1"], "--max-lag"),
        (["--admin-token", "schlüssel"], "check --admin-token"),
    ],
)
def test_wrong_usage_is_one_sentence(run_llmctl: Run, words: list[str], said: str) -> None:
    ended = run_llmctl("doctor", *words)
    assert (ended.code, ended.out, said in ended.err, ended.err.count("\n")) == (2, "", True, 1)
