"""The golden files in `fixtures/`: what other languages and other services build on.

The schemas are written by `make schemas`. The examples are written by hand and are never regenerated.
"""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest
from jsonschema import Draft202012Validator

from service.contracts.codec import open_envelope, open_usage
from service.contracts.error_codes import LLMErrorCode
from service.contracts.published import PUBLISHED, RESULT_EVENT, USAGE_EVENT
from service.contracts.requests import LLMCancelledResponse, LLMComparisonRequest, LLMQueuedResponse
from tests.contracts.golden import FIXTURES, SCHEMAS, describe_all, read_golden, render

REGENERATE = "is not what the code says: run `make schemas`, look at the difference, see docs/adr/0019"

ABSENT = ...
EVENTS = sorted((FIXTURES / "events").glob("*.json"))
USAGE_EVENTS = sorted((FIXTURES / "events" / "usage").glob("*.json"))
REQUESTS = sorted((FIXTURES / "requests").glob("*.json"))


def open_validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(read_golden(name), format_checker=Draft202012Validator.FORMAT_CHECKER)


def name_of(path: Path) -> str:
    return path.stem


def compact(document: str) -> str:
    return json.dumps(json.loads(document), separators=(",", ":"), ensure_ascii=False)


def test_the_schema_files_are_what_the_code_says() -> None:
    wanted = {f"{name}.json": render(document) for name, document in describe_all().items()}
    standing = {path.name: path.read_text(encoding="utf-8") for path in SCHEMAS.iterdir()}
    other = sorted(name for name in {*wanted, *standing} if wanted.get(name) != standing.get(name))
    assert not other, f"fixtures/schemas: {', '.join(other)} {REGENERATE}"


def test_schemas_are_valid_draft_2020_12() -> None:
    for name in (*PUBLISHED, "queued-request"):
        Draft202012Validator.check_schema(read_golden(name))


def test_there_are_examples_of_every_kind() -> None:
    assert {path.stem for path in EVENTS} == {
        "comparison-succeeded", "comparison-succeeded-traced", "comparison-failed", "comparison-expired",
    }  # fmt: skip
    assert {path.stem for path in USAGE_EVENTS} == {"answered"}
    assert {path.stem for path in REQUESTS} == {"comparison-minimal", "comparison-full"}


@pytest.mark.parametrize("path", [*EVENTS, *USAGE_EVENTS], ids=name_of)
def test_an_example_event_fits_the_schema_and_the_model(path: Path) -> None:
    """The model writes the bytes of the example, white space aside; one request has one event id."""
    document = json.loads(path.read_text())
    name, read, kind = (
        (USAGE_EVENT, open_usage, "usage") if path in USAGE_EVENTS
        else (RESULT_EVENT, open_envelope, "comparison_result")
    )  # fmt: skip
    open_validator(name).validate(document)
    assert read(path.read_bytes()).model_dump_json() == compact(path.read_text())
    expected = uuid5(NAMESPACE_URL, f"llm_provider.{kind}:{document['data']['request_id']}")
    assert document["event_id"] == str(expected)
    assert document["correlation_id"] == document["data"]["correlation_id"]


@pytest.mark.parametrize("path", REQUESTS, ids=name_of)
def test_an_example_request_fits_the_schema_and_the_model(path: Path) -> None:
    text = path.read_text()
    open_validator("llm-comparison-request").validate(json.loads(text))
    request = LLMComparisonRequest.model_validate_json(text)
    assert request.model_dump_json(exclude_unset=True) == compact(text)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("user_prompt", ""), ("essay_a", " \t\n"), ("essay_b", None), ("callback_topic", ""),
        ("callback_topic", "_internal"), ("callback_topic", "a b"), ("callback_topic", ".."),
        ("callback_topic", "x" * 250), ("callback_topic", None), ("priority", 10), ("priority", 1.5),
        ("ttl_seconds", 0), ("metadata", []), ("correlation_id", "not-a-uuid"),
        ("llm_config_overrides", {"temperature_override": 2.1}),
        ("llm_config_overrides", {"provider_override": "acme"}),
        ("llm_config_overrides", {"system_prompt_override": " "}), ("unknown", 1), ("user_prompt", ABSENT),
        ("essay_a", ABSENT), ("essay_b", ABSENT), ("callback_topic", ABSENT),
    ],
)  # fmt: skip
def test_the_request_schema_refuses(field: str, value: Any) -> None:
    document = json.loads((FIXTURES / "requests" / "comparison-minimal.json").read_text()) | {field: value}
    document = {name: value for name, value in document.items() if value is not ABSENT}
    assert not open_validator("llm-comparison-request").is_valid(document)


def read_event(name: str) -> Any:
    return json.loads((FIXTURES / "events" / f"{name}.json").read_text())


def change_data(**changes: Any) -> Callable[[Any], None]:
    return lambda event: event["data"].update(changes)


ERROR = read_event("comparison-failed")["data"]["error_detail"]
NOTHING = {"winner": None, "justification": None, "confidence": None}


@pytest.mark.parametrize(
    "break_it",
    [
        change_data(error_detail=ERROR),
        change_data(**NOTHING),
        change_data(confidence=None),
        change_data(justification=None),
        change_data(winner=None),
        change_data(**{**NOTHING, "confidence": 0.5}, error_detail=ERROR),
        change_data(winner="tie"),
        change_data(confidence=1.01),
        change_data(justification="x" * 501),
        change_data(provider="acme"),
        change_data(correlation_id="x"),
        change_data(completed_at="yesterday"),
        change_data(error_detail={**ERROR, "error_code": "LLM_ODD"}),
        lambda event: event["data"].pop("token_usage"),
        lambda event: event.pop("event_id"),
        lambda event: event.update(schema_version=2),
        lambda event: event.update(event_type="llm_provider.other"),
        lambda event: event.update(event_timestamp=1),
    ],
)
def test_the_event_schema_refuses(break_it: Callable[[Any], Any]) -> None:
    event = read_event("comparison-succeeded")
    assert open_validator(RESULT_EVENT).is_valid(event)
    break_it(event)
    assert not open_validator(RESULT_EVENT).is_valid(event)


def test_a_reader_of_the_event_schema_looks_past_what_is_new() -> None:
    event = read_event("comparison-failed")
    event["added_later"] = event["data"]["added_later"] = event["data"]["error_detail"]["added_later"] = 1
    assert open_validator(RESULT_EVENT).is_valid(event)


def test_the_answers_of_the_service_fit_their_schemas() -> None:
    correlation_id = "9a1d6a80-7a3c-4c79-9f5f-6d1f0c7be9a4"
    queued = LLMQueuedResponse.model_validate(
        {
            "queue_id": "q-1",
            "correlation_id": correlation_id,
            "callback_topic": "results",
            "queue_position": 1,
            "message": "Queued.",
        }
    )
    cancelled = LLMCancelledResponse(queue_id="q-1", message="Cancelled.")
    for name, answer in (("llm-queued-response", queued), ("llm-cancelled-response", cancelled)):
        document = answer.model_dump(mode="json")
        open_validator(name).validate(document)
        for field in document:
            assert not open_validator(name).is_valid({**document, field: None})
            assert not open_validator(name).is_valid({k: v for k, v in document.items() if k != field})
    open_validator("error-body").validate({"error": ERROR})
    assert not open_validator("error-body").is_valid(ERROR)
    assert set(read_golden("error-body")["$defs"]["LLMErrorCode"]["enum"]) == set(LLMErrorCode)


@pytest.mark.parametrize("path", EVENTS, ids=name_of)
def test_the_attempts_of_an_example_are_what_its_answer_came_from(path: Path) -> None:
    """Calls are in order, between acceptance and outcome, and the last one decides."""
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
