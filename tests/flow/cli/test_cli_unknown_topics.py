"""A topic that does not exist is answered with the one that was meant, whoever asks for it."""

import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from tests.flow.cli.conftest import Run


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("tail-callbacks", "TOPIC"), 2),
        (("rank", "TOPIC"), 2),
        (("usage", "TOPIC"), 2),
        (("topics", "describe", "TOPIC"), 1),
        (("audit", "--receipts", "RECEIPTS", "--wait", "0s"), 5),
    ],
    ids=lambda words: words[0] if isinstance(words, tuple) else "",
)
async def test_names_the_topic_that_was_meant(
    llmctl: Run, topic: str, bootstrap_servers: str, tmp_path: Path, words: tuple[str, ...], code: int
) -> None:
    receipt = {
        "line": 1,
        "queue_id": str(uuid4()),
        "correlation_id": str(uuid4()),
        "callback_topic": topic[:-1],
        "accepted_at": datetime.now(UTC).isoformat(),
    }
    receipts = tmp_path / "receipts.jsonl"
    receipts.write_text(json.dumps(receipt))
    values = {"TOPIC": topic[:-1], "RECEIPTS": str(receipts)}
    asked = [values.get(word, word) for word in words]
    ended = await llmctl(*asked, "--bootstrap-servers", bootstrap_servers, "--output", "table")
    assert ended.code == code
    said = f"There is no topic '{topic[:-1]}' at {bootstrap_servers}; did you mean {topic}"
    assert said in " ".join(ended.err.split())
