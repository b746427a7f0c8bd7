"""What a failed check says of a key."""

import pytest

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import ProviderFailure
from service.core.keys import KeyReport, KeyStatus, judge_failure


def fail(code: LLMErrorCode, **details: object) -> ProviderFailure:
    """A failure of a check."""
    return ProviderFailure(code, "It did not work.", retryable=False, details=dict(details))


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (LLMErrorCode.CONFIGURATION_ERROR, KeyStatus.REFUSED),
        (LLMErrorCode.PROVIDER_RATE_LIMIT, KeyStatus.LIMITED),
        (LLMErrorCode.PROVIDER_UNAVAILABLE, KeyStatus.UNREACHABLE),
        (LLMErrorCode.PROVIDER_TIMEOUT, KeyStatus.UNREACHABLE),
        (LLMErrorCode.PROVIDER_API_ERROR, KeyStatus.UNEXPECTED),
    ],
)
def test_a_failure_is_judged_by_its_code(code: LLMErrorCode, status: KeyStatus) -> None:
    """And its sentence is passed on."""
    assert judge_failure(fail(code)) == KeyReport(status, "It did not work.")


def test_a_quota_that_is_used_up_is_told_from_a_rate_limit() -> None:
    """Both come with the same code; one passes by itself."""
    report = judge_failure(fail(LLMErrorCode.PROVIDER_RATE_LIMIT, quota_used_up=True))

    assert report.status is KeyStatus.QUOTA


@pytest.mark.parametrize("status", list(KeyStatus))
def test_only_an_accepted_key_or_none_at_all_is_usable(status: KeyStatus) -> None:
    """A limit says nothing of the key, so nothing is promised."""
    assert KeyReport(status, "").usable is (status in {KeyStatus.ACCEPTED, KeyStatus.NO_KEY})
