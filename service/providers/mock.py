"""A judge without a network, for tests of everything around it."""

from hashlib import blake2b

from service.contracts.enums import EssayComparisonWinner, LLMProviderType
from service.contracts.requests import LLMConfigOverrides
from service.core.outcome import Judgement, ProviderReply, Usage
from service.core.records import ProviderCall

_CHARACTERS_PER_TOKEN = 4
_COMPLETION_TOKENS = 40


class MockProvider:
    """Answers at once and for nothing; the same prompt and model always get the same answer."""

    @property
    def name(self) -> LLMProviderType:
        """Always `mock`."""
        return LLMProviderType.MOCK

    @property
    def default_model(self) -> str:
        """Where a request names no model."""
        return "mock-judge"

    @property
    def models(self) -> tuple[str, ...]:
        """The one it names; it answers to any."""
        return (self.default_model,)

    def find_objection(self, model: str, overrides: LLMConfigOverrides | None) -> str | None:  # noqa: ARG002
        """Takes every configuration."""
        return None

    async def compare(self, call: ProviderCall) -> ProviderReply:
        """Decides by a hash of the prompts and the model."""
        text = "\0".join((call.model, call.system_prompt, call.user_prompt))
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=2).digest()
        winner = EssayComparisonWinner.ESSAY_A if digest[0] % 2 else EssayComparisonWinner.ESSAY_B
        prompt_tokens = (len(call.system_prompt) + len(call.user_prompt)) // _CHARACTERS_PER_TOKEN
        return ProviderReply(
            judgement=Judgement(winner, "Decided by a hash of the prompt.", 0.5 + digest[1] / 510),
            model=call.model,
            usage=Usage(prompt_tokens=prompt_tokens, completion_tokens=_COMPLETION_TOKENS),
        )

    async def close(self) -> None:
        """Has nothing to close."""
