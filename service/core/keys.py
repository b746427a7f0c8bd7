"""What a vendor says of a key, found out without asking a model: it costs nothing."""

from dataclasses import dataclass
from enum import StrEnum

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import ProviderFailure


class KeyStatus(StrEnum):
    """How a key stands with its vendor."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    """The key, what it may do, or the address is wrong."""
    QUOTA = "quota"
    """The account's quota or credit is used up."""
    LIMITED = "limited"
    """A rate limit is reached: nothing is known of the key."""
    UNREACHABLE = "unreachable"
    """No answer, or an error of the vendor's own."""
    UNEXPECTED = "unexpected"
    """An answer that says nothing of the key."""
    NO_KEY = "no_key"
    """The provider needs none."""


@dataclass(frozen=True, slots=True)
class KeyReport:
    """The result of one check."""

    status: KeyStatus
    message: str
    """A sentence for operators: never holds a key or the vendor's own words."""

    @property
    def usable(self) -> bool:
        """Whether a call may be expected to get past the vendor's door now."""
        return self.status in {KeyStatus.ACCEPTED, KeyStatus.NO_KEY}


_STATUS_OF_CODE = {
    LLMErrorCode.CONFIGURATION_ERROR: KeyStatus.REFUSED,
    LLMErrorCode.PROVIDER_RATE_LIMIT: KeyStatus.LIMITED,
    LLMErrorCode.PROVIDER_UNAVAILABLE: KeyStatus.UNREACHABLE,
    LLMErrorCode.PROVIDER_TIMEOUT: KeyStatus.UNREACHABLE,
}


def judge_failure(failure: ProviderFailure) -> KeyReport:
    """What a check that failed says of the key."""
    if failure.details.get("quota_used_up"):
        return KeyReport(KeyStatus.QUOTA, failure.message)
    return KeyReport(_STATUS_OF_CODE.get(failure.code, KeyStatus.UNEXPECTED), failure.message)
