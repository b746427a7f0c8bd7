"""What a failed check says of a key."""

import pytest

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import ProviderFailure
from service.core.keys import KeyReport, KeyStatus, judge_failure


@pytest.mark.parametrize(
    ("code", "details", "status"),
    [
        (LLMErrorCode.CONFIGURATION_ERROR, {}, KeyStatus.REFUSED),
        (LLMErrorCode.PROVIDER_RATE_LIMIT, {}, KeyStatus.LIMITED),
        (LLMErrorCode.PROVIDER_RATE_LIMIT, {"quota_used_up": True}, KeyStatus.QUOTA),
        (LLMErrorCode.PROVIDER_UNAVAILABLE, {}, KeyStatus.UNREACHABLE),
        (LLMErrorCode.PROVIDER_TIMEOUT, {}, KeyStatus.UNREACHABLE),
        (LLMErrorCode.PROVIDER_API_ERROR, {}, KeyStatus.UNEXPECTED),
    ],
)
def test_failure_is_judged_by_its_code(
    code: LLMErrorCode, details: dict[str, object], status: KeyStatus
) -> None:
    failure = ProviderFailure(code, "It did not work.", retryable=False, details=details)
    assert judge_failure(failure) == KeyReport(status, "It did not work.")


@pytest.mark.parametrize("status", list(KeyStatus))
def test_only_an_accepted_key_or_no_key_is_usable(status: KeyStatus) -> None:
    assert KeyReport(status, "").usable is (status in {KeyStatus.ACCEPTED, KeyStatus.NO_KEY})
