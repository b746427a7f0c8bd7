"""`/metrics` is translated into the shape of the snapshot."""

import pytest

from llmctl.client.figures import translate_metrics
from llmctl.tui.model.reading import read_figures

EXPOSITION = """
# TYPE callback_events_published_total counter
callback_events_published_total{topic="a",status="success"} 90
callback_events_published_total{topic="a",status="error"} 5
callback_events_published_total{topic="b",status="success"} 5
# TYPE callback_publish_failures_total counter
callback_publish_failures_total{topic="a"} 3
callback_publish_failures_total{topic="b"} 1
# TYPE llm_requests_processed_total counter
llm_requests_processed_total{status="success"} 95
llm_requests_processed_total{status="error"} 7
llm_requests_processed_total{status="other"} 1000
# TYPE llm_requests_accepted_total counter
llm_requests_accepted_total 120
# TYPE llm_requests_rejected_total counter
llm_requests_rejected_total{error_code="LLM_QUEUE_FULL"} 4
llm_requests_rejected_total{error_code="LLM_INVALID_REQUEST"} 2
# TYPE llm_queue_depth gauge
llm_queue_depth 18
# TYPE llm_queue_oldest_age_seconds gauge
llm_queue_oldest_age_seconds 2.5
# TYPE llm_requests_in_flight gauge
llm_requests_in_flight 6
# TYPE llm_outbox_depth gauge
llm_outbox_depth 2
# TYPE llm_accept_seconds histogram
llm_accept_seconds_bucket{le="0.005"} 100
llm_accept_seconds_bucket{le="1.0"} 118
llm_accept_seconds_bucket{le="+Inf"} 120
llm_accept_seconds_sum 1.5
llm_accept_seconds_count 120
# TYPE llm_queue_wait_seconds histogram
llm_queue_wait_seconds_bucket{le="0.01"} 30
llm_queue_wait_seconds_bucket{le="+Inf"} 40
llm_queue_wait_seconds_sum 1.5
llm_queue_wait_seconds_count 40
# TYPE llm_provider_seconds histogram
llm_provider_seconds_bucket{provider="openai",model="m",le="1.0"} 50
llm_provider_seconds_bucket{provider="openai",model="m",le="+Inf"} 60
llm_provider_seconds_sum{provider="openai",model="m"} 40
llm_provider_seconds_count{provider="openai",model="m"} 60
llm_provider_seconds_bucket{provider="google",model="n",le="1.0"} 30
llm_provider_seconds_bucket{provider="google",model="n",le="+Inf"} 45
llm_provider_seconds_sum{provider="google",model="n"} 40
llm_provider_seconds_count{provider="google",model="n"} 45
# TYPE callback_publish_seconds histogram
callback_publish_seconds_bucket{send="first",le="0.1"} 80
callback_publish_seconds_bucket{send="first",le="+Inf"} 90
callback_publish_seconds_bucket{send="again",le="0.1"} 2
callback_publish_seconds_bucket{send="again",le="+Inf"} 10
# TYPE llm_end_to_end_seconds histogram
llm_end_to_end_seconds_bucket{le="5.0"} 99
llm_end_to_end_seconds_bucket{le="+Inf"} 100
# TYPE llm_provider_calls_total counter
llm_provider_calls_total{provider="openai",outcome="success"} 60
llm_provider_calls_total{provider="openai",outcome="LLM_PROVIDER_TIMEOUT"} 3
llm_provider_calls_total{provider="openai",outcome="LLM_PROVIDER_RATE_LIMIT"} 2
llm_provider_calls_total{provider="google",outcome="success"} 45
# TYPE llm_circuit_state gauge
llm_circuit_state{provider="openai"} 2
llm_circuit_state{provider="google"} 1
llm_circuit_state{provider="anthropic"} 0
llm_circuit_state{provider="mock"} 7
# TYPE llm_tokens_total counter
llm_tokens_total{provider="openai",kind="prompt"} 1000
# TYPE llm_cost_usd_total counter
llm_cost_usd_total{provider="openai"} 0.5
# TYPE llm_service_phase gauge
llm_service_phase{phase="starting"} 0
llm_service_phase{phase="ready"} 1
llm_service_phase{phase="draining"} 0
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 12.5
# TYPE something_else histogram
something_else_bucket{le="1.0"} 5
something_else_bucket{le="+Inf"} 5
"""


def test_totals_are_added_over_their_labels() -> None:
    assert translate_metrics(EXPOSITION)["totals"] == {
        "accepted": 120,
        "rejected": 6,
        "succeeded": 95,
        "failed": 7,
        "published": 100,
        "publish_failures": 4,
    }


def test_gauges_have_their_places() -> None:
    document = translate_metrics(EXPOSITION)
    assert document["queue"] == {"depth": 18, "oldest_age_seconds": 2.5}
    assert (document["in_flight"], document["outbox"]) == (6, {"depth": 2})


@pytest.mark.parametrize(("phase", "accepting"), [("ready", True), ("starting", False), ("draining", False)])
def test_the_phase_is_the_one_that_is_set(phase: str, accepting: bool) -> None:
    others = EXPOSITION.replace('phase="ready"} 1', 'phase="ready"} 0')
    document = translate_metrics(others.replace(f'phase="{phase}"}} 0', f'phase="{phase}"}} 1'))
    assert (document["phase"], document["accepting"]) == (phase, accepting)


def test_histograms_are_added_and_named_as_in_the_snapshot() -> None:
    assert translate_metrics(EXPOSITION)["latency"] == {
        "accept": {"buckets": {"0.005": 100, "1": 118, "+Inf": 120}},
        "queue_wait": {"buckets": {"0.01": 30, "+Inf": 40}},
        "provider": {"buckets": {"1": 80, "+Inf": 105}},
        "publish": {"buckets": {"0.1": 82, "+Inf": 100}},
        "end_to_end": {"buckets": {"5": 99, "+Inf": 100}},
    }


def test_providers_have_circuits_and_calls() -> None:
    providers = {each["name"]: each for each in translate_metrics(EXPOSITION)["providers"]}
    assert providers == {
        "openai": {"name": "openai", "circuit": "open", "calls": 65, "errors": 5},
        "google": {"name": "google", "circuit": "half_open", "calls": 45},
        "anthropic": {"name": "anthropic", "circuit": "closed"},
        "mock": {"name": "mock", "circuit": "unknown"},
    }


def test_a_monitor_reads_it_as_a_snapshot() -> None:
    reading = read_figures(1.0, "metrics", translate_metrics(EXPOSITION))
    assert (reading.phase, reading.queue_depth, reading.outstanding) == ("ready", 18, 26)
    assert (reading.broker, reading.queue_capacity, reading.latency["accept"].p99) == ("unknown", None, None)


def test_a_service_that_has_just_started_tells_little() -> None:
    document = translate_metrics("llm_queue_depth 0\n")
    assert (document["phase"], document["accepting"], document["in_flight"]) == ("unknown", False, 0)
    assert set(document["totals"].values()) == {0}
    assert (document["latency"], document["providers"]) == ({}, [])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "process_cpu_seconds_total 1\n",
        'llm_queue_depth{shard="1"} 4\n',
        "<html>no</html>",
        "a b c d e{\n",
    ],
)
def test_what_is_no_exposition_of_the_service_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        translate_metrics(text)
