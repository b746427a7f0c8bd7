"""The golden files in `fixtures/`: what other languages and other services build on.

After a deliberate change of a contract, `LLMCTL_WRITE_GOLDEN=1 make unit` writes the schemas anew; look at
the difference before it is committed. The examples are written by hand and are never regenerated.
"""

import json
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import NAMESPACE_URL, uuid5

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from service.contracts.codec import open_envelope
from service.contracts.errors import ErrorBody
from service.contracts.events import EventEnvelope, LLMComparisonResultV1
from service.contracts.requests import LLMComparisonRequest, LLMQueuedResponse, QueuedRequest

FIXTURES = Path(__file__).parents[2] / "fixtures"

GOLDEN: dict[str, tuple[type[BaseModel], Literal["validation", "serialization"]]] = {
    "llm-comparison-request": (LLMComparisonRequest, "validation"),
    "llm-queued-response": (LLMQueuedResponse, "serialization"),
    "queued-request": (QueuedRequest, "serialization"),
    "error-body": (ErrorBody, "serialization"),
    "event-envelope-llm-comparison-result-v1": (EventEnvelope[LLMComparisonResultV1], "serialization"),
}

# Read while collecting: no LLMCTL_ variable reaches a test.
WRITE = os.environ.get("LLMCTL_WRITE_GOLDEN") == "1"
IN_CI = bool(os.environ.get("CI"))

EVENTS = sorted((FIXTURES / "events").glob("*.json"))
REQUESTS = sorted((FIXTURES / "requests").glob("*.json"))


def render(document: Any) -> str:
    """How a golden schema is written."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def read_schema(name: str) -> Any:
    """A golden schema, as it stands in its file."""
    return json.loads((FIXTURES / "schemas" / f"{name}.json").read_text())


def open_validator(name: str) -> Draft202012Validator:
    """The judge of documents by a golden schema, formats included."""
    return Draft202012Validator(read_schema(name), format_checker=Draft202012Validator.FORMAT_CHECKER)


def name_of(path: Path) -> str:
    """The test id of an example."""
    return path.stem


def compact(document: str) -> str:
    """The same JSON without white space between its tokens, in its own order."""
    return json.dumps(json.loads(document), separators=(",", ":"), ensure_ascii=False)


@pytest.mark.parametrize("name", GOLDEN)
def test_a_schema_file_is_the_schema_of_its_model(name: str) -> None:
    """The published schema and the code cannot drift apart unnoticed."""
    model, mode = GOLDEN[name]
    path = FIXTURES / "schemas" / f"{name}.json"
    rendered = render(model.model_json_schema(mode=mode))
    if WRITE:
        assert not IN_CI, "golden files are written at a desk and reviewed, never in CI"
        path.write_text(rendered)
    assert path.read_text() == rendered


def test_every_schema_file_has_a_model() -> None:
    """No schema of a contract that is gone stays behind."""
    assert {path.stem for path in (FIXTURES / "schemas").iterdir()} == set(GOLDEN)


@pytest.mark.parametrize("name", GOLDEN)
def test_a_schema_is_valid_draft_2020_12(name: str) -> None:
    """Any validator of any language can load it."""
    Draft202012Validator.check_schema(read_schema(name))


def test_there_are_examples_of_every_kind() -> None:
    """The examples cannot vanish while the tests over them stay green."""
    assert {path.stem for path in EVENTS} == {
        "comparison-succeeded",
        "comparison-succeeded-traced",
        "comparison-failed",
        "comparison-expired",
    }
    assert {path.stem for path in REQUESTS} == {"comparison-minimal", "comparison-full"}


@pytest.mark.parametrize("path", EVENTS, ids=name_of)
def test_an_example_event_fits_the_schema(path: Path) -> None:
    """Whoever validates by the schema accepts our events."""
    open_validator("event-envelope-llm-comparison-result-v1").validate(json.loads(path.read_text()))


@pytest.mark.parametrize("path", EVENTS, ids=name_of)
def test_an_example_event_goes_through_the_model_unchanged(path: Path) -> None:
    """Reading and writing an event gives the very bytes of the example, white space aside."""
    text = path.read_text()
    assert open_envelope(text.encode()).model_dump_json() == compact(text)


@pytest.mark.parametrize("path", REQUESTS, ids=name_of)
def test_an_example_request_fits_the_schema(path: Path) -> None:
    """Whoever validates by the schema may send our examples."""
    open_validator("llm-comparison-request").validate(json.loads(path.read_text()))


@pytest.mark.parametrize("path", REQUESTS, ids=name_of)
def test_an_example_request_goes_through_the_model_unchanged(path: Path) -> None:
    """What a caller set is what the service has read, in its very bytes."""
    text = path.read_text()
    request = LLMComparisonRequest.model_validate_json(text)
    assert request.model_dump_json(exclude_unset=True) == compact(text)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("callback_topic", ""),
        ("callback_topic", None),
        ("priority", 10),
        ("priority", 1.5),
        ("ttl_seconds", 0),
        ("metadata", []),
        ("correlation_id", "not-a-uuid"),
        ("llm_config_overrides", {"temperature_override": 2.1}),
        ("llm_config_overrides", {"provider_override": "acme"}),
        ("unknown", 1),
    ],
)
def test_the_request_schema_refuses(field: str, value: Any) -> None:
    """A caller who validates by the schema learns of a mistake before sending."""
    document = json.loads((FIXTURES / "requests" / "comparison-minimal.json").read_text())
    assert not open_validator("llm-comparison-request").is_valid({**document, field: value})


@pytest.mark.parametrize("field", ["user_prompt", "essay_a", "essay_b", "callback_topic"])
def test_the_request_schema_requires(field: str) -> None:
    """The four required fields are required by the schema too; the callback topic above all."""
    document = json.loads((FIXTURES / "requests" / "comparison-minimal.json").read_text())
    del document[field]
    assert not open_validator("llm-comparison-request").is_valid(document)


@pytest.mark.parametrize("path", EVENTS, ids=name_of)
def test_an_example_event_has_the_identity_of_its_request(path: Path) -> None:
    """The examples show what is promised: one event identity for one request."""
    document = json.loads(path.read_text())
    expected = uuid5(NAMESPACE_URL, f"llm_provider.comparison_result:{document['data']['request_id']}")
    assert document["event_id"] == str(expected)
    assert document["correlation_id"] == document["data"]["correlation_id"]


@pytest.mark.parametrize("path", EVENTS, ids=name_of)
def test_the_attempts_of_an_example_are_what_its_answer_came_from(path: Path) -> None:
    """The examples show a timeline: calls in order, between acceptance and outcome, with the last word."""
    document = json.loads(path.read_text())
    data, attempts = document["data"], document["metadata"]["attempts"]
    error = data["error_detail"] or {"error_code": "success", "details": {}}
    moments = [data["requested_at"]]
    for attempt in attempts:
        ended_at = datetime.fromisoformat(attempt["started_at"]) + timedelta(seconds=attempt["seconds"])
        moments += [attempt["started_at"], ended_at.isoformat()]
    moments.append(data["completed_at"])
    read = [datetime.fromisoformat(moment) for moment in moments]
    assert read == sorted(read)
    assert round(1000 * sum(attempt["seconds"] for attempt in attempts)) == data["response_time_ms"]
    assert len(attempts) == error["details"].get("attempts", len(attempts))
    assert {attempt["provider"] for attempt in attempts} <= {data["provider"]}
    assert [attempt["outcome"] for attempt in attempts[-1:]] in ([], [error["error_code"]])
