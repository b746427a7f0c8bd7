"""Applications on the vendors' own SDKs work against the fake provider, its errors included."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import anthropic
import httpx
import openai
import pydantic
import pytest
from google import genai
from google.genai import errors as google_errors
from google.genai import types as google_types

from simulator.essays import pairs_path
from simulator.provider.anthropic import AnthropicApi
from simulator.provider.api import Api, Trouble, Wire
from simulator.provider.google import GoogleApi
from simulator.provider.openai import OpenAIApi
from simulator.provider.openrouter import OpenRouterApi
from tests.conftest import Launcher
from tests.waiting import HANG_SECONDS

KEY = "any-key"
PAIR = json.loads(pairs_path().read_text(encoding="utf-8").splitlines()[0])
PROMPT = f"{PAIR['user_prompt']}\n{PAIR['essay_a']}\n---\n{PAIR['essay_b']}"
INSTRUCTIONS = "Judge with care. " * 400
"""Long enough for every vendor's cache."""
REQUEST_ID = "0123456789abcdef" * 2
MODELS = {
    "openai": "gpt-4o-mini",
    "anthropic": "claude-haiku-4-5-20251001",
    "google": "gemini-2.0-flash",
    "openrouter": "openai/gpt-4o-mini",
}
APIS: dict[str, Api] = {api.name: api for api in (OpenAIApi(), AnthropicApi(), GoogleApi(), OpenRouterApi())}

Urls = dict[str, str]


class Comparison(pydantic.BaseModel):
    """The response format, as a class."""

    winner: Literal["essay_a", "essay_b"]
    justification: str
    confidence: float = pydantic.Field(ge=0, le=1)
    grade: int = pydantic.Field(ge=21, le=23)


@pytest.fixture(scope="module")
def urls(session_launcher: Launcher) -> Urls:
    """Returns the base URLs of a provider that answers at once."""
    provider = session_launcher.start(
        "simulator.provider", "--port", "0", "--latency-p50-ms", "0", "--seed", "3"
    )
    return dict(provider.ready["base_urls"])


def use_openai(url: str, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key=KEY, timeout=HANG_SECONDS, **{"max_retries": 0, **options})


def use_anthropic(url: str, **options: Any) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        base_url=url, timeout=HANG_SECONDS, api_key=KEY, **{"max_retries": 0, **options}
    )


def use_google(url: str, **options: Any) -> genai.Client:
    http = google_types.HttpOptions(base_url=url, timeout=HANG_SECONDS * 1000, **options)
    return genai.Client(api_key=KEY, http_options=http)


def chat(client: openai.OpenAI, model: str, **options: Any) -> Any:
    messages = [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": PROMPT}]
    return client.chat.completions.create(model=model, messages=messages, **options)


def message(client: anthropic.Anthropic, model: str, **options: Any) -> Any:
    return client.messages.create(
        **{"model": model, "max_tokens": 2048, "messages": [{"role": "user", "content": PROMPT}], **options}
    )


def generate(client: genai.Client, model: str, **config: Any) -> Any:
    return client.models.generate_content(
        model=model, contents=PROMPT, config=google_types.GenerateContentConfig(**config)
    )


def parse_openai(urls: Urls, vendor: str) -> Comparison:
    with use_openai(urls[vendor]) as client:
        answer = client.chat.completions.parse(
            model=MODELS[vendor],
            messages=[{"role": "user", "content": PROMPT}],
            response_format=Comparison,
        )
    parsed = answer.choices[0].message.parsed
    assert parsed is not None
    return parsed


def parse_anthropic(urls: Urls, vendor: str) -> Comparison:
    with use_anthropic(urls[vendor]) as client:
        answer = client.messages.parse(
            model=MODELS[vendor],
            max_tokens=2048,
            messages=[{"role": "user", "content": PROMPT}],
            output_format=Comparison,
        )
    assert answer.parsed_output is not None
    return answer.parsed_output


def parse_google(urls: Urls, vendor: str) -> Comparison:
    with use_google(urls[vendor]) as client:
        answer = generate(
            client, MODELS[vendor], response_mime_type="application/json", response_schema=Comparison
        )
    assert isinstance(answer.parsed, Comparison)
    return answer.parsed


PARSERS: dict[str, Callable[[Urls, str], Comparison]] = {
    "openai": parse_openai,
    "openrouter": parse_openai,
    "anthropic": parse_anthropic,
    "google": parse_google,
}


@pytest.mark.parametrize("vendor", PARSERS)
def test_a_class_is_filled_with_a_judgement(urls: Urls, vendor: str) -> None:
    """Structured output works in each SDK, with the limits that Anthropic's SDK moves into descriptions."""
    comparison = PARSERS[vendor](urls, vendor)
    better = comparison.winner[-1].upper()
    assert comparison.justification.startswith(f"Essay {better} ")
    assert 0.5 <= comparison.confidence <= 1


def test_anthropics_forced_tool_is_called(urls: Urls) -> None:
    """Its input satisfies the tool's schema."""
    tool = {"name": "judge", "input_schema": Comparison.model_json_schema()}
    with use_anthropic(urls["anthropic"]) as client:
        answer = message(
            client, MODELS["anthropic"], tools=[tool], tool_choice={"type": "tool", "name": "judge"}
        )
    assert answer.stop_reason == "tool_use"
    assert [block.type for block in answer.content] == ["tool_use"]
    assert answer.content[0].name == "judge"
    assert Comparison.model_validate(answer.content[0].input).winner in ("essay_a", "essay_b")


def test_googles_json_schema_and_function_calls_are_kept(urls: Urls) -> None:
    """`response_json_schema` is obeyed, and a function in mode ANY is called."""
    schema = Comparison.model_json_schema()
    declared = google_types.FunctionDeclaration(name="judge", parameters_json_schema=schema)
    calling = google_types.FunctionCallingConfig(mode=google_types.FunctionCallingConfigMode.ANY)
    with use_google(urls["google"]) as client:
        answer = generate(
            client, MODELS["google"], response_mime_type="application/json", response_json_schema=schema
        )
        call = generate(
            client,
            MODELS["google"],
            tools=[google_types.Tool(function_declarations=[declared])],
            tool_config=google_types.ToolConfig(function_calling_config=calling),
            automatic_function_calling=google_types.AutomaticFunctionCallingConfig(disable=True),
        )
    assert Comparison.model_validate_json(answer.text).confidence >= 0.5
    assert [each.name for each in call.function_calls] == ["judge"]
    assert Comparison.model_validate(call.function_calls[0].args)


@pytest.mark.parametrize("vendor", ["openai", "openrouter"])
def test_chat_usage_counts_what_was_cached_and_thought(urls: Urls, vendor: str) -> None:
    """Both are part of the totals; OpenRouter also returns the provider and the cost."""
    thinker = {"openai": "gpt-5-mini", "openrouter": "openai/gpt-5-mini"}[vendor]
    with use_openai(urls[vendor]) as client:
        answer = chat(client, thinker, reasoning_effort="low")
    usage = answer.usage
    assert 1024 <= usage.prompt_tokens_details.cached_tokens < usage.prompt_tokens
    assert 0 < usage.completion_tokens_details.reasoning_tokens < usage.completion_tokens
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    if vendor == "openrouter":
        cached = usage.prompt_tokens_details.cached_tokens
        dollars = (usage.prompt_tokens - cached) * 0.25 + cached * 0.025 + usage.completion_tokens * 2.0
        assert answer.model_extra["provider"] == "OpenAI"
        assert usage.cost == pytest.approx(dollars / 1_000_000)


def test_anthropics_usage_counts_the_cache_beside_the_input(urls: Urls) -> None:
    """Instructions are read from the cache, and thinking is part of the output."""
    system = [{"type": "text", "text": INSTRUCTIONS, "cache_control": {"type": "ephemeral"}}]
    thinking = {"type": "enabled", "budget_tokens": 1024}
    with use_anthropic(urls["anthropic"]) as client:
        answer = message(client, MODELS["anthropic"], system=system, thinking=thinking)
        counted = client.messages.count_tokens(
            model=MODELS["anthropic"], system=system, messages=[{"role": "user", "content": PROMPT}]
        )
    usage = answer.usage
    assert usage.cache_read_input_tokens >= 1024
    assert usage.input_tokens + usage.cache_read_input_tokens == counted.input_tokens
    assert 0 < usage.output_tokens_details.thinking_tokens < usage.output_tokens
    assert [block.type for block in answer.content] == ["thinking", "text"]


def test_googles_usage_counts_thoughts_beside_the_candidates(urls: Urls) -> None:
    """The total has both, and the instructions are read from the cache."""
    with use_google(urls["google"]) as client:
        answer = generate(client, "gemini-2.5-flash", system_instruction=INSTRUCTIONS)
    usage = answer.usage_metadata
    assert usage.thoughts_token_count > 0
    assert 1024 <= usage.cached_content_token_count < usage.prompt_token_count
    assert usage.total_token_count == (
        usage.prompt_token_count + usage.candidates_token_count + usage.thoughts_token_count
    )


def test_a_limit_on_tokens_is_said_in_each_vendors_word(urls: Urls) -> None:
    with (
        use_openai(urls["openai"]) as one,
        use_openai(urls["openrouter"]) as two,
        use_anthropic(urls["anthropic"]) as three,
        use_google(urls["google"]) as four,
    ):
        for client, vendor in ((one, "openai"), (two, "openrouter")):
            answer = chat(client, MODELS[vendor], max_tokens=5)
            assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 5)
        said = message(three, MODELS["anthropic"], max_tokens=5)
        assert (said.stop_reason, said.usage.output_tokens) == ("max_tokens", 5)
        generated = generate(four, MODELS["google"], max_output_tokens=5)
        assert generated.candidates[0].finish_reason is google_types.FinishReason.MAX_TOKENS
        assert generated.usage_metadata.candidates_token_count == 5


def test_an_unknown_model_is_each_vendors_error(urls: Urls) -> None:
    """404 at OpenAI, Anthropic and Google, 400 at OpenRouter, with a request id where the vendor has one."""
    with use_openai(urls["openai"]) as client, pytest.raises(openai.NotFoundError) as missing:
        chat(client, "gpt-0")
    assert missing.value.code == "model_not_found"
    assert str(missing.value.request_id).startswith("req_")
    with use_openai(urls["openrouter"]) as client, pytest.raises(openai.BadRequestError, match="not a valid"):
        chat(client, "openai/gpt-0")
    with use_anthropic(urls["anthropic"]) as client, pytest.raises(anthropic.NotFoundError) as absent:
        message(client, "claude-0")
    assert absent.value.body == {
        "type": "error",
        "error": {"type": "not_found_error", "message": "model: claude-0"},
        "request_id": absent.value.request_id,
    }
    with use_google(urls["google"]) as client, pytest.raises(google_errors.ClientError) as unknown:
        generate(client, "gemini-0")
    assert (unknown.value.code, unknown.value.status) == (404, "NOT_FOUND")


def test_a_call_without_a_key_is_each_vendors_error(urls: Urls) -> None:
    """401 at OpenAI, OpenRouter and Anthropic, 403 at Google."""
    with (
        use_openai(urls["openai"], default_headers={"Authorization": "Bearer"}) as client,
        pytest.raises(openai.AuthenticationError, match="didn't provide an API key"),
    ):
        chat(client, MODELS["openai"])
    with (
        use_openai(urls["openrouter"], default_headers={"Authorization": "Bearer"}) as client,
        pytest.raises(openai.AuthenticationError, match="No auth credentials"),
    ):
        chat(client, MODELS["openrouter"])
    with (
        use_anthropic(urls["anthropic"]) as client,
        pytest.raises(anthropic.AuthenticationError, match="x-api-key header is required"),
    ):
        message(client, MODELS["anthropic"], extra_headers={"Authorization": anthropic.Omit()})
    with (
        use_google(urls["google"], headers={"x-goog-api-key": ""}) as client,
        pytest.raises(google_errors.ClientError) as refused,
    ):
        generate(client, MODELS["google"])
    assert (refused.value.code, refused.value.status) == (403, "PERMISSION_DENIED")


def test_one_address_lists_each_vendors_models_in_its_own_shape(urls: Urls) -> None:
    """Every SDK reads the list and finds the model that these tests use."""
    with (
        use_openai(urls["openai"]) as one,
        use_openai(urls["openrouter"]) as two,
        use_anthropic(urls["anthropic"]) as three,
        use_google(urls["google"]) as four,
    ):
        listed = {
            "openai": {model.id for model in one.models.list()},
            "openrouter": {model.id for model in two.models.list()},
            "anthropic": {model.id for model in three.models.list()},
            "google": {str(model.name).removeprefix("models/") for model in four.models.list()},
        }
        assert one.models.retrieve("gpt-4o-mini").owned_by == "system"
        assert three.models.retrieve("claude-haiku-4-5").display_name == "Claude Haiku 4.5"
        assert four.models.get(model="gemini-2.0-flash").output_token_limit == 8192
    assert all(MODELS[vendor] in names for vendor, names in listed.items())
    assert not any(one & two for one in listed.values() for two in listed.values() if one is not two)


def test_a_retry_that_says_so_is_drawn_anew(urls: Urls) -> None:
    """The same request has the same answer; a retry has another."""
    with use_openai(urls["openai"]) as client:
        first, again = (chat(client, MODELS["openai"]).id for _ in range(2))
        retried = chat(client, MODELS["openai"], extra_headers={"x-stainless-retry-count": "1"}).id
    assert first == again != retried


Answering = Callable[..., AbstractContextManager[tuple[str, list[dict[str, str]]]]]


@pytest.fixture
def answering() -> Answering:
    """Serves prepared answers in order; returns the URL and the headers of the requests."""

    @contextmanager
    def serve(*wires: Wire) -> Iterator[tuple[str, list[dict[str, str]]]]:
        waiting, received = list(wires), []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                received.append({name.lower(): value for name, value in self.headers.items()})
                wire = waiting.pop(0)
                self.send_response(wire.status)
                for name, value in {**wire.headers, "content-length": str(len(wire.body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(wire.body)

            def log_message(self, *_: Any) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, name="prepared answers")
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}", received
            finally:
                server.shutdown()
                thread.join(HANG_SECONDS)

    return serve


def refuse(vendor: str, trouble: Trouble, seconds: float | None = None) -> Wire:
    return APIS[vendor].refuse(trouble, retry_after_seconds=seconds, request_id=REQUEST_ID)


OPENAI_ERRORS: list[tuple[str, Trouble, type[openai.APIStatusError], int]] = [
    ("openai", Trouble.RATE_LIMITED, openai.RateLimitError, 429),
    ("openai", Trouble.QUOTA_EXHAUSTED, openai.RateLimitError, 429),
    ("openai", Trouble.SERVER_ERROR, openai.InternalServerError, 500),
    ("openai", Trouble.BAD_GATEWAY, openai.InternalServerError, 502),
    ("openai", Trouble.UNAUTHORIZED, openai.AuthenticationError, 401),
    ("openai", Trouble.FORBIDDEN, openai.PermissionDeniedError, 403),
    ("openrouter", Trouble.RATE_LIMITED, openai.RateLimitError, 429),
    ("openrouter", Trouble.QUOTA_EXHAUSTED, openai.APIStatusError, 402),
    ("openrouter", Trouble.TIMEOUT, openai.APIStatusError, 408),
    ("openrouter", Trouble.UNAVAILABLE, openai.InternalServerError, 503),
]


@pytest.mark.parametrize(("vendor", "trouble", "kind", "status"), OPENAI_ERRORS)
def test_openais_sdk_names_the_trouble(
    answering: Answering, vendor: str, trouble: Trouble, kind: type[openai.APIStatusError], status: int
) -> None:
    """Its exception has the type of the vendor's error and Retry-After."""
    with (
        answering(refuse(vendor, trouble, 7)) as (url, _),
        use_openai(url) as client,
        pytest.raises(kind) as raised,
    ):
        chat(client, MODELS[vendor])
    assert type(raised.value) is kind
    assert raised.value.status_code == status
    assert raised.value.response.headers["retry-after"] == "7"


def test_openais_sdk_tells_a_rate_from_a_quota(answering: Answering) -> None:
    codes = []
    for trouble in (Trouble.RATE_LIMITED, Trouble.QUOTA_EXHAUSTED):
        with (
            answering(refuse("openai", trouble)) as (url, _),
            use_openai(url) as client,
            pytest.raises(openai.RateLimitError) as raised,
        ):
            chat(client, MODELS["openai"])
        codes.append(raised.value.code)
        assert raised.value.request_id == f"req_{REQUEST_ID}"
    assert codes == ["rate_limit_exceeded", "insufficient_quota"]


@pytest.mark.parametrize(
    ("trouble", "kind", "error_type"),
    [
        (Trouble.RATE_LIMITED, anthropic.RateLimitError, "rate_limit_error"),
        (Trouble.QUOTA_EXHAUSTED, anthropic.BadRequestError, "invalid_request_error"),
        (Trouble.OVERLOADED, anthropic.InternalServerError, "overloaded_error"),
        (Trouble.SERVER_ERROR, anthropic.InternalServerError, "api_error"),
        (Trouble.TIMEOUT, anthropic.InternalServerError, "timeout_error"),
        (Trouble.UNAUTHORIZED, anthropic.AuthenticationError, "authentication_error"),
        (Trouble.FORBIDDEN, anthropic.PermissionDeniedError, "permission_error"),
        (Trouble.TOO_LARGE, anthropic.APIStatusError, "request_too_large"),
    ],
)
def test_anthropics_sdk_names_the_trouble(
    answering: Answering, trouble: Trouble, kind: type[anthropic.APIStatusError], error_type: str
) -> None:
    """Its exception has the vendor's error type, the request id and Retry-After."""
    with (
        answering(refuse("anthropic", trouble, 7)) as (url, _),
        use_anthropic(url) as client,
        pytest.raises(kind) as raised,
    ):
        message(client, MODELS["anthropic"])
    assert isinstance(raised.value.body, dict)
    assert raised.value.body["error"]["type"] == error_type
    assert raised.value.request_id == f"req_{REQUEST_ID}" == raised.value.body["request_id"]
    assert raised.value.response.headers["retry-after"] == "7"


@pytest.mark.parametrize(
    ("trouble", "kind", "code", "status"),
    [
        (Trouble.RATE_LIMITED, google_errors.ClientError, 429, "RESOURCE_EXHAUSTED"),
        (Trouble.UNAUTHORIZED, google_errors.ClientError, 400, "INVALID_ARGUMENT"),
        (Trouble.FORBIDDEN, google_errors.ClientError, 403, "PERMISSION_DENIED"),
        (Trouble.OVERLOADED, google_errors.ServerError, 503, "UNAVAILABLE"),
        (Trouble.SERVER_ERROR, google_errors.ServerError, 500, "INTERNAL"),
        (Trouble.TIMEOUT, google_errors.ServerError, 504, "DEADLINE_EXCEEDED"),
        (Trouble.BAD_GATEWAY, google_errors.ServerError, 502, "Bad Gateway"),
    ],
)
def test_googles_sdk_names_the_trouble(
    answering: Answering, trouble: Trouble, kind: type[google_errors.APIError], code: int, status: str
) -> None:
    """Its exception has the code, the status and the retry delay."""
    with (
        answering(refuse("google", trouble, 7.5)) as (url, _),
        use_google(url) as client,
        pytest.raises(kind) as raised,
    ):
        generate(client, MODELS["google"])
    assert (raised.value.code, raised.value.status) == (code, status)
    if trouble is Trouble.RATE_LIMITED:
        details = {
            each["@type"].rsplit(".", 1)[-1]: each for each in raised.value.details["error"]["details"]
        }
        assert details["RetryInfo"]["retryDelay"] == "7.5s"
        assert "PerMinute" in details["QuotaFailure"]["violations"][0]["quotaId"]


def test_the_sdks_retry_and_count(answering: Answering, urls: Urls) -> None:
    """Both SDKs make a second call and number it."""
    limited = refuse("openai", Trouble.RATE_LIMITED, 0.001)
    with httpx.Client(timeout=HANG_SECONDS) as plain:
        good = plain.post(
            f"{urls['openai']}/chat/completions",
            headers={"authorization": f"Bearer {KEY}"},
            json={"model": MODELS["openai"], "messages": [{"role": "user", "content": PROMPT}]},
        )
    answered = Wire(200, {"content-type": "application/json"}, good.content)
    with answering(limited, answered) as (url, received), use_openai(url, max_retries=1) as client:
        assert chat(client, MODELS["openai"]).id == good.json()["id"]
    assert [headers["x-stainless-retry-count"] for headers in received] == ["0", "1"]
    overloaded = refuse("anthropic", Trouble.OVERLOADED, 1)
    refused = refuse("anthropic", Trouble.INVALID)
    with (
        answering(overloaded, refused) as (url, received),
        use_anthropic(url, max_retries=1) as caller,
        pytest.raises(anthropic.BadRequestError),
    ):
        message(caller, MODELS["anthropic"])
    assert [headers["x-stainless-retry-count"] for headers in received] == ["0", "1"]
