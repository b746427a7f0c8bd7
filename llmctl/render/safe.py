"""Foreign text made harmless: what a record or an answer says can neither steer nor disguise a terminal.

Terminal escapes are sequences of C0 and C1 controls (ECMA-48); the bidirectional controls reorder what is
read (CVE-2021-42574, "Trojan Source"); zero-width characters hide in it. Each becomes visible instead.
"""

import re

_CONTROL_PICTURES = 0x2400
_DELETE = 0x7F
_DELETE_PICTURE = "\u2421"

_HARMFUL = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tab and newline, DEL, C1
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # invisible, or of no width
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb"  # zero width, bidi, separators
    "\ud800-\udfff"  # half a character: no terminal can show it, and no encoder takes it
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"  # invisible musical marks and tags
    "]"
)

_BLANKS = re.compile(r"(?:[ \t\n]|\r\n)+")


def safe(text: str) -> str:
    """`text` with every harmful character replaced by a visible one; tabs and newlines stay."""
    return _HARMFUL.sub(_show, text)


def safe_line(text: str) -> str:
    """The same in one line, for a table cell or a message."""
    # str.split() would also swallow the separators that must become visible.
    return safe(_BLANKS.sub(" ", text).strip(" "))


def _show(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(_CONTROL_PICTURES + code)
    if code == _DELETE:
        return _DELETE_PICTURE
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
