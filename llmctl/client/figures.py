"""The service's live figures: its stream, its snapshot, or what `/metrics` tells of the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from llmctl.client.http import read_refusal, refuse_service, refuse_stranger
from llmctl.exits import Failed, Unreachable

STREAM_PATH = "/admin/v1/stream"
SNAPSHOT_PATH = "/admin/v1/snapshot"
METRICS_PATH = "/metrics"
SILENCE_LIMIT_SECONDS = 5.0
"""A stream that says nothing for so long is given up; it speaks twice a second."""

_CIRCUITS = {0: "closed", 1: "half_open", 2: "open"}
_HISTOGRAMS = {
    "llm_accept_seconds": "accept",
    "llm_queue_wait_seconds": "queue_wait",
    "llm_provider_seconds": "provider",
    "callback_publish_seconds": "publish",
    "llm_end_to_end_seconds": "end_to_end",
}
_TOTALS = {
    "llm_requests_accepted_total": "accepted",
    "llm_requests_rejected_total": "rejected",
    "callback_events_published_total": "published",
    "callback_publish_failures_total": "publish_failures",
}
_OUTCOMES = {"success": "succeeded", "error": "failed"}


class NotOffered(Failed):
    """The service is there but does not let us have this: no credential, or no such route."""


async def follow_stream(client: httpx.AsyncClient) -> AsyncIterator[dict[str, Any]]:
    """Snapshots as they are sent; Unreachable where they cease, NotOffered where there is no such stream."""
    limits = httpx.Timeout(SILENCE_LIMIT_SECONDS)
    try:
        async with client.stream(
            "GET", STREAM_PATH, headers={"accept": "text/event-stream"}, timeout=limits
        ) as answer:
            await _check(answer, client)
            async for line in answer.aiter_lines():
                if line.startswith("data:"):
                    yield _read_document(line[5:], client)
    except httpx.TransportError as problem:
        raise _explain(problem, client) from problem
    raise Unreachable(f"The service at {client.base_url} ended its stream of figures.")


async def read_snapshot(client: httpx.AsyncClient) -> dict[str, Any]:
    """One snapshot; Unreachable or NotOffered."""
    return _read_document((await _get(client, SNAPSHOT_PATH)).text, client)


async def read_metrics(client: httpx.AsyncClient) -> dict[str, Any]:
    """What `/metrics` tells, in the snapshot's shape; percentiles it does not tell, but their buckets."""
    answer = await _get(client, METRICS_PATH)
    # Some thousand lines take tens of milliseconds: too long for a screen to stand still.
    return await asyncio.to_thread(translate_metrics, answer.text)


def translate_metrics(text: str) -> dict[str, Any]:
    """A Prometheus exposition of the service in the shape of its snapshot; ValueError where it is none."""
    totals = dict.fromkeys((*_TOTALS.values(), *_OUTCOMES.values()), 0.0)
    buckets: dict[str, dict[str, float]] = {}
    gauges: dict[str, float] = {}
    providers: dict[str, dict[str, Any]] = {}
    phase = "unknown"
    for name, labels, value in _read_samples(text):
        if name in _TOTALS:
            totals[_TOTALS[name]] += value
        elif name == "llm_requests_processed_total" and labels.get("status") in _OUTCOMES:
            totals[_OUTCOMES[labels["status"]]] += value
        elif name.removesuffix("_bucket") in _HISTOGRAMS and "le" in labels:
            found = buckets.setdefault(_HISTOGRAMS[name.removesuffix("_bucket")], {})
            bound = "+Inf" if labels["le"] == "+Inf" else f"{float(labels['le']):g}"
            found[bound] = found.get(bound, 0.0) + value
        elif name == "llm_service_phase" and value == 1:
            phase = labels.get("phase", phase)
        elif "provider" in labels:
            provider = providers.setdefault(labels["provider"], {"name": labels["provider"]})
            _add_to_provider(provider, name, labels, value)
        elif not labels:
            gauges[name] = value
    if "llm_queue_depth" not in gauges:
        raise ValueError("there is no llm_queue_depth in it")
    return {
        "phase": phase,
        "accepting": phase == "ready",
        "queue": {
            "depth": gauges["llm_queue_depth"],
            "oldest_age_seconds": gauges.get("llm_queue_oldest_age_seconds", 0.0),
        },
        "in_flight": gauges.get("llm_requests_in_flight", 0.0),
        "outbox": {"depth": gauges.get("llm_outbox_depth", 0.0)},
        "totals": totals,
        "latency": {name: {"buckets": found} for name, found in buckets.items()},
        "providers": list(providers.values()),
    }


def _read_samples(text: str) -> Iterable[tuple[str, Mapping[str, str], float]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def _add_to_provider(provider: dict[str, Any], name: str, labels: Mapping[str, str], value: float) -> None:
    if name == "llm_circuit_state":
        provider["circuit"] = _CIRCUITS.get(int(value), "unknown")
    elif name == "llm_provider_calls_total":
        provider["calls"] = provider.get("calls", 0) + int(value)
        if labels.get("outcome") != "success":
            provider["errors"] = provider.get("errors", 0) + int(value)


async def _get(client: httpx.AsyncClient, path: str) -> httpx.Response:
    try:
        answer = await client.get(path, timeout=httpx.Timeout(SILENCE_LIMIT_SECONDS))
    except httpx.TransportError as problem:
        raise _explain(problem, client) from problem
    await _check(answer, client)
    return answer


async def _check(answer: httpx.Response, client: httpx.AsyncClient) -> None:
    if answer.status_code == httpx.codes.OK:
        return
    await answer.aread()
    refusal = read_refusal(answer, str(client.base_url))
    raise NotOffered(f"{answer.request.url.path}: {refusal.message}")


def _explain(problem: httpx.TransportError, client: httpx.AsyncClient) -> Unreachable:
    if isinstance(problem, httpx.TimeoutException) and not isinstance(problem, httpx.ConnectTimeout):
        return Unreachable(
            f"The service at {client.base_url} has said nothing for {SILENCE_LIMIT_SECONDS:g} s."
        )
    if isinstance(problem, httpx.ConnectError | httpx.ConnectTimeout):
        return refuse_service(str(client.base_url))
    return Unreachable(f"The connection to {client.base_url} broke.")


def _read_document(text: str, client: httpx.AsyncClient) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise refuse_stranger(str(client.base_url), httpx.codes.OK)
    return document
