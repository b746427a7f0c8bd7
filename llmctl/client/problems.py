"""What a user of the library has to expect; each text is one sentence: what is wrong, where, what to do.

ClientProblem
├── WrongSetting           an address, token or context that makes no sense; also a ValueError
├── Refused                the service refused the request, with its status and its `ErrorDetail`
├── ComparisonFailed       the callback says that there is no winner, with its `ErrorDetail`
├── TimedOut               a limit passed before the callback came; also a TimeoutError
├── CallbackUnreadable     the callback came, and is no valid envelope
├── ServiceOutOfReach      the service does not answer, or something else answers there
├── BrokerOutOfReach       Kafka does not answer
├── TopicUnreadable        there is no such topic, or it was deleted, or Kafka does not let us read it
├── PositionLost           records from a position on are gone, with the position of what is left
└── ClientClosed           the client was closed meanwhile, or its reading broke
"""

from __future__ import annotations

import re
from typing import Any

from llmctl.client.http import Refused as Refusal
from llmctl.client.positions import Position
from service.contracts.errors import ErrorDetail
from service.contracts.events import LLMComparisonResultV1

_OPTION = re.compile(r"--([a-z]+(?:-[a-z]+)*)")


class ClientProblem(Exception):
    """Anything that the library raises by itself."""


class WrongSetting(ClientProblem, ValueError):
    """What was given, or stands in a variable or the file of contexts, makes no sense."""


class Refused(ClientProblem):
    """The service did not accept the request; nothing will come of it."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"{refusal.code}: {refusal.message}")
        self.status = refusal.status
        """HTTP's."""
        self.code = refusal.code
        """An `LLMErrorCode`'s value."""
        self.error: dict[str, Any] = refusal.error
        """The `ErrorDetail` as it came."""


class ComparisonFailed(ClientProblem):
    """The request was accepted and ended without a winner."""

    def __init__(self, error: ErrorDetail, result: LLMComparisonResultV1) -> None:
        super().__init__(f"{error.error_code.value}: {error.message}")
        self.error = error
        self.result = result
        """What else the callback says: provider, tokens, cost."""


class TimedOut(ClientProblem, TimeoutError):
    """A limit passed; the service goes on with what it has accepted."""

    def __init__(
        self,
        sentence: str,
        *,
        queue_id: str | None = None,
        position: Position | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        super().__init__(sentence)
        self.queue_id = queue_id
        """None where no 202 had come yet."""
        self.position = position
        """Where the callback can still be looked for; None where it is not known."""
        self.idempotency_key = idempotency_key
        """Hands in the same request once more without having it answered twice."""


class CallbackUnreadable(ClientProblem):
    """What stands on the topic for the request is no valid envelope."""


class ServiceOutOfReach(ClientProblem):
    """No answer of the service."""

    def __init__(self, sentence: str, *, idempotency_key: str | None = None) -> None:
        super().__init__(sentence)
        self.idempotency_key = idempotency_key
        """Where it is open whether the request was accepted: hands it in once more, not twice."""


class BrokerOutOfReach(ClientProblem):
    """No answer of Kafka."""


class TopicUnreadable(ClientProblem):
    """Callbacks on this topic cannot be read."""


class PositionLost(ClientProblem):
    """Retention has removed records that were not read yet, or the topic was made anew."""

    def __init__(self, sentence: str, position: Position) -> None:
        super().__init__(sentence)
        self.position = position
        """Goes on with what is left."""


class ClientClosed(ClientProblem):
    """There is nobody any more who reads callbacks."""


def say_parameters(sentence: str) -> str:
    """A sentence of the command line as the library says it: the option `--url` is the parameter `url=`."""
    return _OPTION.sub(lambda found: f"`{found[1].replace('-', '_')}=`", sentence)
