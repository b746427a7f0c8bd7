"""The reference of the service's settings, metrics and error codes, from the code itself."""

import asyncio
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import httpx
from pydantic_core import PydanticUndefined

from docs.builder.markdown import code, write_page, write_table
from service.contracts.error_codes import LLMErrorCode
from service.core.errors import RETRYABLE, STATUS_OF_REFUSAL
from service.settings import ALLOWLIST_OF_CALLER, PREFIX, Settings
from service.telemetry.metrics import Metrics
from service.wiring import build

_SETTINGS_FRONT = f"""\
Environment variables with the prefix `{PREFIX}`, or lines of a `.env` file in the service's folder; a
variable beats the file. A wrong value stops the start with one line that names the setting and never quotes
what it held. The tables are read from the code."""
_GROUPS: Mapping[str, tuple[str, ...]] = {
    "Address and callers": ("host", "port", "allow_insecure", "api_tokens", "admin_token", "log_level"),
    "Kafka and topics": ("kafka_", "callback_topic_", "usage_topic"),
    "Queue": ("queue_", "request_", "dead_letter_", "replica_", "journal_", "idempotency_"),
    "Limits": ("concurrency", "max_", "default_ttl", "receive_", "drain_"),
    "Providers": ("default_llm", "allow_mock", "provider_", "model_"),
    "OpenAI": ("openai_",),
    "Anthropic": ("anthropic_",),
    "Google": ("google_",),
    "OpenRouter": ("openrouter_",),
}
_SERVED_BY_LIBRARY = "process_"
_MEANINGS: Mapping[LLMErrorCode, str] = {
    LLMErrorCode.PROVIDER_UNAVAILABLE: "The provider could not be reached, or said that it cannot serve now.",
    LLMErrorCode.PROVIDER_RATE_LIMIT: "The provider refused the call: its limits, or a spent quota.",
    LLMErrorCode.PROVIDER_TIMEOUT: "The call took longer than `PROVIDER_TIMEOUT_SECONDS`.",
    LLMErrorCode.PROVIDER_API_ERROR: "The provider refused the call for good: a wrong key or parameter.",
    LLMErrorCode.INVALID_REQUEST: "The body is no JSON, holds an unknown field, or one of a wrong type.",
    LLMErrorCode.INVALID_PROMPT: "The prompt or an essay is missing, blank, or no text.",
    LLMErrorCode.CONTENT_TOO_LONG: "The body, its metadata or the prompt is beyond a limit.",
    LLMErrorCode.INVALID_CONFIG: "The provider or the model is unknown, has no key, or an override is wrong.",
    LLMErrorCode.CALLBACK_TOPIC_MISSING: "The request names no `callback_topic`.",
    LLMErrorCode.INVALID_CALLBACK_TOPIC: "The topic has no legal name, is internal, not allowed, or missing.",
    LLMErrorCode.IDEMPOTENCY_CONFLICT: "The same `Idempotency-Key` came before with another body.",
    LLMErrorCode.UNAUTHORIZED: "The token is missing or unknown.",
    LLMErrorCode.FORBIDDEN: "The token is known, and may not do this.",
    LLMErrorCode.NOT_FOUND: "There is no such route, or nothing under that id.",
    LLMErrorCode.METHOD_NOT_ALLOWED: "The route exists, the method does not.",
    LLMErrorCode.PARSING_ERROR: "The provider's answer could not be read as what was asked for.",
    LLMErrorCode.INVALID_RESPONSE: "The provider's answer makes no sense, or it declined to answer.",
    LLMErrorCode.COST_LIMIT_EXCEEDED: "The budget of the request or of the day does not allow another call.",
    LLMErrorCode.REQUEST_EXPIRED: "The deadline passed before an attempt could begin.",
    LLMErrorCode.REQUEST_CANCELLED: "Somebody took the request back.",
    LLMErrorCode.QUEUE_FULL: "As many requests and callbacks wait as the queue may hold.",
    LLMErrorCode.SERVICE_DRAINING: "The service is about to stop and takes nothing new.",
    LLMErrorCode.INTERNAL_ERROR: "The service cannot take the request now, or could not finish it.",
    LLMErrorCode.CONFIGURATION_ERROR: "The service is set up in a way that the request cannot be worked on.",
}


def write_settings() -> str:
    """The page of all settings."""
    left = dict(Settings.model_fields)
    left.pop("caller_allowlists")
    parts = []
    for title, prefixes in _GROUPS.items():
        names = [name for name in left if name.startswith(prefixes)]
        rows = [_write_setting(name, left.pop(name)) for name in names]
        if title.startswith("Kafka"):
            meaning = "The topics of the caller NAME alone, instead of the common list"
            rows.append((code(f"{ALLOWLIST_OF_CALLER}<NAME>"), "", "patterns, with commas", meaning))
        parts += [f"## {title}", write_table(("setting", "default", "values", "meaning"), rows)]
    if left:
        raise LookupError(f"settings without a group in the reference: {', '.join(left)}")
    return write_page("# Settings", _SETTINGS_FRONT, *parts)


def _write_setting(name: str, field: Any) -> tuple[str, str, str, str]:
    return code(name.upper()), _write_default(name, field), _write_values(field), str(field.description)


def _write_default(name: str, field: Any) -> str:
    if name == "queue_path":
        return "the user's state folder"
    default = field.default
    if default is None or default is PydanticUndefined:
        return ""
    if isinstance(default, bool):
        return code(str(default).lower())
    return code(",".join(default) if isinstance(default, tuple) else str(default))


def _write_values(field: Any) -> str:
    choices = _find_choices(field.annotation)
    if choices:
        return ", ".join(code(choice) for choice in choices)
    bounds = {"gt": "above", "ge": "at least", "le": "at most"}
    found = [
        f"{word} {getattr(rule, attribute):,}"
        for rule in field.metadata
        for attribute, word in bounds.items()
        if getattr(rule, attribute, None) is not None
    ]
    return ", ".join(found)


def _find_choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(each) for each in get_args(annotation)]
    if isinstance(annotation, type) and hasattr(annotation, "__members__"):
        return [str(each.value) for each in annotation.__members__.values()]
    return [choice for part in get_args(annotation) for choice in _find_choices(part)]


def write_metrics() -> str:
    """The page of all metrics, as a service serves them."""
    text = _serve_metrics()
    helps = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE))
    types = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
    labels = dict(_find_labels(text))
    rows = [
        (code(name), kind, ", ".join(code(each) for each in labels.get(name, ())), helps[name])
        for name, kind in types
        if not name.startswith(_SERVED_BY_LIBRARY)
    ]
    front = """\
`GET /metrics` serves them in Prometheus' text format, without a token. No label takes a value that a caller
can invent without bound: beyond 200 topics and for unknown models it is `other`. A histogram also has
`_bucket`, `_sum` and `_count`; beside these stand the usual `process_` metrics."""
    labels_table = """\
`status` is `success` or `error` (`accepted` or `rejected` for callers); `outcome` is `success` or an [error
code](errors.md); `kind` is `prompt`, `completion`, `cached` or `reasoning`; `send` is `first`, or `again`
after an outage or a restart; `phase` is `starting`, `ready`, `draining` or `stopped`; `caller` is a name of
`API_TOKENS`."""
    return write_page(
        "# Metrics",
        front,
        write_table(("metric", "type", "labels", "help"), rows),
        "## Labels",
        labels_table,
        "Alerts, their tests and a dashboard that use them are in `deploy/prometheus` and `deploy/grafana`.",
    )


def _serve_metrics() -> str:
    async def get(folder: str) -> str:
        settings = Settings(
            _env_file=None,
            queue_path=Path(folder) / "queue.db",
            allow_mock_provider=True,
            default_llm_provider="mock",
        )
        transport = httpx.ASGITransport(app=build(settings).app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return (await client.get("/metrics")).text

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(get(folder))


def _find_labels(text: str) -> Iterator[tuple[str, Iterable[str]]]:
    """Label names by metric: those declared, and of those made while wiring what their samples show."""
    for name, labels in re.findall(r"^(llm_\w+)\{([^}]*)\}", text, re.MULTILINE):
        yield name, re.findall(r"(\w+)=", labels)
    for metric in vars(Metrics([])).values():
        names = getattr(metric, "_labelnames", ())  # the library has no other way to ask
        if names:
            kind = getattr(metric, "_type", "")
            name = str(metric._name)  # noqa: SLF001
            yield name + ("_total" if kind == "counter" else ""), names


def write_errors() -> str:
    """The page of all error codes."""
    front = """\
One body for every refusal, `{"error": {…}}`, and one shape for every error callback, `data.error_detail`;
both hold one of these codes in `error_code`, a sentence in `message`, and facts for machines in `details`.
*Retry* says whether the same request may succeed later, as a rule: for a refusal wait as long as
`Retry-After` says; for a callback hand the request in anew. The service has made its own attempts before an
error callback is sent."""
    rows = []
    for each in LLMErrorCode:
        status = STATUS_OF_REFUSAL.get(each)
        where = "callback only" if status is None else str(status)
        rows.append((code(each.value), where, "yes" if RETRYABLE[each] else "no", _MEANINGS[each]))
    return write_page("# Error codes", front, write_table(("code", "HTTP status", "retry", "meaning"), rows))
