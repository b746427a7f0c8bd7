"""One trace from the command line to the consumer, seen whole by an OTLP collector."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.contracts.codec import open_envelope, read_header
from tests.flow.collector import Collector, collecting
from tests.flow.conftest import Body, Run, make_env
from tests.flow.judge import Judge
from tests.waiting import open_client

SUBMIT, RECEIVE = "submit comparison", "receive callback"
PROCESS, ASK = "process comparison", "chat gpt-4o-mini"
ACCEPT = "POST /api/v1/comparison"
SERVER, CLIENT, PRODUCER, CONSUMER = 2, 3, 4, 5


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with collecting() as running:
        yield running


@pytest.fixture
async def traced(
    launcher: Any, judge: Judge, collector: Collector, bootstrap_servers: str, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    env = make_env(bootstrap_servers, tmp_path, OPENAI_API_KEY="fake-key", OPENAI_BASE_URL=judge.url)
    env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    child = launcher.start("service", env=env)
    async with open_client(child.ready["url"]) as client:
        yield client


async def test_one_trace_from_the_command_line_to_the_consumer(
    llmctl: Run, traced: httpx.AsyncClient, collector: Collector, body: Body, bootstrap_servers: str
) -> None:
    """CLI → HTTP → queue → provider → publish → consumer: one trace, each step below the one before it."""
    ended = await llmctl(
        *("submit", "--file", "-", "--wait", "--timeout", "300s", "--url", str(traced.base_url)),
        *("--bootstrap-servers", bootstrap_servers),
        stdin=json.dumps(body).encode(),
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url},
    )
    assert ended.code == 0, ended.err
    publish = f"send {body['callback_topic']}"

    spans = await collector.wait_for({SUBMIT, ACCEPT, PROCESS, ASK, publish, RECEIVE})

    queue_id = json.loads(ended.out)["queue_id"]
    assert len({span.trace_id for span in collector.spans}) == 1
    parents = {name: span.parent_id for name, span in spans.items()}
    ids = {name: span.span_id for name, span in spans.items()}
    children = dict.fromkeys((ASK, publish, RECEIVE), ids[PROCESS])
    assert parents == {SUBMIT: "", ACCEPT: ids[SUBMIT], PROCESS: ids[ACCEPT]} | children
    kinds = {
        SUBMIT: CLIENT,
        ACCEPT: SERVER,
        PROCESS: CONSUMER,
        ASK: CLIENT,
        publish: PRODUCER,
        RECEIVE: CONSUMER,
    }
    assert {name: span.kind for name, span in spans.items()} == kinds
    assert {span.service for span in collector.spans} == {"llmctl", "llm_provider_service"}
    assert spans[PROCESS].attributes["messaging.message.id"] == queue_id
    assert spans[ASK].attributes["gen_ai.provider.name"] == "openai"
    assert spans[ASK].attributes["gen_ai.usage.output_tokens"] > 0
    assert spans[publish].attributes["messaging.kafka.offset"] >= 0
    told = json.dumps([(span.name, span.attributes) for span in collector.spans], default=str)
    assert not [text for text in ("The first essay.", "Which essay is better?", "fake-key") if text in told]


async def test_callers_own_trace_goes_on(
    traced: httpx.AsyncClient, collector: Collector, body: Body, read_topic: Any
) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    traceparent = f"00-{trace_id}-b7ad6b7169203331-01"

    await traced.post("/api/v1/comparison", json=body, headers={"traceparent": traceparent})
    (record,) = await asyncio.to_thread(read_topic, body["callback_topic"], 1)
    spans = await collector.wait_for({ACCEPT, PROCESS})

    assert spans[ACCEPT].parent_id == "b7ad6b7169203331"
    assert {span.trace_id for span in collector.spans} == {trace_id}
    said = read_header(record.headers(), "traceparent")
    assert said == f"00-{trace_id}-{spans[PROCESS].span_id}-01"
    assert open_envelope(record.value()).data.trace_id == trace_id


async def test_refusal_is_told_with_its_code(
    traced: httpx.AsyncClient, collector: Collector, body: Body
) -> None:
    await traced.post("/api/v1/comparison", json=body | {"essay_a": " "})
    spans = await collector.wait_for({ACCEPT})
    assert spans[ACCEPT].failed
    assert spans[ACCEPT].attributes["error.type"] == "LLM_INVALID_PROMPT"
    assert spans[ACCEPT].attributes["http.response.status_code"] == 422
