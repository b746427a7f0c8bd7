"""What each error code means to whoever receives it: complete, and as published."""

import pytest

from service.contracts.error_codes import LLMErrorCode
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
def test_a_code_has_a_verdict_and_a_way_to_its_receiver(code: LLMErrorCode) -> None:
    """Every code is told over HTTP with a status or in a callback, and says whether to try again."""
    assert (code in STATUS_OF_REFUSAL) != (code in CALLBACK_ONLY)
    assert RETRYABLE[code] is (code.value in LATER)
    assert STATUS_OF_REFUSAL.get(code) == PUBLISHED_STATUS.get(code.value)


def test_there_is_a_verdict_on_nothing_else() -> None:
    """The tables hold the codes and only the codes."""
    assert set(RETRYABLE) == set(LLMErrorCode) == set(STATUS_OF_REFUSAL) | CALLBACK_ONLY


@pytest.mark.parametrize("code", STATUS_OF_REFUSAL)
def test_what_may_be_accepted_later_is_a_503(code: LLMErrorCode) -> None:
    """The status alone tells a caller whether trying again makes sense."""
    assert RETRYABLE[code] is (Refused(code, "No.").status == 503)


def test_a_refusal_carries_what_the_answer_needs() -> None:
    """Code, sentence, facts, the time to come back and a status of its own where one is given."""
    plain = Refused(LLMErrorCode.QUEUE_FULL, "The queue is full.")
    assert (plain.status, plain.details, plain.retry_after_seconds) == (503, {}, None)
    assert str(plain) == "The queue is full."
    special = Refused(
        LLMErrorCode.INVALID_REQUEST,
        "Send JSON.",
        details={"field": "x"},
        retry_after_seconds=3,
        status=415,
    )
    assert (special.status, special.details, special.retry_after_seconds) == (415, {"field": "x"}, 3)


@pytest.mark.parametrize("code", sorted(CALLBACK_ONLY))
def test_a_code_of_the_callback_never_refuses(code: LLMErrorCode) -> None:
    """Whoever tries finds the mistake at once."""
    with pytest.raises(KeyError):
        Refused(code, "No.")


@pytest.mark.parametrize(
    "kind", [Refused, ProviderFailure, QueueUnavailable, QueueLocked, BrokerUnavailable, PublishFailed]
)
def test_every_exception_of_ours_has_one_root(kind: type[Exception]) -> None:
    """The tree is the one that the module draws."""
    assert issubclass(kind, ServiceError)
    assert kind.__name__ in str(__import__("service.core.errors", fromlist=["_"]).__doc__)


def test_a_locked_queue_is_an_unavailable_one() -> None:
    """Whoever handles the one handles the other."""
    assert issubclass(QueueLocked, QueueUnavailable)


def test_two_failures_are_never_the_same() -> None:
    """Exceptions compare by identity, so that one can be raised, kept and chained."""
    first, second = (ProviderFailure(LLMErrorCode.PROVIDER_TIMEOUT, "m", retryable=True) for _ in range(2))
    assert first != second
    assert len({first, second}) == 2
    assert first.details is not second.details
