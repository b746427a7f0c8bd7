"""What each error code means to whoever receives it: complete, and as published."""

import pytest

from service.contracts.error_codes import LLMErrorCode
from service.core import errors
from service.core.errors import (
    CALLBACK_ONLY,
    RETRYABLE,
    STATUS_OF_REFUSAL,
    BrokerUnavailable,
    ProviderFailure,
    PublishFailed,
    QueueLocked,
    QueueUnavailable,
    Refused,
    ServiceError,
)

PUBLISHED_STATUS = {
    "LLM_INVALID_PROMPT": 422,
    "LLM_INVALID_REQUEST": 422,
    "LLM_CALLBACK_TOPIC_MISSING": 422,
    "LLM_INVALID_CALLBACK_TOPIC": 422,
    "LLM_INVALID_CONFIG": 422,
    "LLM_CONTENT_TOO_LONG": 413,
    "LLM_QUEUE_FULL": 503,
    "LLM_SERVICE_DRAINING": 503,
    "LLM_INTERNAL_ERROR": 503,
    "LLM_UNAUTHORIZED": 401,
    "LLM_FORBIDDEN": 403,
    "LLM_IDEMPOTENCY_CONFLICT": 409,
    "LLM_NOT_FOUND": 404,
    "LLM_METHOD_NOT_ALLOWED": 405,
}

LATER = {
    "LLM_PROVIDER_UNAVAILABLE",
    "LLM_PROVIDER_RATE_LIMIT",
    "LLM_PROVIDER_TIMEOUT",
    "LLM_PARSING_ERROR",
    "LLM_INVALID_RESPONSE",
    "LLM_QUEUE_FULL",
    "LLM_SERVICE_DRAINING",
    "LLM_INTERNAL_ERROR",
}


@pytest.mark.parametrize("code", LLMErrorCode)
def test_code_has_a_verdict_and_a_status_or_a_callback(code: LLMErrorCode) -> None:
    """A refusal that can be retried is a 503; a code of callbacks cannot refuse."""
    assert (code in STATUS_OF_REFUSAL) != (code in CALLBACK_ONLY)
    assert RETRYABLE[code] is (code.value in LATER)
    assert STATUS_OF_REFUSAL.get(code) == PUBLISHED_STATUS.get(code.value)
    if code in CALLBACK_ONLY:
        with pytest.raises(KeyError):
            Refused(code, "No.")
    else:
        assert RETRYABLE[code] is (Refused(code, "No.").status == 503)


def test_tables_hold_exactly_the_codes() -> None:
    assert set(RETRYABLE) == set(LLMErrorCode) == set(STATUS_OF_REFUSAL) | CALLBACK_ONLY


def test_refusal_carries_status_details_and_wait() -> None:
    plain = Refused(LLMErrorCode.QUEUE_FULL, "The queue is full.")
    assert (plain.status, plain.details, plain.retry_after_seconds) == (503, {}, None)
    assert str(plain) == "The queue is full."
    more = {"details": {"field": "x"}, "retry_after_seconds": 3, "status": 415}
    special = Refused(LLMErrorCode.INVALID_REQUEST, "Send JSON.", **more)
    assert (special.status, special.details, special.retry_after_seconds) == (415, {"field": "x"}, 3)


@pytest.mark.parametrize(
    "kind", [Refused, ProviderFailure, QueueUnavailable, QueueLocked, BrokerUnavailable, PublishFailed]
)
def test_every_exception_has_one_root_and_is_documented(kind: type[Exception]) -> None:
    assert issubclass(kind, ServiceError)
    assert kind.__name__ in str(errors.__doc__)
    assert issubclass(QueueLocked, QueueUnavailable)


def test_two_failures_are_never_the_same() -> None:
    """Exceptions compare by identity, so that one can be raised, kept and chained."""
    first, second = (ProviderFailure(LLMErrorCode.PROVIDER_TIMEOUT, "m", retryable=True) for _ in range(2))
    assert first != second
    assert len({first, second}) == 2
    assert first.details is not second.details
