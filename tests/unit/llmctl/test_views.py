"""A record is shown as JSON and as a row, and cannot harm the terminal in either."""

import base64
import json
from typing import Any
from uuid import UUID

import pytest

from llmctl.jobs.views import describe_record, lay_out, read_e2e_seconds, render_row, view_record
from tests.unit.llmctl.conftest import make_record

CORRELATION = UUID(int=7)


def test_json_is_the_record_as_it_stands() -> None:
    record = make_record()
    document = describe_record(record)
    assert list(document) == ["topic", "partition", "offset", "key", "timestamp", "headers", "envelope"]
    assert document["timestamp"] == "2026-01-02T03:04:06.500Z"
    assert document["key"] == str(CORRELATION)
    assert document["headers"]["run_id"] == "r-1"
    assert document["envelope"] == json.loads(record.value or b"")


def test_what_is_no_envelope_is_kept_raw() -> None:
    document = describe_record(make_record(raw=b"\x00\xff"))
    assert "envelope" not in document
    assert document["error"] == "no envelope"
    assert base64.b64decode(document["raw"]) == b"\x00\xff"


def test_e2e_counts_from_acceptance_to_the_topic() -> None:
    assert read_e2e_seconds(make_record()) == pytest.approx(1.5)
    assert read_e2e_seconds(make_record(raw=b"x")) is None


def test_a_filter_sees_every_field() -> None:
    good, bad, ugly = (
        view_record(make_record()),
        view_record(make_record(fails=True)),
        view_record(make_record(raw=b"caf\xc3\xa9")),
    )
    assert (good.texts["status"], good.texts["winner"], good.texts["error"]) == ("success", "essay_a", None)
    assert (bad.texts["status"], bad.texts["error"]) == ("error", "LLM_PROVIDER_TIMEOUT")
    assert good.numbers["e2e"] == pytest.approx(1.5)
    assert good.metadata == {"pair_id": "p-1"}
    assert ugly.texts["status"] == "invalid"
    assert "café" in ugly.read_text()


@pytest.mark.parametrize("width", [80, 100, 120, 200])
@pytest.mark.parametrize("kind", [{}, {"fails": True}, {"raw": b"x"}])
def test_a_row_fits_the_terminal(kind: dict[str, Any], width: int) -> None:
    assert len(render_row(make_record(**kind), lay_out(width)).plain) < width


def test_a_wide_row_says_more() -> None:
    assert "openai/gpt-4o-mini" in render_row(make_record(), lay_out(140)).plain
    assert "PROVIDER_TIMEOUT" in render_row(make_record(fails=True), lay_out(140)).plain


def test_hostile_fields_stay_in_their_row() -> None:
    row = render_row(make_record(model="\x1b[2Jgpt\n\n[bold]x"), lay_out(160)).plain
    assert "␛[2Jgpt [bold]x" in row
    assert row.isprintable()
