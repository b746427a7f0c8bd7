"""`llmctl log-level`: a running service logs more, and less again, without a restart."""

import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.flow.cli.conftest import RunHere
from tests.waiting import open_client, until

Run = Callable[..., Coroutine[Any, Any, Any]]
PUBLISHED = "callback published"


@pytest.fixture
def talkative(launcher: Any, bootstrap_servers: str, tmp_path: Path) -> Any:
    """A service of this test's own that logs warnings."""
    return launcher.start(
        "service",
        env={
            "LLM_PROVIDER_SERVICE_PORT": "0",
            "LLM_PROVIDER_SERVICE_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
            "LLM_PROVIDER_SERVICE_QUEUE_PATH": str(tmp_path / "queue.db"),
            "LLM_PROVIDER_SERVICE_ALLOW_MOCK_PROVIDER": "true",
            "LLM_PROVIDER_SERVICE_DEFAULT_LLM_PROVIDER": "mock",
            "LLM_PROVIDER_SERVICE_LOG_LEVEL": "warning",
        },
    )


async def test_level_changes_while_the_service_runs(llmctl: Run, talkative: Any, create_topic: Any) -> None:
    """What is below the level is left out, by loggers that were used before, too; then it returns."""
    url = talkative.ready["url"]
    topic = f"results.{uuid4().hex}"
    await create_topic(topic, 1)
    body = {"user_prompt": "Which?", "essay_a": "One.", "essay_b": "Two.", "callback_topic": topic}

    async def count(word: str) -> int:
        """How often the log has a word once one more request is called back."""
        async with open_client(url) as client:
            before = (await client.get("/admin/v1/snapshot")).json()["totals"]["published"]
            await client.post("/api/v1/comparison", json=body)

            async def is_called_back() -> bool:
                snapshot = (await client.get("/admin/v1/snapshot")).json()
                return bool(snapshot["totals"]["published"] > before and not snapshot["outbox"]["depth"])

            await until(is_called_back, what="the callback")
        return int(talkative.log.read_text().count(word))

    quiet = [await count(PUBLISHED), await count("request answered")]
    changed = await llmctl("log-level", "debug", "--for", "1h", "--url", url)
    loud = await count(PUBLISHED)
    shown = await llmctl("log-level", "--url", url)
    back = await llmctl("log-level", "warning", "--url", url, "--output", "table")
    quiet_again = await count(PUBLISHED)
    brief = await llmctl("log-level", "debug", "--for", "200ms", "--url", url)

    async def has_returned() -> bool:
        return json.loads((await llmctl("log-level", "--url", url)).out)["level"] == "warning"

    await until(has_returned, what="the usual level")
    assert [ended.code for ended in (changed, shown, back, brief)] == [0, 0, 0, 0]
    assert quiet == [0, 0]
    assert (loud, quiet_again) == (1, 1)
    told = json.loads(shown.out)
    assert told["level"] == "debug"
    assert 0 < told["seconds_left"] <= 3600
    assert "logs from warning on" in back.out


@pytest.mark.parametrize(("words", "said"), [(("loud",), "loud"), (("--for", "1m"), "--for needs a level")])
def test_wrong_usage_says_what_is_wrong(llmctl_here: RunHere, words: tuple[str, ...], said: str) -> None:
    """Exit code 2, before anybody is asked."""
    ended = llmctl_here("log-level", *words)

    assert ended.code == 2
    assert said in ended.err
