"""The judge without a network."""

from service.contracts.enums import EssayComparisonWinner, LLMProviderType
from service.core.ports import LLMProvider
from service.providers.mock import MockProvider
from tests.ports.making import make_call


async def test_same_prompt_gets_the_same_answer() -> None:
    provider: LLMProvider = MockProvider()
    assert provider.name is LLMProviderType.MOCK
    assert provider.default_model in provider.models
    assert provider.find_objection(provider.default_model, None) is None
    replies = [await provider.compare(make_call(user_prompt=f"essay {number}")) for number in range(50)]
    again = [await provider.compare(make_call(user_prompt=f"essay {number}")) for number in range(50)]
    assert replies == again
    assert {reply.judgement.winner for reply in replies} == set(EssayComparisonWinner)
    assert all(0.5 <= reply.judgement.confidence <= 1 for reply in replies)
    assert all(reply.usage.total_tokens > 0 and reply.usage.cost_usd == 0 for reply in replies)
    await provider.close()
