"""What a provider's refusal means: a table over HTTP statuses and the vendor's own error codes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import ProviderFailure

_API: Final = LLMErrorCode.PROVIDER_API_ERROR
_AWAY: Final = LLMErrorCode.PROVIDER_UNAVAILABLE
_SETUP: Final = LLMErrorCode.CONFIGURATION_ERROR
_LIMIT: Final = LLMErrorCode.PROVIDER_RATE_LIMIT
_LONG: Final = LLMErrorCode.CONTENT_TOO_LONG


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one kind of refusal means and what can be done about it."""

    code: LLMErrorCode
    retryable: bool
    advice: str
    """Says in a sentence what happened, or what to do."""
    may_be_billed: bool = False
    quota_used_up: bool = False
    of_account: bool = False
    """Whether it certainly concerns every call of the account."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is known of a refusal. The texts are already clean: they are repeated to callers and in logs."""

    vendor: str
    status: int
    vendor_code: str | None = None
    vendor_type: str | None = None
    parameter: str | None = None
    request_id: str | None = None
    wait_seconds: float | None = None


REDIRECT: Final = Verdict(_API, False, "It redirects to another address; correct the base URL setting.")
_USED_UP: Final = "The account's quota or credit is used up; see its billing page."
QUOTA: Final = Verdict(_LIMIT, False, _USED_UP, quota_used_up=True, of_account=True)
CREDIT: Final = Verdict(_LIMIT, False, _USED_UP, quota_used_up=True)
"""Perhaps this call alone costs more than is left."""
MODEL_MISSING: Final = Verdict(
    LLMErrorCode.INVALID_CONFIG, False, "The model does not exist or this account may not use it."
)
WITHHELD: Final = Verdict(
    LLMErrorCode.INVALID_RESPONSE, False, "Its content filter does not let these essays be compared."
)
RATE: Final = Verdict(_LIMIT, True, "Its rate limit is reached.")
BAD_KEY: Final = Verdict(_SETUP, False, "Check the API key setting.")
TOO_LONG: Final = Verdict(_LONG, False, "The prompt and both essays are longer than the model takes.")

VERDICT_OF_STATUS: Final[Mapping[int, Verdict]] = {
    400: Verdict(_API, False, "It calls the request invalid."),
    401: BAD_KEY,
    402: CREDIT,
    403: Verdict(_SETUP, False, "The API key may not do this; check its project and permissions."),
    404: Verdict(_SETUP, False, "There is no such address; check the base URL setting."),
    408: Verdict(LLMErrorCode.PROVIDER_TIMEOUT, True, "It gave up waiting.", may_be_billed=True),
    409: Verdict(_AWAY, True, "It is busy with a conflicting request."),
    413: TOO_LONG,
    422: Verdict(_API, False, "It cannot process the request."),
    425: Verdict(_AWAY, True, "It is not ready yet."),
    429: RATE,
    501: Verdict(_API, False, "It does not offer this call."),
    # 520 to 526 are Cloudflare's: of these two the call may have reached the provider.
    520: Verdict(_AWAY, True, "Its gateway got no proper answer.", may_be_billed=True),
    524: Verdict(_AWAY, True, "Its gateway gave up waiting.", may_be_billed=True),
    502: Verdict(_AWAY, True, "Its gateway lost the call.", may_be_billed=True),
    503: Verdict(_AWAY, True, "It is overloaded or under maintenance."),
    504: Verdict(_AWAY, True, "Its gateway gave up waiting.", may_be_billed=True),
    505: Verdict(_API, False, "It does not speak HTTP/1.1."),
    529: Verdict(_AWAY, True, "It is overloaded."),
}
"""Statuses that mean something of their own; the rest is judged by its hundred."""

_VERDICT_OF_HUNDRED: Final[Mapping[int, Verdict]] = {
    3: REDIRECT,
    4: Verdict(_API, False, "It refuses the request."),
    5: Verdict(_AWAY, True, "It has an error of its own."),
}
_NOT_UNDERSTOOD: Final = Verdict(_API, False, "That is no answer to this call; check the base URL setting.")


def judge(refusal: Refusal, of_code: Mapping[tuple[int, str], Verdict]) -> Verdict:
    """What a refusal means; `of_code` (by status and vendor code or type) overrules the status."""
    for name in (refusal.vendor_code, refusal.vendor_type):
        verdict = of_code.get((refusal.status, name)) if name else None
        if verdict is not None:
            return verdict
    return VERDICT_OF_STATUS.get(refusal.status) or _VERDICT_OF_HUNDRED.get(
        refusal.status // 100, _NOT_UNDERSTOOD
    )


def explain(refusal: Refusal, verdict: Verdict) -> ProviderFailure:
    """The failure that a refusal is, with a sentence that never repeats the vendor's own message."""
    named = [name for name in (refusal.vendor_code, refusal.vendor_type) if name]
    facts = ", ".join([f"status {refusal.status}", *dict.fromkeys(named)])
    request = f", request {refusal.request_id}" if refusal.request_id else ""
    details: dict[str, Any] = {
        "status": refusal.status,
        "vendor_code": refusal.vendor_code,
        "vendor_type": refusal.vendor_type,
        "parameter": refusal.parameter,
        "provider_request_id": refusal.request_id,
        "quota_used_up": verdict.quota_used_up or None,
    }
    return ProviderFailure(
        verdict.code,
        f"{refusal.vendor} did not answer the call ({facts}{request}). {verdict.advice}",
        retryable=verdict.retryable,
        retry_after_seconds=refusal.wait_seconds if verdict.retryable else None,
        may_be_billed=verdict.may_be_billed,
        of_account=verdict.of_account,
        details={name: value for name, value in details.items() if value is not None},
    )
