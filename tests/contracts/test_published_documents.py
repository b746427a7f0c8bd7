"""The OpenAPI and the AsyncAPI document: valid, complete, and true to the contracts that they describe."""

import json
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator, ValidationError
from openapi_spec_validator import OpenAPIV31SpecValidator

from service.contracts.codec import open_envelope, seal
from service.web.answers import ANSWERS
from service.web.openapi import list_operations
from tests.contracts.golden import FIXTURES, read_golden

OPENAPI = read_golden("openapi")
ASYNCAPI = read_golden("asyncapi")
OPERATIONS = dict(list_operations(OPENAPI))
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
EVENTS = sorted((FIXTURES / "events").glob("*.json"))


def judge(schema: Any, document: Any, whole: Any) -> None:
    Draft202012Validator(
        {**schema, "components": whole["components"]}, format_checker=Draft202012Validator.FORMAT_CHECKER
    ).validate(document)


def test_openapi_is_valid() -> None:
    """By the validator of the OpenAPI specification for Python; other tools judge in tests/process."""
    assert list(OpenAPIV31SpecValidator(OPENAPI).iter_errors()) == []
    broken = json.loads(json.dumps(OPENAPI))
    broken["paths"]["/healthz"]["get"]["responses"] = {"fine": {}}
    assert list(OpenAPIV31SpecValidator(broken).iter_errors()) != []


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_says_what_it_answers_and_how_it_refuses(name: str) -> None:
    operation = OPERATIONS[name]
    assert name in ANSWERS, f"say in service/web/answers.py what {name} answers, then run `make schemas`"
    assert operation["operationId"] == ANSWERS[name].operation_id
    assert operation["tags"] == [{"/api": "callers", "/adm": "operators"}.get(name.split()[1][:4], "health")]
    token = {"callers": "caller", "operators": "operator"}.get(operation["tags"][0])
    assert operation["security"] == ([{token: []}, {}] if token else [])
    done = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
    assert [bool(content["schema"]) for answer in done for content in answer["content"].values()] == [True]
    refusals = set(operation["responses"]) - {"200", "202"}
    assert {"503", "default"} <= refusals
    assert ({"401", "403"} <= refusals) == (token is not None)
    assert ("404" in refusals) == ("{" in name)
    assert {"413", "422"} <= refusals or "requestBody" not in operation


def test_every_answer_is_of_a_route_and_every_name_is_one_operation_s() -> None:
    assert set(ANSWERS) == set(OPERATIONS)
    names = [answer.operation_id for answer in ANSWERS.values()]
    assert len(set(names)) == len(names)


def test_every_refusal_is_the_error_body() -> None:
    body = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}
    for operation in OPERATIONS.values():
        for status, answer in operation["responses"].items():
            assert (answer["content"] == body) == (not status.startswith("2"))
            assert ("Retry-After" in answer.get("headers", {})) == (status == "503")


def test_the_examples_of_a_submission_are_what_the_service_takes() -> None:
    content = OPERATIONS["POST /api/v1/comparison"]["requestBody"]["content"]["application/json"]
    assert len(content["examples"]) == 2
    for example in content["examples"].values():
        judge(content["schema"], example["value"], OPENAPI)
    names = {parameter["name"] for parameter in OPERATIONS["POST /api/v1/comparison"]["parameters"]}
    assert names == {"Idempotency-Key", "X-Correlation-ID", "X-Run-ID", "traceparent"}


@pytest.mark.parametrize("path", EVENTS, ids=lambda path: path.stem)
def test_an_event_is_what_the_asyncapi_document_says(path: Any) -> None:
    message = ASYNCAPI["components"]["messages"]["comparison_result"]
    envelope = open_envelope(path.read_bytes())
    judge(message["payload"], json.loads(path.read_bytes()), ASYNCAPI)
    judge(message["bindings"]["kafka"]["key"], str(envelope.correlation_id), ASYNCAPI)
    plain = seal(envelope)
    marked = seal(envelope, run_id="run-7", traceparent=TRACEPARENT)
    for sealed in (plain, marked):
        judge(message["headers"], {name: value.decode() for name, value in sealed.headers}, ASYNCAPI)
    assert set(message["headers"]["properties"]) == {name for name, _ in marked.headers}
    assert set(message["headers"]["required"]) == {name for name, _ in plain.headers}


def test_the_examples_in_the_asyncapi_document_are_events() -> None:
    messages = ASYNCAPI["components"]["messages"]
    for message in messages.values():
        assert message["examples"]
        for example in message["examples"]:
            judge(message["payload"], example["payload"], ASYNCAPI)
            judge(message["headers"], example["headers"], ASYNCAPI)
    message, usage = messages["comparison_result"], messages["usage"]
    with pytest.raises(ValidationError):
        judge(usage["headers"], message["examples"][0]["headers"], ASYNCAPI)
    failed = [example["payload"]["data"]["error_detail"] is not None for example in message["examples"]]
    assert failed == [False, True]


def test_the_asyncapi_schemas_keep_to_what_its_dialect_knows() -> None:
    """AsyncAPI's own dialect is that of draft 7: later keywords would be ignored."""
    components = ASYNCAPI["components"]
    payload = {**components["schemas"]["ComparisonResultEvent"], "components": components}
    Draft7Validator.check_schema(payload)
    event = json.loads(EVENTS[0].read_bytes())
    assert Draft7Validator(payload).is_valid(event)
    event["data"].update(winner="essay_a")  # and an error beside it
    assert not Draft7Validator(payload).is_valid(event)
    assert "$defs" not in json.dumps(ASYNCAPI)


def test_the_callback_topic_is_the_callers_and_no_other_topic_is_told() -> None:
    addresses = [channel["address"] for channel in ASYNCAPI["channels"].values()]
    assert addresses == ["{callback_topic}", "{usage_topic}"]
    assert [operation["action"] for operation in ASYNCAPI["operations"].values()] == ["send"] * 2
