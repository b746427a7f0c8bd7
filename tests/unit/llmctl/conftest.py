"""Records as read from a topic, and llmctl run in this process."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from llmctl.__main__ import main
from llmctl.client.callbacks import CallbackRecord
from service.contracts.codec import open_envelope, seal
from service.contracts.enums import EssayComparisonWinner, LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.contracts.errors import ErrorDetail
from service.contracts.events import EventEnvelope, LLMComparisonResultV1
from service.contracts.topics import derive_event_id

ACCEPTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CORRELATION = UUID(int=7)


def make_record(
    *, fails: bool = False, model: str = "gpt-4o-mini", raw: bytes | None = None
) -> CallbackRecord:
    """A record of request q-1 as read from a topic, written 1.5 s after acceptance."""
    error = ErrorDetail(
        error_code=LLMErrorCode.PROVIDER_TIMEOUT,
        message="too slow",
        correlation_id=CORRELATION,
        timestamp=ACCEPTED,
        service="s",
        operation="o",
    )
    data = LLMComparisonResultV1(
        request_id="q-1",
        correlation_id=CORRELATION,
        winner=None if fails else EssayComparisonWinner.ESSAY_A,
        justification=None if fails else "better",
        confidence=None if fails else 0.875,
        error_detail=error if fails else None,
        provider=LLMProviderType.OPENAI,
        model=model,
        response_time_ms=40,
        cost_estimate=0.00012,
        requested_at=ACCEPTED,
        completed_at=ACCEPTED,
        request_metadata={"pair_id": "p-1"},
    )
    envelope = EventEnvelope[LLMComparisonResultV1](
        event_id=derive_event_id("q-1"),
        event_type="llm_provider.comparison_result",
        source_service="llm_provider_service",
        correlation_id=CORRELATION,
        data=data,
    )
    sealed = seal(envelope, run_id="r-1")
    value = raw if raw is not None else sealed.value
    sent = ACCEPTED + timedelta(seconds=1.5)
    return CallbackRecord(
        topic="t",
        partition=2,
        offset=9,
        timestamp_milliseconds=int(sent.timestamp() * 1000),
        key=str(CORRELATION).encode(),
        headers=sealed.headers,
        value=value,
        envelope=open_envelope(value) if raw is None else None,
        problem=None if raw is None else "no envelope",
    )


@pytest.fixture
def callback() -> CallbackRecord:
    return make_record()


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run_llmctl(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs llmctl in this process."""

    def run(*words: str) -> Ended:
        with pytest.raises(SystemExit) as ended:
            main(words)
        out, err = capsys.readouterr()
        return Ended(int(ended.value.code or 0), out, err)

    return run


@pytest.fixture(autouse=True)
def config_file(clean_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty file of contexts instead of the developer's own."""
    path = tmp_path / "llmctl.toml"
    path.touch(mode=0o600)
    monkeypatch.setenv("LLMCTL_CONFIG", str(path))
    return path
