"""Who may do what: bearer tokens of callers and of operators."""

import hmac
from collections.abc import Mapping, Sequence
from hashlib import sha256

from starlette.datastructures import Headers

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import Refused


class Credentials:
    """Knows the tokens by their digests; where none is configured everybody is let in, without a name."""

    def __init__(self, callers: Mapping[str, Sequence[str]], operators: Sequence[str]) -> None:
        self._callers = [(name, _digest(token)) for name, tokens in callers.items() for token in tokens]
        self._operators = [_digest(token) for token in operators]

    def identify_caller(self, headers: Headers) -> str | None:
        """The caller's name, None where none is needed. Raises `Refused`: 401, or 403 for operators."""
        if not self._callers:
            return None
        digest = _read_digest(headers)
        names = [name for name, known in self._callers if hmac.compare_digest(known, digest)]
        if names:
            return names[0]
        if self._is_operator(digest):
            raise Refused(LLMErrorCode.FORBIDDEN, "An operator's token is not for callers' routes.")
        raise _refuse_unknown()

    def check_operator(self, headers: Headers) -> None:
        """Raises `Refused`: 401, or 403 for a caller's token."""
        if not self._operators:
            return
        digest = _read_digest(headers)
        if self._is_operator(digest):
            return
        if _matches([known for _, known in self._callers], digest):
            raise Refused(LLMErrorCode.FORBIDDEN, "A caller's token is not for operators' routes.")
        raise _refuse_unknown()

    def _is_operator(self, digest: bytes) -> bool:
        return _matches(self._operators, digest)


def _matches(known: Sequence[bytes], digest: bytes) -> bool:
    # All are compared, whichever matches: the time taken tells nothing.
    return sum(hmac.compare_digest(one, digest) for one in known) > 0


def _refuse_unknown() -> Refused:
    return Refused(
        LLMErrorCode.UNAUTHORIZED, "This service needs a token it knows: send Authorization: Bearer TOKEN."
    )


def _read_digest(headers: Headers) -> bytes:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return _digest(token.strip()) if scheme.lower() == "bearer" else b""


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogateescape")).digest()
