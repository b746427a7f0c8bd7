"""OpenRouter's API on the wire: chat completions with fields of its own, and the model list.

Sources: https://openrouter.ai/docs/api-reference/overview, /docs/api/reference/errors-and-debugging,
/docs/api/reference/limits and /docs/use-cases/usage-accounting.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from simulator.provider import chat
from simulator.provider.answer import JsonOfSchema
from simulator.provider.api import (
    Ask,
    Call,
    Completion,
    Ending,
    RateState,
    Refusal,
    Trouble,
    Wire,
    digest_key,
    json_wire,
    read_attempt,
)
from simulator.provider.catalogue import OPENROUTER_MODELS, Model, find_model
from simulator.provider.chat import Fault
from simulator.provider.completion import bend

_TROUBLES: dict[Trouble, tuple[int, str]] = {
    Trouble.RATE_LIMITED: (429, "Provider returned error"),
    Trouble.QUOTA_EXHAUSTED: (402, "Insufficient credits. Add more using https://openrouter.ai/credits"),
    Trouble.OVERLOADED: (503, "No instances available"),
    Trouble.SERVER_ERROR: (500, "Internal Server Error"),
    Trouble.BAD_GATEWAY: (502, "Provider returned error"),
    Trouble.UNAVAILABLE: (503, "There is no available model provider that meets your routing requirements"),
    Trouble.TIMEOUT: (408, "Request timed out"),
    Trouble.UNAUTHORIZED: (401, "User not found."),
    Trouble.FORBIDDEN: (403, "This request was refused by a guardrail."),
    Trouble.NOT_FOUND: (404, "No endpoints found that can handle the requested parameters."),
    Trouble.TOO_LARGE: (413, "Request Entity Too Large"),
    Trouble.INVALID: (400, "Invalid request"),
}
_RAW = {
    Trouble.RATE_LIMITED: "the model is temporarily rate-limited upstream. Please retry shortly.",
    Trouble.BAD_GATEWAY: "the upstream answered with an error of its own.",
}
"""What the provider behind said, as OpenRouter passes it on."""
_NATIVE_FINISH_REASONS = {
    "OpenAI": {"stop": "stop", "length": "length", "content_filter": "content_filter"},
    "Anthropic": {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"},
    "Google AI Studio": {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"},
}


class OpenRouterApi:
    """OpenRouter's API; OpenAI's SDK takes `…/api/v1`."""

    name = "openrouter"
    base_path = "/api/v1"

    def routes(self) -> Sequence[tuple[str, str]]:
        """Chat completions."""
        return (("POST", "/api/v1/chat/completions"),)

    def other_routes(self) -> Sequence[tuple[str, str]]:
        """The model list, which wants no key, and what a key may do."""
        return (("GET", "/api/v1/models"), ("GET", "/api/v1/key"))

    def claims(self, call: Call) -> bool:
        """By its paths."""
        return call.path.startswith("/api/v1")

    def read(self, call: Call) -> Ask:
        """Reads a chat completion; raises `Refusal` (400, 401); what it does not know it leaves alone."""
        try:
            key = _read_key(call.headers)
            document = chat.read_object(call.body)
            return chat.read_ask(
                _lift_reasoning(document),
                api=self.name,
                key_digest=digest_key(key),
                model=_find_model(chat.read_model_name(document)),
                attempt=read_attempt(call.headers),
                prefix=b"openrouter/",
            )
        except Fault as fault:
            raise Refusal(_write_error(fault.status, fault.message)) from fault

    def look_up(self, call: Call) -> Wire:
        """The model list, or the key's own entry; raises `Refusal` (401)."""
        if call.path.endswith("/models"):
            return json_wire(200, {"data": [_write_model(model) for model in OPENROUTER_MODELS]}, {})
        try:
            key = _read_key(call.headers)
        except Fault as fault:
            raise Refusal(_write_error(fault.status, fault.message)) from fault
        entry = {"label": digest_key(key), "usage": 0, "limit": None, "is_free_tier": False}
        return json_wire(200, {"data": entry}, {})

    def answer(self, ask: Ask, completion: Completion, ending: Ending, created: int) -> Wire:
        """The `chat.completion` object, with who answered and what it cost."""
        completion = bend(completion, ending)
        choice = chat.write_choice(ask, completion)
        native = _NATIVE_FINISH_REASONS[ask.model.owner]
        choice["native_finish_reason"] = native[choice["finish_reason"]]
        choice["message"]["reasoning"] = "I compare the two." if completion.reasoning_tokens else None
        cost = ask.model.price(
            completion.prompt_tokens, completion.cached_tokens, completion.completion_tokens
        )
        body = {
            "id": f"gen-{created}-{completion.id[:20]}",
            "provider": ask.model.owner,
            "model": ask.model.name,
            "object": "chat.completion",
            "created": created,
            "choices": [choice],
            "system_fingerprint": None,
            "usage": {
                **chat.write_usage(completion),
                "cost": round(cost, 10),
                "is_byok": False,
                "cost_details": {"upstream_inference_cost": None},
            },
        }
        return json_wire(200, body, _write_headers(completion.request_id))

    def refuse(
        self,
        trouble: Trouble,
        *,
        status: int | None = None,
        retry_after_seconds: float | None = None,
        request_id: str,
    ) -> Wire:
        """OpenRouter's error body, with what the provider behind it said."""
        usual, message = _TROUBLES[trouble]
        metadata = {"raw": _RAW[trouble], "provider_name": "OpenAI"} if trouble in _RAW else None
        headers = _write_headers(request_id)
        if retry_after_seconds is not None:
            headers["retry-after"] = str(math.ceil(retry_after_seconds))
        return _write_error(status or usual, message, metadata, headers)

    def refuse_schema(self, ask: Ask, problem: str) -> Wire:
        """400, in the words of the provider behind it."""
        name = ask.answer_format.name if isinstance(ask.answer_format, JsonOfSchema) else "none"
        raw = chat.invalid_schema(name, problem).message
        headers = _write_headers(blake2b(ask.canonical, digest_size=16).hexdigest())
        metadata = {"raw": raw, "provider_name": ask.model.owner}
        return _write_error(400, "Provider returned error", metadata, headers)

    def refuse_route(self, status: int, call: Call) -> Wire:
        """404 and 405."""
        words = "Not Found" if status == 404 else "Method Not Allowed"
        return _write_error(status, words, None, _write_headers(call.digest))

    def refuse_size(self, max_bytes: int, call: Call) -> Wire:
        """413."""
        message = f"The request is larger than {max_bytes} bytes."
        return _write_error(413, message, None, _write_headers(call.digest))

    def rate_headers(self, state: RateState) -> dict[str, str]:
        """`X-RateLimit-*` where nothing is left, the reset in milliseconds since the epoch."""
        if state.requests_limit is None or state.requests_remaining > 0:
            return {}
        reset = math.ceil((state.now + state.requests_reset_seconds) * 1000)
        return {
            "x-ratelimit-limit": str(state.requests_limit),
            "x-ratelimit-remaining": "0",
            "x-ratelimit-reset": str(reset),
        }


def _read_key(headers: Mapping[str, str]) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Fault(401, "No auth credentials found")
    return key.strip()


def _find_model(name: str) -> Model:
    model = find_model(OPENROUTER_MODELS, name)
    if model is None:
        raise Fault(400, f"{name} is not a valid model ID")
    return model


def _lift_reasoning(document: dict[str, Any]) -> dict[str, Any]:
    """OpenRouter takes the effort as `reasoning.effort` too."""
    reasoning = document.get("reasoning")
    effort = reasoning.get("effort") if isinstance(reasoning, dict) else None
    return document if effort is None else {**document, "reasoning_effort": effort}


def _write_model(model: Model) -> dict[str, Any]:
    return {
        "id": model.name,
        "canonical_slug": model.name,
        "name": model.title,
        "created": model.created,
        "context_length": model.context_window_tokens,
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        "pricing": {
            "prompt": _write_price(model.prompt_usd_per_million),
            "completion": _write_price(model.completion_usd_per_million),
            "input_cache_read": _write_price(model.cached_prompt_usd_per_million),
        },
        "top_provider": {
            "context_length": model.context_window_tokens,
            "max_completion_tokens": model.output_limit_tokens,
            "is_moderated": False,
        },
        "supported_parameters": [
            "max_tokens", "reasoning", "response_format", "structured_outputs", "temperature", "tool_choice",
            "tools", "top_p",
        ],
    }  # fmt: skip


def _write_price(usd_per_million: float) -> str:
    return f"{usd_per_million / 1_000_000:.12f}".rstrip("0")


def _write_headers(request_id: str) -> dict[str, str]:
    return {"x-generation-id": f"gen-{request_id}"}


def _write_error(
    status: int,
    message: str,
    metadata: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Wire:
    error: dict[str, Any] = {"message": message, "code": status}
    if metadata is not None:
        error["metadata"] = metadata
    return json_wire(status, {"error": error}, headers or {})
