"""`llmctl log-level`: a running service logs more, and less again, without a restart."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.flow.cli.conftest import Run
from tests.flow.conftest import MOCK, Body, make_env, read_snapshot, until_snapshot
from tests.waiting import open_client, until

PUBLISHED = "callback published"


@pytest.fixture
def talkative(launcher: Any, bootstrap_servers: str, tmp_path: Path) -> Any:
    env = make_env(bootstrap_servers, tmp_path, **MOCK, LOG_LEVEL="warning")
    return launcher.start("service", env=env)


async def test_level_changes_while_the_service_runs(llmctl: Run, talkative: Any, body: Body) -> None:
    url = talkative.ready["url"]

    async def count(word: str) -> int:
        async with open_client(url) as client:
            before = (await read_snapshot(client))["totals"]["published"]
            await client.post("/api/v1/comparison", json=body)
            await until_snapshot(
                client,
                lambda now: now["totals"]["published"] > before and not now["outbox"]["depth"],
                "the callback",
            )
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
