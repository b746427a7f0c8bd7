"""The documents for other languages, before the validators that those languages' tools are built on.

AsyncAPI's own parser, which checks against the specification's schema and its further rules, and Spectral
with all of its rules for OpenAPI, examples included. In Python, tests/contracts has openapi-spec-validator
and holds the examples of the AsyncAPI document against its schemas.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.golden import read_golden
from tests.waiting import HANG_SECONDS

Document = dict[str, Any]
Said = dict[str, list[dict[str, str]]]


def break_documents() -> dict[str, Document]:
    """Documents that are wrong in one place each."""
    event, operation, request, answer = (
        read_golden(name) for name in ("asyncapi", "asyncapi", "openapi", "openapi")
    )
    event["components"]["messages"]["comparison_result"]["correlationId"]["location"] = "nowhere"
    operation["operations"]["send_comparison_result"]["channel"] = {"$ref": "#/channels/gone"}
    submission = request["paths"]["/api/v1/comparison"]["post"]
    del submission["requestBody"]["content"]["application/json"]["examples"]["least"]["value"]["essay_a"]
    answer["components"]["schemas"]["ErrorBody"]["properties"]["error"] = {
        "$ref": "#/components/schemas/gone"
    }
    return {"event": event, "operation": operation, "request": request, "answer": answer}


@pytest.fixture(scope="module")
def said(node_tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Said:
    """What the validators say of the golden documents and of the broken ones: Node.js is slow to start."""
    folder = tmp_path_factory.mktemp("documents")
    golden = {name: read_golden(name) for name in ("asyncapi", "openapi")}
    for name, document in {**golden, **break_documents()}.items():
        (folder / name).write_text(json.dumps(document))
    done = subprocess.run(
        ["node", "validate.mjs", *map(str, folder.iterdir())],
        cwd=node_tools,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {Path(file).name: found for file, found in json.loads(done.stdout).items()}


@pytest.mark.parametrize("name", ["asyncapi", "openapi"])
def test_the_validator_has_nothing_to_say(name: str, said: Said) -> None:
    assert said[name] == []


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("event", "location"), ("operation", "gone"), ("request", "essay_a"), ("answer", "gone")],
)
def test_a_wrong_document_is_found(name: str, complaint: str, said: Said) -> None:
    assert any(complaint in each["message"] for each in said[name]), said[name]
