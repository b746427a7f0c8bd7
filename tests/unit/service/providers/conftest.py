"""A provider whose other side is a table of answers."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import respx

from service.core.errors import ProviderFailure
from service.providers.catalogue import CATALOGUE
from service.providers.openai import OpenAI
from service.providers.remote import RemoteProvider
from tests.ports.making import make_call

BASE_URL = "https://judge.example/v1"
KEY = "sk-canary-7f3a91"
SECRETS = (KEY, "canary-system", "canary-essay", "canary-answer")


@pytest.fixture
def router() -> respx.Router:
    return respx.Router(assert_all_called=False)


@pytest.fixture
def provider(router: respx.Router) -> RemoteProvider:
    return RemoteProvider(
        OpenAI(api_key=KEY, base_url=BASE_URL),
        default_model="gpt-4o-mini",
        catalogue=CATALOGUE,
        transport=httpx.MockTransport(router.async_handler),
    )


@pytest.fixture
def route(router: respx.Router) -> respx.Route:
    """The one address that is called."""
    return router.post(f"{BASE_URL}/chat/completions")


@pytest.fixture
def fail(provider: RemoteProvider, route: respx.Route) -> Callable[..., Awaitable[ProviderFailure]]:
    """Makes a call that is answered as given and fails; the failure repeats nothing secret."""

    async def fail(*status: int, error: Exception | None = None, **answer: Any) -> ProviderFailure:
        if error is None:
            route.respond(*status, **answer)
        else:
            route.mock(side_effect=error)
        with pytest.raises(ProviderFailure) as caught:
            await provider.compare(make_call())
        failure = caught.value
        assert not any(secret in repr(failure) + failure.message for secret in SECRETS)
        return failure

    return fail


@pytest.fixture
def completion() -> Callable[..., dict[str, Any]]:
    """Makes the body of a good answer; `message`, `reason` and `usage` replace parts of it."""

    def make(
        content: str | None = '{"winner":"essay_b","justification":"canary-answer","confidence":0.75}',
        *,
        reason: str | None = "stop",
        usage: dict[str, Any] | None = None,
        **message: Any,
    ) -> dict[str, Any]:
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": "gpt-4o-mini-2024-07-18",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": content, **message},
                    "finish_reason": reason,
                }
            ],
            "usage": usage
            or {
                "prompt_tokens": 1000,
                "completion_tokens": 200,
                "total_tokens": 1200,
                "prompt_tokens_details": {"cached_tokens": 400},
                "completion_tokens_details": {"reasoning_tokens": 50},
            },
        }

    return make
