"""Answers that no vendor documents: an adapter reads what is there, believes no absurd number, and raises
nothing but `ProviderFailure`."""

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.contracts.error_codes import LLMErrorCode
from service.core.errors import ProviderFailure
from service.core.outcome import ProviderReply
from service.core.records import ProviderCall
from service.providers.anthropic import Anthropic
from service.providers.catalogue import CATALOGUE
from service.providers.google import Google
from service.providers.openai import OpenAI
from service.providers.openrouter import OpenRouter
from service.providers.remote import RemoteProvider

JUDGEMENT = '{"winner": "essay_a", "justification": "ok", "confidence": 0.8}'
ABSURD = (2**31, 2**63 - 1, 2**64 - 1, 10**400, -1, 1.5, 1e308, math.inf, math.nan, "7", True, [], {})
DIALECTS: dict[str, tuple[Any, str]] = {
    "openai": (OpenAI, "gpt-4o-mini"),
    "openrouter": (OpenRouter, "openai/gpt-4o-mini"),
    "anthropic": (Anthropic, "claude-haiku-4-5"),
    "google": (Google, "gemini-2.5-flash"),
}

Ask = Callable[..., ProviderReply]


def describe(
    vendor: str, prompt: Any = 1000, completion: Any = 20, content: Any = JUDGEMENT
) -> dict[str, Any]:
    """A vendor's answer with this usage and this text."""
    if vendor == "anthropic":
        return {
            "model": "claude-haiku-4-5",
            "content": [{"type": "text", "text": content}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": prompt, "output_tokens": completion},
        }
    if vendor == "google":
        candidate = {"content": {"parts": [{"text": content}]}, "finishReason": "STOP"}
        usage = {"promptTokenCount": prompt, "candidatesTokenCount": completion}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-2.5-flash"}
    choice = {"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    return {"choices": [choice], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}}


def ask(
    vendor: str, body: bytes | dict[str, Any], status: int = 200, headers: dict[str, str] | None = None
) -> ProviderReply:
    """One call to a vendor that answers so."""
    dialect, model = DIALECTS[vendor]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    class Stream(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:
            yield content

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=headers, stream=Stream())

    provider = RemoteProvider(
        dialect(api_key="k", base_url="http://127.0.0.1:1/v1"),
        default_model=model,
        catalogue=CATALOGUE,
        transport=httpx.MockTransport(answer),
    )
    call = ProviderCall(
        system_prompt="s", user_prompt="u" * 4000, model=model, temperature=None, max_tokens=None,
        timeout_seconds=60, queue_id="q", correlation_id=UUID(int=1), attempt=1,
    )  # fmt: skip
    return asyncio.run(provider.compare(call))


@pytest.mark.parametrize("vendor", DIALECTS)
def test_a_count_that_cannot_be_right_counts_as_missing(vendor: str) -> None:
    good = ask(vendor, describe(vendor)).usage
    assert (good.prompt_tokens, good.completion_tokens) == (1000, 20)
    for absurd in ABSURD:
        for counts in ({"prompt": absurd}, {"completion": absurd}, {"prompt": absurd, "completion": absurd}):
            reply = ask(vendor, describe(vendor, **counts))
            assert reply.judgement.confidence == 0.8
            assert not reply.usage.is_known


@pytest.mark.parametrize("vendor", DIALECTS)
def test_a_usage_beyond_ten_times_what_the_call_could_cost_counts_as_missing(vendor: str) -> None:
    """It would use up the budget of everybody else."""
    assert not ask(vendor, describe(vendor, prompt=2**31 - 1, completion=0)).usage.is_known


@pytest.mark.parametrize(
    ("cost", "believed"), [(0.001, True), (0.0, True), *((each, False) for each in ABSURD)]
)
def test_a_charge_that_cannot_be_right_is_computed_from_the_tokens(cost: Any, *, believed: bool) -> None:
    document = describe("openrouter")
    computed = ask("openrouter", document).usage.cost_usd
    document["usage"]["cost"] = cost
    usage = ask("openrouter", document).usage
    assert usage.cost_usd == pytest.approx(cost if believed else computed)
    assert usage.total_tokens == 1020


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(describe("openai", content=JUDGEMENT.replace("ok", "x\ud83d"))).encode(),
        b"\xef\xbb\xbf" + json.dumps(describe("openai")).encode(),
        json.dumps(describe("openai") | {"logprobs": math.nan, "created": math.inf}).encode(),
        json.dumps(describe("openai")).encode()[:-1] + b', "x": "\xff"}',
        json.dumps(describe("openai", content=[{"type": "text", "text": JUDGEMENT}])).encode(),
        json.dumps(
            describe(
                "openai", content=[{"type": "text", "text": JUDGEMENT[:9]}, {"type": "x"}, JUDGEMENT[9:]]
            )
        ).encode(),
        json.dumps(describe("openai", content=f"```json\n{JUDGEMENT}\n```")).encode(),
        json.dumps(describe("openai", content=f"\ufeff {JUDGEMENT}")).encode(),
    ],
    ids=["lone surrogate", "BOM", "NaN", "no UTF-8", "list", "parts", "Markdown", "inner BOM"],
)
def test_a_judgement_that_arrived_is_read(body: bytes) -> None:
    assert ask("openai", body).judgement.winner == "essay_a"


@pytest.mark.parametrize("coding", ["gzip", "br", "gzip, br", "utf-8"])
@pytest.mark.parametrize("vendor", DIALECTS)
def test_a_refusal_is_understood_without_its_body(vendor: str, coding: str) -> None:
    with pytest.raises(ProviderFailure) as refused:
        ask(vendor, b"", 429, {"retry-after": "30", "content-encoding": coding})
    assert (refused.value.code, refused.value.retry_after_seconds) == (LLMErrorCode.PROVIDER_RATE_LIMIT, 30.0)


@pytest.mark.parametrize(
    ("status", "error", "code", "retryable", "may_be_billed"),
    [
        (400, {"code": "content_filter"}, LLMErrorCode.INVALID_RESPONSE, False, False),
        (400, {"code": "invalid_prompt"}, LLMErrorCode.INVALID_RESPONSE, False, False),
        (524, {}, LLMErrorCode.PROVIDER_UNAVAILABLE, True, True),
        (520, {}, LLMErrorCode.PROVIDER_UNAVAILABLE, True, True),
        (429, {"message": "Request too large for gpt-4o-mini"}, LLMErrorCode.CONTENT_TOO_LONG, False, False),
    ],
)
def test_a_refusal_of_openai_and_those_who_speak_its_protocol(
    status: int, error: dict[str, str], code: LLMErrorCode, *, retryable: bool, may_be_billed: bool
) -> None:
    with pytest.raises(ProviderFailure) as refused:
        ask("openai", {"error": error}, status)
    failure = refused.value
    assert (failure.code, failure.retryable, failure.may_be_billed) == (code, retryable, may_be_billed)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(ABSURD),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner)
)


@st.composite
def bodies(draw: st.DrawFn, vendor: str) -> bytes:
    """A vendor's answer of which some members are something else."""
    document = describe(vendor)
    for _ in range(draw(st.integers(0, 4))):
        place: Any = document
        while isinstance(place, dict | list) and place:
            step = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            if draw(st.booleans()) or not isinstance(place[step], dict | list):
                place[step] = draw(values)
                break
            place = place[step]
    written = json.dumps(document, default=str).encode()
    return draw(
        st.one_of(st.just(written), st.binary(max_size=20), st.just(written[: draw(st.integers(0, 200))]))
    )


HEADERS = (
    "retry-after", "retry-after-ms", "x-ratelimit-remaining-requests", "x-ratelimit-reset-tokens",
    "x-ratelimit-limit-requests", "x-ratelimit-reset", "content-encoding", "x-request-id",
    "anthropic-ratelimit-requests-reset", "anthropic-ratelimit-tokens-remaining",
)  # fmt: skip
header_values = st.one_of(
    st.sampled_from(
        ["", "0", "-1", "nan", "inf", "1e400", "9" * 30, "1h2m", "2026-11-24T12:00:00Z", "1_0", "gzip"]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12),
)


@pytest.mark.parametrize("examples", [75, pytest.param(2500, marks=pytest.mark.long)])
@pytest.mark.parametrize("vendor", DIALECTS)
def test_no_answer_escapes_the_adapter(vendor: str, examples: int) -> None:
    """Every call ends in a reply or in a failure with sound numbers."""

    @settings(max_examples=examples)
    @given(
        bodies(vendor),
        st.sampled_from([200, 200, 200, 400, 402, 413, 429, 500, 529]),
        st.dictionaries(st.sampled_from(HEADERS), header_values, max_size=4),
    )
    def check(body: bytes, status: int, headers: dict[str, str]) -> None:
        try:
            reply = ask(vendor, body, status, headers)
        except ProviderFailure as failure:
            usage, wait = failure.usage, failure.retry_after_seconds
        else:
            usage, wait = reply.usage, 0.0
            assert 0 <= reply.judgement.confidence <= 1
        assert 0 <= usage.prompt_tokens < 2**31
        assert 0 <= usage.completion_tokens < 2**31
        assert 0 <= usage.cost_usd < 10
        assert wait is None or 0 <= wait <= 86_400

    check()
