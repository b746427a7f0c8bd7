"""The examples for programs, run as they stand in the documents."""

import ast
import inspect
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from simulator.broker.control import TopicSpec
from tests.flow.client.conftest import Up

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "python-client.md"
README = ROOT / "README.md"
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def read_blocks(page: Path) -> list[Any]:
    text = page.read_text()
    return [
        compile(
            "\n" * text.count("\n", 0, found.start(1)) + found[1],
            str(page),
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        )
        for found in _BLOCK.finditer(text)
    ]


async def run(blocks: list[Any], names: dict[str, Any]) -> None:
    for block in blocks:
        result = eval(block, names)
        if inspect.isawaitable(result):
            await result


@pytest.fixture
async def shell(up: Up, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMCTL_URL", up.url)
    monkeypatch.setenv("LLMCTL_BOOTSTRAP_SERVERS", up.bootstrap_servers)
    monkeypatch.chdir(tmp_path)
    if "results" not in {topic.name for topic in await up.control.topics()}:
        await up.control.create_topics([TopicSpec("results", 3)])


@pytest.mark.usefixtures("shell")
async def test_the_page_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    blocks = read_blocks(PAGE)
    names: dict[str, Any] = {}
    await run(blocks, names)
    said = capsys.readouterr().out
    assert len(blocks) >= 8
    assert re.match(r"essay_[ab] \d", said)
    assert "USD for 50" in said
    assert len(re.findall(r"^[0-9a-f-]{36} [0-9a-f-]{36} (?:essay_[ab]|None)$", said, re.MULTILINE)) >= 1
    assert (tmp_path / "results.position").is_file()

    app = names["app"]
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
            answer = await http.get("/winner", params={"first": uuid4().hex, "second": "b"})
    assert answer.json() in {"essay_a", "essay_b"}


@pytest.mark.usefixtures("shell")
async def test_the_three_lines_of_the_readme_run(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = read_blocks(README)
    await run([block], {"essay_a": "The first essay.", "essay_b": "The second essay."})
    assert capsys.readouterr().out.startswith("essay_")


async def test_an_example_that_is_wrong_fails(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Text\n\n```python\nx = 1\n```\n\n```python\nimport asyncio\nawait asyncio.sleep(0)\nx / 0\n```\n"
    )
    with pytest.raises(ZeroDivisionError) as failed:
        await run(read_blocks(page), {})
    assert failed.traceback[-1].lineno == 9
