"""OpenAI's API on the wire: chat completions and the model list.

Sources: the API reference at https://platform.openai.com/docs/api-reference, its guides on error codes and
rate limits, and openai-python (`_base_client.py`, `_exceptions.py`) for the headers that the SDK reads.
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
    gateway_wire,
    json_wire,
    read_attempt,
)
from simulator.provider.catalogue import OPENAI_MODELS, Model, find_model
from simulator.provider.chat import Fault
from simulator.provider.completion import bend

_PARAMETERS = frozenset(
    {
        "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs",
        "max_completion_tokens", "max_tokens", "messages", "metadata", "modalities", "model", "n",
        "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key", "prompt_cache_retention",
        "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop", "store",
        "stream", "stream_options", "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user",
        "verbosity", "web_search_options",
    }
)  # fmt: skip
_FIXED_WHILE_THINKING = ("temperature", "top_p")
_INVALID = "invalid_request_error"
_TROUBLES: dict[Trouble, tuple[int, str, str, str | None]] = {
    Trouble.RATE_LIMITED: (
        429, "Rate limit reached for requests. Please try again later.", "requests", "rate_limit_exceeded",
    ),
    Trouble.QUOTA_EXHAUSTED: (
        429, "You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota", "insufficient_quota",
    ),
    Trouble.OVERLOADED: (
        503, "The engine is currently overloaded, please try again later.", "service_unavailable_error",
        None,
    ),
    Trouble.SERVER_ERROR: (
        500, "The server had an error while processing your request. Sorry about that!", "server_error", None,
    ),
    Trouble.UNAVAILABLE: (
        503, "The server is temporarily unable to handle your request, please try again later.",
        "service_unavailable_error", None,
    ),
    Trouble.UNAUTHORIZED: (
        401, "Incorrect API key provided: it is written to be refused.", _INVALID, "invalid_api_key",
    ),
    Trouble.FORBIDDEN: (
        403, "Country, region, or territory not supported", "request_forbidden",
        "unsupported_country_region_territory",
    ),
    Trouble.NOT_FOUND: (
        404, "The model does not exist or you do not have access to it.", _INVALID, "model_not_found",
    ),
    Trouble.TOO_LARGE: (413, "The request is too large.", _INVALID, "request_too_large"),
    Trouble.INVALID: (400, "Your request was malformed or missing a parameter.", _INVALID, None),
}  # fmt: skip


class OpenAIApi:
    """OpenAI's API; its SDK takes `…/v1`."""

    name = "openai"
    base_path = "/v1"

    def routes(self) -> Sequence[tuple[str, str]]:
        """Chat completions."""
        return (("POST", "/v1/chat/completions"),)

    def other_routes(self) -> Sequence[tuple[str, str]]:
        """The model list and each of its entries."""
        return (("GET", "/v1/models"), ("GET", "/v1/models/{model}"))

    def claims(self, call: Call) -> bool:
        """Under `/v1`, by a bearer key without the version that Anthropic's callers send."""
        ours = "authorization" in call.headers and "anthropic-version" not in call.headers
        return ours and call.path.startswith("/v1/")

    def read(self, call: Call) -> Ask:
        """Reads a chat completion; raises `Refusal` (400, 401, 404)."""
        try:
            key = read_bearer_key(call.headers)
            document = chat.read_object(call.body)
            model = _find_model(chat.read_model_name(document))
            ask = chat.read_ask(
                document,
                api=self.name,
                key_digest=digest_key(key),
                model=model,
                attempt=read_attempt(call.headers),
            )
            _check_parameters(document, model)
        except Fault as fault:
            raise Refusal(_write_fault(fault, call.digest)) from fault
        return ask

    def look_up(self, call: Call) -> Wire:
        """`GET /v1/models` and one of them; raises `Refusal` (401, 404)."""
        try:
            read_bearer_key(call.headers)
            name = call.path_params.get("model")
            body = {"object": "list", "data": _list_models()} if name is None else _list_model(name)
        except Fault as fault:
            raise Refusal(_write_fault(fault, call.digest)) from fault
        return json_wire(200, body, _write_headers(call.digest, 0))

    def answer(self, ask: Ask, completion: Completion, ending: Ending, created: int) -> Wire:
        """The `chat.completion` object."""
        completion = bend(completion, ending)
        choice = chat.write_choice(ask, completion)
        choice["message"]["annotations"] = []
        fingerprint = blake2b(ask.model.snapshot.encode(), digest_size=5).hexdigest()
        body = {
            "id": f"chatcmpl-{completion.id[:29]}",
            "object": "chat.completion",
            "created": created,
            "model": ask.model.snapshot,
            "choices": [choice],
            "usage": chat.write_usage(completion),
            "service_tier": "default",
            "system_fingerprint": f"fp_{fingerprint}",
        }
        return json_wire(200, body, _write_headers(completion.request_id, completion.processing_ms))

    def refuse(
        self,
        trouble: Trouble,
        *,
        status: int | None = None,
        retry_after_seconds: float | None = None,
        request_id: str,
    ) -> Wire:
        """OpenAI's error body; what its gateway answers (502, 504) is a page."""
        headers = write_retry_after(retry_after_seconds)
        if trouble in (Trouble.BAD_GATEWAY, Trouble.TIMEOUT):
            return gateway_wire(status or (502 if trouble is Trouble.BAD_GATEWAY else 504), headers)
        usual, message, kind, code = _TROUBLES[trouble]
        if trouble is Trouble.SERVER_ERROR:
            message += f" (Please include the request ID req_{request_id} in your message.)"
        body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
        return json_wire(status or usual, body, {**_write_headers(request_id, 0), **headers})

    def refuse_schema(self, ask: Ask, problem: str) -> Wire:
        """400, as of a response format."""
        name = ask.answer_format.name if isinstance(ask.answer_format, JsonOfSchema) else "none"
        request_id = blake2b(ask.canonical, digest_size=16).hexdigest()
        return _write_fault(chat.invalid_schema(name, problem), request_id)

    def refuse_route(self, status: int, call: Call) -> Wire:
        """404 and 405."""
        if status == 405:
            message, code = f"Not allowed to {call.method} on {call.path}.", "method_not_supported"
            return _write_fault(Fault(405, message, code=code), call.digest)
        return _write_fault(Fault(status, f"Invalid URL ({call.method} {call.path})"), call.digest)

    def refuse_size(self, max_bytes: int, call: Call) -> Wire:
        """413."""
        message = f"The request is larger than {max_bytes} bytes."
        return _write_fault(Fault(413, message, code="request_too_large"), call.digest)

    def rate_headers(self, state: RateState) -> dict[str, str]:
        """`x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, the reset as in `6m0s` or `120ms`."""
        headers: dict[str, str] = {}
        for unit, limit, remaining, seconds in (
            ("requests", state.requests_limit, state.requests_remaining, state.requests_reset_seconds),
            ("tokens", state.tokens_limit, state.tokens_remaining, state.tokens_reset_seconds),
        ):
            if limit is not None:
                headers[f"x-ratelimit-limit-{unit}"] = str(limit)
                headers[f"x-ratelimit-remaining-{unit}"] = str(remaining)
                headers[f"x-ratelimit-reset-{unit}"] = write_duration(seconds)
        return headers


def read_bearer_key(headers: Mapping[str, str]) -> str:
    """The key, any that is not empty; raises `Fault` (401)."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Fault(
            401,
            "You didn't provide an API key. You need to provide your API key in an Authorization header "
            "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
        )
    return key.strip()


def write_retry_after(seconds: float | None) -> dict[str, str]:
    """`retry-after` in whole seconds, and to the millisecond in the header that the SDK prefers."""
    if seconds is None:
        return {}
    return {"retry-after": str(math.ceil(seconds)), "retry-after-ms": str(math.ceil(seconds * 1000))}


def write_duration(seconds: float) -> str:
    """A time as OpenAI's rate headers give it: `120ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 3), 60)
    return f"{int(minutes)}m{rest:g}s" if minutes else f"{rest:g}s"


def _find_model(name: str) -> Model:
    model = find_model(OPENAI_MODELS, name)
    if model is None:
        message = f"The model `{name}` does not exist or you do not have access to it."
        raise Fault(404, message, code="model_not_found")
    return model


def _check_parameters(document: Mapping[str, Any], model: Model) -> None:
    unknown = sorted(document.keys() - _PARAMETERS)
    if unknown:
        raise Fault(400, f"Unknown parameter: '{unknown[0]}'.", param=unknown[0], code="unknown_parameter")
    if not model.thinks:
        if document.get("reasoning_effort") is not None:
            raise Fault(
                400, "Unrecognized request argument supplied: reasoning_effort",
                param="reasoning_effort", code="unsupported_parameter",
            )  # fmt: skip
        return
    if document.get("max_tokens") is not None:
        raise Fault(
            400, "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead.", param="max_tokens", code="unsupported_parameter",
        )  # fmt: skip
    for name in _FIXED_WHILE_THINKING:
        if document.get(name) not in (None, 1):
            raise Fault(
                400, f"Unsupported value: '{name}' does not support {document[name]} with this model. Only "
                "the default (1) value is supported.", param=name, code="unsupported_value",
            )  # fmt: skip


def _list_models() -> list[dict[str, Any]]:
    return [
        {"id": name, "object": "model", "created": model.created, "owned_by": model.owner}
        for model in OPENAI_MODELS
        for name in (model.name, model.snapshot)
    ]


def _list_model(name: str) -> dict[str, Any]:
    entry = next((entry for entry in _list_models() if entry["id"] == name), None)
    if entry is None:
        message = f"The model '{name}' does not exist or you do not have access to it."
        raise Fault(404, message, param="model", code="model_not_found")
    return entry


def _write_headers(request_id: str, processing_ms: int) -> dict[str, str]:
    return {
        "x-request-id": f"req_{request_id}",
        "openai-processing-ms": str(processing_ms),
        "openai-version": "2020-10-01",
    }


def _write_fault(fault: Fault, request_id: str) -> Wire:
    body = {"error": {"message": fault.message, "type": _INVALID, "param": fault.param, "code": fault.code}}
    return json_wire(fault.status, body, _write_headers(request_id, 0))
