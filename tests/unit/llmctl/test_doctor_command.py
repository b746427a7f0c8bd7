"""`llmctl doctor`: what is wrong usage before anything is examined."""

import pytest

from llmctl.__main__ import main


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
def test_wrong_usage_is_one_sentence(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    """Exit code 2, and no data."""
    with pytest.raises(SystemExit) as ended:
        main(["doctor", *words])

    out, err = capsys.readouterr()
    assert (ended.value.code, out, said in err, err.count("\n")) == (2, "", True, 1)
