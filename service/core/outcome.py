"""What came of a request: the judge's answer or an error, and what it took to get there."""

from dataclasses import dataclass, field

from service.contracts.enums import EssayComparisonWinner, LLMProviderType
from service.contracts.error_codes import LLMErrorCode

ATTEMPTS_AT_EACH_END = 10
"""How many of a request's first attempts and of its last are kept; an outage makes any number between."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and money that attempts have spent. Cached and reasoning tokens are part of the first two."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float = 0.0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def is_known(self) -> bool:
        """Whether the provider reported what a call used; every call uses some tokens."""
        return self.total_tokens > 0 or self.cost_usd > 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.cost_usd + other.cost_usd,
        )


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One call to a provider, as the timeline of a request tells it."""

    started_unix_milliseconds: int
    seconds: float
    """How long the call took, to a tenth of a millisecond."""
    provider: LLMProviderType
    code: LLMErrorCode | None = None
    """How it failed; None where it brought the answer."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What all attempts at a request so far have cost, carried from one attempt to the next."""

    usage: Usage = field(default_factory=Usage)
    provider_seconds: float = 0.0
    model: str | None = None
    """The model that was asked last, as the provider names it."""
    last_code: LLMErrorCode | None = None
    last_message: str | None = None
    calls: int = 0
    """How many calls were made; more than attempts where a provider in trouble did not count."""
    unconfirmed_usd: float = 0.0
    """What the calls that may be billed, and of which no usage is known, are estimated at."""
    attempts: tuple[AttemptRecord, ...] = ()
    """The calls in their order; of many the first and the last `ATTEMPTS_AT_EACH_END`."""

    @property
    def cost_usd(self) -> float:
        """What is known to be spent and what may be, together."""
        return self.usage.cost_usd + self.unconfirmed_usd

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            self.usage + other.usage,
            self.provider_seconds + other.provider_seconds,
            other.model or self.model,
            other.last_code or self.last_code,
            other.last_message or self.last_message,
            self.calls + other.calls,
            self.unconfirmed_usd + other.unconfirmed_usd,
            _keep_ends(self.attempts + other.attempts),
        )


def _keep_ends(attempts: tuple[AttemptRecord, ...]) -> tuple[AttemptRecord, ...]:
    if len(attempts) <= 2 * ATTEMPTS_AT_EACH_END:
        return attempts
    return attempts[:ATTEMPTS_AT_EACH_END] + attempts[-ATTEMPTS_AT_EACH_END:]


@dataclass(frozen=True, slots=True)
class Judgement:
    """The judge's answer, in the bounds of the callback contract."""

    winner: EssayComparisonWinner
    justification: str
    confidence: float


@dataclass(frozen=True, slots=True)
class RateWindow:
    """What a provider says of its limits beside an answer; None where it does not say."""

    remaining_requests: int | None = None
    remaining_tokens: int | None = None
    requests_reset_seconds: float | None = None
    """How long until requests may be made as at the start."""
    tokens_reset_seconds: float | None = None
    requests_per_minute: float | None = None
    """What is granted, as a rate."""
    tokens_per_minute: float | None = None


@dataclass(frozen=True, slots=True)
class ProviderReply:
    """What one successful call brought."""

    judgement: Judgement
    model: str
    """As the provider names it, with its version where it says so."""
    usage: Usage
    window: RateWindow | None = None
