"""Metrics with bounded labels; logs that tell ids and never texts."""

import json
import subprocess
import sys

import pytest

from service.contracts.enums import LLMProviderType
from service.core.outcome import Usage
from service.core.records import SpanKind
from service.telemetry.metrics import MAX_TOPIC_LABELS, Metrics
from service.telemetry.tracing import NoTracing, OtelTracing, TracingUnavailable, open_tracing
from tests.waiting import HANG_SECONDS


def test_number_of_series_is_bounded() -> None:
    metrics = Metrics(["known-model"])
    for number in range(2 * MAX_TOPIC_LABELS):
        metrics.published(f"topic-{number}", True, 0.01, 0.1, again=False)
        metrics.attempted(LLMProviderType.OPENAI, f"model-{number}", None, 0.1, Usage())
    text = metrics.render().decode()

    topics = {line for line in text.splitlines() if line.startswith("callback_events_published_total{")}
    models = {line for line in text.splitlines() if line.startswith("llm_provider_seconds_count{")}
    assert len(topics) == MAX_TOPIC_LABELS + 1
    assert len(models) == 1
    assert 'topic="other"' in text


LOGGING = r"""
import logging, structlog
from service.telemetry.logs import configure_logs
configure_logs()
log = structlog.get_logger('test')
log.info('x', topic='a\n{"level": "error"}', odd='\ud800')
try:
    raise ValueError('canary essay')
except ValueError:
    log.exception('failed')
for n in range(500):
    logging.getLogger('aiokafka').warning('away %s', 1)
"""


def test_log_has_one_json_line_per_event_without_messages_of_exceptions_or_repetitions() -> None:
    """A message of an exception may quote an essay."""
    done = subprocess.run(
        [sys.executable, "-c", LOGGING], capture_output=True, text=True, check=True, timeout=HANG_SECONDS
    )
    odd, failed, repeated = [json.loads(line) for line in done.stderr.splitlines()]

    assert (odd["level"].strip("'"), repeated["event"]) == ("info", "away 1")
    assert failed["exception"] == "ValueError"
    assert failed["frames"]
    assert "canary" not in done.stderr


@pytest.mark.parametrize(
    ("environment", "traced"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_variables_of_opentelemetry_turn_traces_on(environment: dict[str, str], traced: bool) -> None:
    assert isinstance(open_tracing("1", environment), OtelTracing) == traced


def test_traces_without_their_extra_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    with pytest.raises(TracingUnavailable, match=r"pip install 'llmctl\[otel\]'"):
        open_tracing("1", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})


def test_untraced_span_keeps_the_traceparent_of_the_caller() -> None:
    span = NoTracing().begin("x", SpanKind.SERVER, "00-a-b-01")
    span.note(anything=1)
    span.end("code")

    assert span.traceparent == "00-a-b-01"
