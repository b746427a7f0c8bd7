"""`config use` changes the line of the current context, and no other byte."""

import json
from pathlib import Path

import pytest

from llmctl.contexts import read_config
from llmctl.exits import UsageProblem
from llmctl.switching import choose_context, switch_context
from tests.unit.llmctl.conftest import Run

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
        ("", "a", 'current = "a"\n'),
        ('note = """\ncurrent = "x"\n"""\n', "a", 'current = "a"\nnote = """\ncurrent = "x"\n"""\n'),
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
    assert choose_context(before, name, Path("/c")) == after


def test_gives_up_rather_than_change_something_else() -> None:
    with pytest.raises(UsageProblem, match="cannot be changed alone"):
        choose_context('current = """\nb"""\n[contexts.a]\n[contexts.b]\n', "a", Path("/c"))


def test_keeps_mode_link_and_bytes(config_file: Path, tmp_path: Path) -> None:
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
    config_file.write_text(TABLES, encoding="utf-8")
    with pytest.raises(UsageProblem, match="there are"):
        switch_context(read_config(), "z")
    assert config_file.read_text(encoding="utf-8") == TABLES


def test_the_command_says_what_is_current(
    config_file: Path, run_llmctl: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    config_file.write_text('current = "gone"\n[contexts.a]\n', encoding="utf-8")
    monkeypatch.setenv("LLMCTL_CONTEXT", "b")
    ended = run_llmctl("config", "use", "a")
    assert ended.code == 0
    assert json.loads(ended.out) == {"file": str(config_file), "current": "a", "previous": "gone"}
    assert ended.err == "For now b is chosen instead, by environment LLMCTL_CONTEXT.\n"
    listed = run_llmctl("config", "contexts", "--output", "table").out
    assert "*  a" in listed.replace("* a", "*  a")
