"""Rewrites the head of a response into the strict form that httptools parses.

Some gateways send what RFC 9112 tells clients to tolerate or what the vendors' SDKs (httpx over h11) accept:
a repeated Content-Length, folded header lines, bare line feeds. A call isn't lost, and paid again, for that.
"""

import re
from typing import Final

_END: Final = re.compile(rb"\r?\n\r?\n")
_FOLDED_OR_BARE: Final = re.compile(rb"\n[ \t]|(?<!\r)\n")
_FRAMING: Final = re.compile(rb"\n(?:content-length|transfer-encoding)[ \t]*:[^\n,]*,?", re.IGNORECASE)


def find_end(data: bytes | bytearray, searched: int = 0) -> int | None:
    """Returns where the head ends, None if the rest of it hasn't come yet.

    The first `searched` bytes don't hold its end.
    """
    found = _END.search(data, max(0, searched - 3))
    return None if found is None else found.end()


def make_strict(head: bytes) -> bytes:
    """Returns the head as it came if it is strict, else rewritten, with a connection that isn't reused.

    A contradiction is left in, so that the parser refuses it.
    """
    framing = _FRAMING.findall(head)
    is_plain = not framing or (len(framing) == 1 and not framing[0].endswith(b","))
    if is_plain and _FOLDED_OR_BARE.search(head) is None:
        return head
    first, *fields = _unfold(head)
    kept: dict[bytes, bytes] = {}
    others: list[bytes] = []
    for field in fields:
        name, _, value = field.partition(b":")
        if name.lower() != b"content-length":
            others.append(field)
            continue
        for length in value.split(b","):
            kept[length.strip()] = b"Content-Length: " + length.strip()
    if any(field.lower().startswith(b"transfer-encoding:") for field in others):
        kept.clear()  # RFC 9112, 6.3: it overrides the length
    return b"\r\n".join((first, *others, *kept.values(), b"Connection: close", b"", b""))


def _unfold(head: bytes) -> list[bytes]:
    lines: list[bytes] = []
    for line in head.rstrip(b"\r\n").split(b"\n"):
        text = line.rstrip(b"\r")
        if len(lines) > 1 and text[:1] in {b" ", b"\t"}:
            lines[-1] += b" " + text.strip()
        else:
            lines.append(text)
    return lines
