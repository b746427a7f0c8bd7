"""The closed vocabularies of requests and events."""

from enum import StrEnum


class LLMProviderType(StrEnum):
    """Who is asked. `mock` answers without a network and is for tests only."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GOOGLE = "google"
    OPENROUTER = "openrouter"
    MOCK = "mock"


class EssayComparisonWinner(StrEnum):
    """Which of the two essays the judge prefers; a tie is not an answer."""

    ESSAY_A = "essay_a"
    ESSAY_B = "essay_b"


class ProcessingEvent(StrEnum):
    """The types of event that the service publishes (`EventEnvelope.event_type`)."""

    LLM_COMPARISON_RESULT = "llm_provider.comparison_result"
    LLM_USAGE = "llm_provider.usage"
