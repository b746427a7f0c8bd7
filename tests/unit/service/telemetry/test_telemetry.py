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


def test_labels_cannot_be_invented_without_bound() -> None:
    """Ten thousand topics and models make no more series than the limit."""
    metrics = Metrics(["known-model"])
    for number in range(10_000):
        metrics.published(f"topic-{number}", True, 0.01, 0.1, again=False)
        metrics.attempted(LLMProviderType.OPENAI, f"model-{number}", None, 0.1, Usage())
    text = metrics.render().decode()

    topics = {line for line in text.splitlines() if line.startswith("callback_events_published_total{")}
    models = {line for line in text.splitlines() if line.startswith("llm_provider_seconds_count{")}
    assert len(topics) == MAX_TOPIC_LABELS + 1
    assert len(models) == 1
    assert 'topic="other"' in text


def run_logging(statement: str) -> list[dict[str, object]]:
    """Runs a statement in a process whose stderr is a pipe; its log lines."""
    code = (
        "import logging, structlog\n"
        "from service.telemetry.logs import configure_logs\n"
        "configure_logs()\n"
        "log = structlog.get_logger('test')\n" + statement
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=HANG_SECONDS
    )
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_log_line_is_one_json_object_whatever_it_holds() -> None:
    """Line breaks and half characters from outside cannot forge a second line."""
    lines = run_logging("log.info('x', topic='a\\n{\"level\": \"error\"}', odd='\\ud800')")

    assert len(lines) == 1
    assert lines[0]["level"].strip("'") == "info"


def test_exception_is_logged_without_its_message() -> None:
    """An exception's message may quote an essay; its type and frames tell enough."""
    (line,) = run_logging(
        "try:\n    raise ValueError('canary essay')\nexcept ValueError:\n    log.exception('failed')"
    )

    assert line["exception"] == "ValueError"
    assert line["frames"]
    assert "canary" not in json.dumps(line)


def test_library_that_repeats_itself_is_heard_once() -> None:
    """A broker that is away does not fill the log."""
    lines = run_logging("for n in range(500): logging.getLogger('aiokafka').warning('away %s', 1)")

    assert len(lines) == 1


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
def test_opentelemetrys_own_variables_turn_traces_on(environment: dict[str, str], traced: bool) -> None:
    """As every program with OpenTelemetry does it."""
    assert isinstance(open_tracing("1", environment), OtelTracing) == traced


def test_traces_without_their_extra_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for traces is told what is missing, instead of getting none."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    with pytest.raises(TracingUnavailable, match=r"pip install 'llmctl\[otel\]'"):
        open_tracing("1", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})


def test_untraced_span_hands_its_parent_on() -> None:
    """A service without traces leaves the caller's own as it came."""
    span = NoTracing().begin("x", SpanKind.SERVER, "00-a-b-01")
    span.note(anything=1)
    span.end("code")

    assert span.traceparent == "00-a-b-01"
