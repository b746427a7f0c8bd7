"""Elements of HTML and SVG, built so that foreign text can never become markup.

A plain `str` is text and gets escaped wherever it is put; only what came out of `element` is `Markup`. The
result is well-formed XML as well, so that any parser can check a page.
"""

from __future__ import annotations

import re
from html import escape
from typing import TypeAlias

Attribute: TypeAlias = "str | float | None"

_CONTROL_PICTURES = 0x2400
_HARMFUL = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls but tab and newline: no XML takes them
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"  # of no width, or turning the text around
    "\ud800-\udfff\ufffe\uffff"  # half characters and no characters
    "]"
)


class Markup(str):
    """Text that is markup already, and is put into a page as it is."""

    __slots__ = ()


def show_harmful(text: str) -> str:
    """The text with every character visible that could hide, turn text around, or break a document."""
    return _HARMFUL.sub(_show, text)


def escape_text(text: str) -> Markup:
    """The text as it stands in markup; what is markup already stays."""
    return text if isinstance(text, Markup) else Markup(escape(show_harmful(text), quote=True))


def element(tag: str, /, *children: str, **attributes: Attribute) -> Markup:
    """One element with its children in order.

    Of an attribute's name a trailing underscore falls away and any other becomes a hyphen; None leaves the
    attribute out.
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape_text(_write(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    content = "".join(escape_text(child) for child in children)
    return Markup(f"<{tag}{written}/>" if tag in _VOID else f"<{tag}{written}>{content}</{tag}>")


def join(*parts: str) -> Markup:
    """Several pieces in a row."""
    return Markup("".join(escape_text(part) for part in parts))


def verbatim(tag: str, text: str, /, **attributes: Attribute) -> Markup:
    """A `style` or `script` element, whose text no browser unescapes; ValueError where it could end it."""
    if "<" in text or "&" in text:
        raise ValueError(f"the text of a {tag} element must hold neither < nor &")
    return element(tag, Markup(text), **attributes)


_VOID = {"meta", "br", "col"}


def _write(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.5g}"


def _show(found: re.Match[str]) -> str:
    code = ord(found[0])
    return chr(_CONTROL_PICTURES + code) if code < 0x20 else f"\\u{code:04x}"
