"""The exceptions of the service, and what each error code means to whoever receives it.

    ServiceError
    ├── Refused                 a request that is not accepted: answered over HTTP, nothing was stored
    ├── ProviderFailure         an attempt that brought no answer: tried again, or told in the callback
    ├── CallCutOff              a call that was not made, or closed, because its request was cancelled
    ├── AcceptedBefore          the key of a request belongs to an earlier one: nothing new was queued
    ├── QueueUnavailable        the durable queue cannot be written or read
    │   ├── QueueLocked         another process owns the queue file
    │   └── QueueUncertain      what was to be written may stand in the queue all the same
    ├── BrokerUnavailable       the broker cannot be reached
    ├── TopicUnreadable         a callback topic may not be read, or is not there
    └── PublishFailed           the broker did not take a callback; it stays in the outbox and is sent again
        ├── PublishRefused      the broker never will take it; it is parked for an operator
        └── PublishUncertain    the broker may have taken it; its topic is read before it is sent again

Foreign exceptions are translated into these where they arise, in the adapters, and nowhere else.
"""

from dataclasses import dataclass, field
from typing import Any

from service.contracts.error_codes import LLMErrorCode
from service.core.outcome import Usage
from service.core.records import Receipt


class ServiceError(Exception):
    """The root of everything that the service raises on purpose."""


class Refused(ServiceError):
    """A request is not accepted, and nothing of it was kept.

    `retry_after_seconds` is set where the same request may be accepted later.
    """

    def __init__(
        self,
        code: LLMErrorCode,
        message: str,
        *,
        details: dict[str, Any] | None = None,
        retry_after_seconds: int | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details or {}
        self.retry_after_seconds = retry_after_seconds
        self.status = STATUS_OF_REFUSAL[code] if status is None else status


@dataclass(eq=False)
class ProviderFailure(ServiceError):
    """One attempt brought no answer that can be used."""

    code: LLMErrorCode
    message: str
    """A sentence for the callback: never holds a prompt, an essay, an answer or a key."""
    retryable: bool
    """Whether the same request may well succeed a little later."""
    retry_after_seconds: float | None = None
    """How long the provider asked us to wait, where it did."""
    usage: Usage = field(default_factory=Usage)
    """What the attempt is known to have spent."""
    may_be_billed: bool = False
    """Whether the provider may charge for it although no usage is known."""
    model: str | None = None
    """The model that was asked, as the provider names it."""
    of_account: bool = False
    """Whether the refusal certainly concerns every call of the account, such as a used-up quota."""
    details: dict[str, Any] = field(default_factory=dict)
    """Facts for whoever looks into it: HTTP status, the provider's request id."""

    def __str__(self) -> str:
        return self.message


class CallCutOff(ServiceError):
    """A request was cancelled before its call began, or while it was under way (`begun`)."""

    def __init__(self, *, begun: bool) -> None:
        super().__init__("The request was cancelled.")
        self.begun = begun


class QueueUnavailable(ServiceError):
    """The durable queue cannot be read or written."""


class QueueRejected(QueueUnavailable):
    """The queue works, and cannot store or read this one thing: trying again does not help."""


class QueueLocked(QueueUnavailable):
    """The queue file is owned by another process."""


class QueueUncertain(QueueUnavailable):
    """The durable queue did not say whether it has what was to be written."""


class AcceptedBefore(ServiceError):
    """While a request was written, another one was accepted under its idempotency key; that one counts."""

    def __init__(self, receipt: Receipt) -> None:
        super().__init__(f"The key belongs to request {receipt.queue_id}.")
        self.receipt = receipt


class BrokerUnavailable(ServiceError):
    """No broker of the Kafka cluster can be reached."""


class TopicUnreadable(ServiceError):
    """A topic cannot be read back: it does not exist, or we may not read it."""


class PublishFailed(ServiceError):
    """The broker did not take a callback: it does not stand on its topic and can be sent again."""


class PublishRefused(PublishFailed):
    """The broker will not take this callback, however often it is sent, until somebody changes something.

    `reason` is Kafka's name of the refusal, such as `MESSAGE_TOO_LARGE`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class PublishUncertain(PublishFailed):
    """The broker may have taken a callback: it must not be sent again before its topic was read."""


STATUS_OF_REFUSAL: dict[LLMErrorCode, int] = {
    LLMErrorCode.INVALID_REQUEST: 422,
    LLMErrorCode.INVALID_PROMPT: 422,
    LLMErrorCode.CALLBACK_TOPIC_MISSING: 422,
    LLMErrorCode.INVALID_CALLBACK_TOPIC: 422,
    LLMErrorCode.INVALID_CONFIG: 422,
    LLMErrorCode.CONTENT_TOO_LONG: 413,
    LLMErrorCode.QUEUE_FULL: 503,
    LLMErrorCode.SERVICE_DRAINING: 503,
    LLMErrorCode.INTERNAL_ERROR: 503,
    LLMErrorCode.UNAUTHORIZED: 401,
    LLMErrorCode.FORBIDDEN: 403,
    LLMErrorCode.IDEMPOTENCY_CONFLICT: 409,
    LLMErrorCode.NOT_FOUND: 404,
    LLMErrorCode.METHOD_NOT_ALLOWED: 405,
}
"""The HTTP status of each code that can refuse a request."""

CALLBACK_ONLY: frozenset[LLMErrorCode] = frozenset(LLMErrorCode) - STATUS_OF_REFUSAL.keys()
"""Codes that end an accepted request and never refuse one."""

RETRYABLE: dict[LLMErrorCode, bool] = {
    code: code
    in {
        LLMErrorCode.PROVIDER_UNAVAILABLE,
        LLMErrorCode.PROVIDER_RATE_LIMIT,
        LLMErrorCode.PROVIDER_TIMEOUT,
        LLMErrorCode.PARSING_ERROR,
        LLMErrorCode.INVALID_RESPONSE,
        LLMErrorCode.QUEUE_FULL,
        LLMErrorCode.SERVICE_DRAINING,
        LLMErrorCode.INTERNAL_ERROR,
    }
    for code in LLMErrorCode
}
"""Whether the same request may succeed later, as a rule; a `ProviderFailure` says it for its own case."""
