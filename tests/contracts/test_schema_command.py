"""`llmctl schema`: what it hands out is what was validated, the same everywhere, at this version."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from llmctl.__main__ import main
from llmctl.exits import ExitCode
from service.contracts.published import PUBLISHED, RESULT_EVENT
from tests.contracts.golden import FIXTURES, SCHEMAS, read_golden


def run(words: list[str], capsys: pytest.CaptureFixture[str], code: ExitCode = ExitCode.DONE) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["schema", *words])
    printed, said = capsys.readouterr()
    assert (ended.value.code, said if code is ExitCode.DONE else printed) == (code, "")
    return printed or said


@pytest.mark.parametrize("name", ["openapi", "asyncapi"])
def test_a_document_is_the_validated_one_at_this_version(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = run([name], capsys)
    golden = (SCHEMAS / f"{name}.json").read_text(encoding="utf-8")
    assert printed == golden.replace('"version": "0.0.0"', f'"version": "{version("llmctl")}"', 1) != golden
    assert run([name], capsys) == printed


@pytest.mark.parametrize("name", PUBLISHED)
def test_one_contract_is_its_golden_file(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["jsonschema", name], capsys) == (SCHEMAS / f"{name}.json").read_text(encoding="utf-8")


def test_all_contracts_stand_in_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(run(["jsonschema"], capsys))
    Draft202012Validator.check_schema(document)
    assert set(PUBLISHED) <= set(document["$defs"])

    def judge(name: str, instance: Any) -> bool:
        validator = Draft202012Validator({**document, "$ref": f"#/$defs/{name}"})
        return bool(validator.is_valid(instance))

    for folder, name in (("events", RESULT_EVENT), ("requests", "llm-comparison-request")):
        for path in (FIXTURES / folder).glob("*.json"):
            instance = json.loads(path.read_text(encoding="utf-8"))
            assert judge(name, instance)
            assert not judge("error-body", instance)
    # A name that two contracts share means the same in both.
    for name in PUBLISHED:
        for shared, schema in read_golden(name).get("$defs", {}).items():
            assert document["$defs"][shared] == schema


def test_a_file_for_each_contract(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new" / "schemas"
    for _ in range(2):
        printed = run(["jsonschema", "--output-dir", str(folder)], capsys)
        lines = [json.loads(line) for line in printed.splitlines()]
        assert [line["contract"] for line in lines] == list(PUBLISHED)
        for line in lines:
            path = Path(line["file"])
            assert path.parent == folder
            assert path.read_bytes() == (SCHEMAS / path.name).read_bytes()
            path.write_text("cut")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["jsonschema", "nope"], "There is no contract 'nope'; there are: llm-comparison-request"),
        (["jsonschema", "error-body", "--output-dir", "x"], "--output-dir writes every contract"),
        (["wsdl"], "There is no command 'wsdl'"),
    ],
)
def test_wrong_usage_is_code_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in run(words, capsys, ExitCode.USAGE)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    said = run(["jsonschema", "--output-dir", str(tmp_path / "file")], capsys, ExitCode.FAILED)
    assert said == f"{tmp_path / 'file'} cannot be written: File exists.\n"
