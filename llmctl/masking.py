"""Values as they may be shown to anyone: in tables, errors and logs."""

from __future__ import annotations

from urllib.parse import urlsplit

from llmctl.contexts import SECRET_KEYS

_MASK = "…"
_SHOWN_CHARACTERS = 2
_MIN_SECRET_TO_SHOW = 5


def mask_url(url: str) -> str:
    """A URL, or what was meant as one, without the password in it."""
    if "@" not in url:
        return url
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError:
        return _MASK
    if password is not None:
        user, _, host = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{user.partition(':')[0]}:{_MASK}@{host}").geturl()
    # What stands before the last @ may hold one all the same, where it is no URL at all.
    before, _, behind = url.rpartition("@")
    return f"{_MASK}@{behind}" if ":" in before.removeprefix(f"{parts.scheme}://") else url


def mask(name: str, value: str | None) -> str | None:
    """The value of a setting without what is secret in it: all but the beginning of a token."""
    if value is None:
        return None
    if name == "kafka_sasl_password":
        return _MASK
    if name in SECRET_KEYS:
        return (value[:_SHOWN_CHARACTERS] if len(value) >= _MIN_SECRET_TO_SHOW else "") + _MASK
    return mask_url(value) if name == "url" else value
