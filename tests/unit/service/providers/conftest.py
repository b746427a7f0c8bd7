"""A provider whose other side is a table of answers."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import pytest
import respx

from service.core.records import ProviderCall
from service.providers.catalogue import CATALOGUE
from service.providers.openai import OpenAI
from service.providers.remote import RemoteProvider

BASE_URL = "https://judge.example/v1"
KEY = "sk-canary-7f3a91"
SECRETS = (KEY, "canary-system", "canary-essay", "canary-answer")


@pytest.fixture
def secrets() -> tuple[str, ...]:
    """What must never be repeated: the key, the prompts, the answer."""
    return SECRETS


@pytest.fixture
def make_call() -> Callable[..., ProviderCall]:
    """Makes a call with everything filled in."""

    def make(**changes: Any) -> ProviderCall:
        fields: dict[str, Any] = {
            "system_prompt": "canary-system",
            "user_prompt": "canary-essay",
            "model": "gpt-4o-mini",
            "temperature": None,
            "max_tokens": None,
            "timeout_seconds": 5.0,
            "queue_id": "q-1",
            "correlation_id": UUID(int=7),
            "attempt": 2,
        }
        return ProviderCall(**{**fields, **changes})

    return make


@pytest.fixture
def router() -> respx.Router:
    """The other side; tests say what it answers."""
    return respx.Router(assert_all_called=False)


@pytest.fixture
def provider(router: respx.Router) -> RemoteProvider:
    """An OpenAI provider that talks to `router`."""
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
