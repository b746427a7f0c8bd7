"""Foreign text cannot control or disguise a terminal."""

import unicodedata
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from llmctl.render.safe import safe, safe_line
from llmctl.render.tables import cell
from llmctl.render.terminal import Output, Terminal

HOSTILE = (
    # titles, colours and modes
    *(
        "\x1b]0;title\x07",
        "\x1b]2;title\x1b\\",
        "\x1b[31mred",
        "\x1b[0m",
        "\x1b[?1049h",
        "\x1b[?25l",
        "\x1bc",
    ),
    *("\x1b(0", "\x1b[4h", "\x1b[?1000h", "\x1b[?2004h", "\x1b[!p", "\x1b[20l", "\x1b[>4;1m", "\x1b#8"),
    # the cursor and the screen
    *("\x1b[2J", "\x1b[H", "\x1b7", "\x1b8", "\x1b[1000D", "\x1b[A\x1b[K", "\x1b[s", "\x1b[u", "\x1b[1;1r"),
    # questions that the terminal answers, the clipboard, links and files
    *(
        "\x1b[6n",
        "\x1b[5n",
        "\x1b[c",
        "\x1b[>c",
        "\x1b[21t",
        "\x1b]50;?\x07",
        "\x1b]4;1;?\x07",
        "\x1b]10;?\x07",
    ),
    *("\x1b]52;c;aGk=\x07", "\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\", "\x1b]1337;File=:AA==\x07"),
    *("\x1bP$q\x1b\\", "\x1bP+q544e\x1b\\", "\x1b_G\x1b\\", "\x1b^pm\x1b\\", "\x1bX\x1b\\"),
    # control characters of one byte
    *("\x9b2J", "\x9d0;title\x9c", "\x90q\x9c", "\x85next", "\x84", "\x8d", "\x00nul", "\x07bell", "a\x08b"),
    *("over\rwritten", "\x0bvt", "\x0cff", "\x0eso\x0f", "\x7f"),
    # what is not seen, or turns the text around
    *("\u202egnp.exe", "\u202aa\u202c", "\u2066a\u2069", "\u200bzero", "\u200dj", "\ufeffbom"),
    *("line\u2028break", "para\u2029break", "\u061calm", "soft\u00adhyphen", "\U000e0041tag", "\ud800half"),
)


@pytest.mark.parametrize("text", HOSTILE)
def test_neutralizes_known_sequences(text: str) -> None:
    said = safe(text)
    assert said != text
    assert said.isprintable()
    said.encode("utf-8")


def test_knows_at_least_sixty_sequences() -> None:
    assert len(set(HOSTILE)) >= 60


DIRECTIONS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


@given(st.text())
def test_leaves_nothing_that_controls(text: str) -> None:
    for character in safe(text):
        assert character in "\n\t" or unicodedata.category(character) not in {"Cc", "Cs", "Zl", "Zp"}
        assert unicodedata.bidirectional(character) not in DIRECTIONS


@given(st.text(alphabet=st.characters(codec="utf-8", categories=("L", "N", "P", "Zs"))))
def test_leaves_ordinary_text_alone(text: str) -> None:
    visible = "".join(each for each in text if each not in "\u115f\u1160\u3164\uffa0")
    assert safe(visible) == visible


@given(st.text())
def test_one_line_is_one_line(text: str) -> None:
    assert len(safe_line(text).splitlines()) <= 1
    assert "\t" not in safe_line(text)


def test_keeps_what_people_write() -> None:
    assert safe("a\n\tb") == "a\n\tb"
    assert safe_line(" a\r\n\tb ") == "a b"
    assert safe("\x1b\x7f\x9b\u202e") == "␛␡\\x9b\\u202e"


@pytest.mark.parametrize("text", HOSTILE)
def test_table_cells_and_errors_are_safe(text: str) -> None:
    said = StringIO()
    terminal = Terminal(Console(file=said), Console(file=said), Output.TABLE)
    terminal.say(text)
    terminal.show(cell(text))
    assert all(line.isprintable() for line in said.getvalue().split("\n"))
    assert cell(text).plain.isprintable()
