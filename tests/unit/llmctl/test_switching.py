"""`config use` changes the line that says which context is current, and no other byte."""

import json
from pathlib import Path

import pytest

from llmctl.__main__ import main
from llmctl.contexts import read_config
from llmctl.exits import UsageProblem
from llmctl.switching import choose_context, switch_context

TABLES = '[contexts.a]  # mine\nurl="http://a"\n\n[contexts."b c"]\n\turl = \'http://b\''
LOOKS_LIKE_IT = 'current = "x"\ncontexts.a.token = """\ncurrent = "y"\n"""\ncontexts.b.url = "u"\n'


@pytest.mark.parametrize(
    ("before", "name", "after"),
    [
        (f'current = "a"\n{TABLES}', "b c", f'current = "b c"\n{TABLES}'),
        (f"# top\n  current='a'   # why\n{TABLES}", "b c", f'# top\n  current="b c"   # why\n{TABLES}'),
        (f'"current" = "a" # c\n{TABLES}', "b c", f'"current" = "b c" # c\n{TABLES}'),
        (f"# top\n{TABLES}", "a", f'current = "a"\n# top\n{TABLES}'),
        (
            'current = "b"\r\n[contexts.a]\r\n[contexts.b]\r\n',
            "a",
            'current = "a"\r\n[contexts.a]\r\n[contexts.b]\r\n',
        ),
        ("[contexts.a]\r\n", "a", 'current = "a"\r\n[contexts.a]\r\n'),
        (
            '[contexts.current]\nurl = "u"\n',
            "current",
            'current = "current"\n[contexts.current]\nurl = "u"\n',
        ),
        (LOOKS_LIKE_IT, "b", LOOKS_LIKE_IT.replace('"x"', '"b"')),
        (
            'contexts.a.token = """\ncurrent = "y"\n"""\ncurrent = "x"\n',
            "a",
            'contexts.a.token = """\ncurrent = "y"\n"""\ncurrent = "a"\n',
        ),
        (
            '[contexts."q\\"\\\\ü\\u007f"]\n',
            'q"\\ü\x7f',
            'current = "q\\"\\\\ü\\u007f"\n[contexts."q\\"\\\\ü\\u007f"]\n',
        ),
    ],
)
def test_changes_one_line(before: str, name: str, after: str) -> None:
    """Comments, quotes, line ends and texts that only look like it stay as they are."""
    assert choose_context(before, name, Path("/c")) == after


def test_gives_up_rather_than_change_something_else() -> None:
    """A value over several lines is left to its author."""
    with pytest.raises(UsageProblem, match="cannot be changed alone"):
        choose_context('current = """\nb"""\n[contexts.a]\n[contexts.b]\n', "a", Path("/c"))


def test_keeps_mode_link_and_bytes(config_file: Path, tmp_path: Path) -> None:
    """A linked file stays where it is, its mode stays, and nothing else is left in its folder."""
    real = tmp_path / "dotfiles" / "llmctl.toml"
    real.parent.mkdir()
    real.write_bytes(f'current = "a"\r\n{TABLES}\r\n# ü'.encode())
    real.chmod(0o640)
    config_file.unlink()
    config_file.symlink_to(real)
    switch_context(read_config(), "b c")
    assert real.read_bytes() == f'current = "b c"\r\n{TABLES}\r\n# ü'.encode()
    assert real.stat().st_mode & 0o777 == 0o640
    assert config_file.is_symlink()
    assert [each.name for each in real.parent.iterdir()] == [real.name]


def test_an_unknown_context_changes_nothing(config_file: Path) -> None:
    """The file stays, and the contexts there are are named."""
    config_file.write_text(TABLES, encoding="utf-8")
    with pytest.raises(UsageProblem, match="there are"):
        switch_context(read_config(), "z")
    assert config_file.read_text(encoding="utf-8") == TABLES


def test_the_command_says_what_is_current(
    config_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the current one is wrong, it can be set right; a variable that overrules it is named."""
    config_file.write_text('current = "gone"\n[contexts.a]\n', encoding="utf-8")
    monkeypatch.setenv("LLMCTL_CONTEXT", "b")
    with pytest.raises(SystemExit) as ended:
        main(["config", "use", "a"])
    said = capsys.readouterr()
    assert ended.value.code == 0
    assert json.loads(said.out) == {"file": str(config_file), "current": "a", "previous": "gone"}
    assert said.err == "For now b is chosen instead, by environment LLMCTL_CONTEXT.\n"
    with pytest.raises(SystemExit):
        main(["config", "contexts", "--output", "table"])
    assert "*  a" in capsys.readouterr().out.replace("* a", "*  a")
