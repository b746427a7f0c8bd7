"""Whatever is sent: no answer of 500, no hang, and a callback for everything that is accepted."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from service.contracts.codec import open_envelope
from tests.waiting import HANG_SECONDS

PATH = "/api/v1/comparison"
FIELDS = ["user_prompt", "essay_a", "essay_b", "callback_topic", "llm_config_overrides", "metadata"]
FIELDS += ["correlation_id", "priority", "ttl_seconds", "unknown"]
NASTY_TEXTS = (
    *("", " ", "\x00", "\ud800", "\U0010ffff"),
    *("\u202e\u2066", "\x1b]0;title\x07", "[/nope]", "%s%n", "../../etc/passwd", "__consumer_offsets"),
    *("a" * 300, "é" * 5000, "<script>", "'; DROP TABLE request; --", "null", "NaN"),
)
NASTY_BODIES = (
    *(b"", b"null", b"[]", b"{", b"\xff\xfe{}", b"\xef\xbb\xbf{}", b"{}" * 1000, b"[" * 100_000),
    b'{"a":' * 5000 + b"1" + b"}" * 5000,
    b'{"metadata": {"x": 1e999}}',
    b'{"metadata": {"x": NaN}}',
    b'{"metadata": {"x": ' + b"9" * 6000 + b"}}",
    b'{"user_prompt": "\\ud800"}',
    b'{"user_prompt": "a", "user_prompt": "b"}',
    b'{"\\u0000": 1}',
    b'{"priority": -0.0}',
    json.dumps({str(n): n for n in range(50_000)}).encode(),
)

texts = st.one_of(st.sampled_from(NASTY_TEXTS), st.text(max_size=40))
scalars = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), texts)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=8,
)


def compose(topic: str) -> st.SearchStrategy[bytes]:
    good: dict[str, Any] = {
        "user_prompt": "Which is better?",
        "essay_a": "A first essay.",
        "essay_b": "A second essay.",
        "callback_topic": topic,
    }
    changes = st.dictionaries(st.sampled_from(FIELDS), values, max_size=3)
    nearly = st.tuples(changes, st.sets(st.sampled_from(FIELDS[:4]), max_size=1)).map(
        lambda made: {key: value for key, value in {**good, **made[0]}.items() if key not in made[1]}
    )
    odd = st.fixed_dictionaries(
        {"user_prompt": texts, "essay_a": texts, "metadata": st.dictionaries(texts, values, max_size=3)},
        optional={"priority": st.integers(0, 9), "ttl_seconds": st.floats(0.001, 1e6)},
    ).map(lambda made: {**good, **made})
    documents = st.one_of(nearly, odd, odd, values)
    return st.one_of(
        documents.map(lambda document: json.dumps(document).encode("utf-8", "surrogatepass")),
        st.sampled_from(NASTY_BODIES),
        st.binary(max_size=60),
    )


def draw(strategy: st.SearchStrategy[bytes], count: int) -> list[bytes]:
    drawn: list[bytes] = []

    @settings(
        max_examples=count,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(body: bytes) -> None:
        drawn.append(body)

    collect()
    return drawn


@pytest.mark.parametrize("count", [200, pytest.param(20_000, marks=pytest.mark.long)])
async def test_no_input_breaks_the_service(
    client: httpx.AsyncClient, topic: str, read_topic: Any, count: int, record_figures: Callable[[str], None]
) -> None:
    bodies = draw(compose(topic), count)
    statuses: dict[int, int] = {}
    accepted: list[str] = []
    room = asyncio.Semaphore(20)

    async def send(body: bytes) -> None:
        async with room, asyncio.timeout(HANG_SECONDS):
            answer = await client.post(PATH, content=body, headers={"content-type": "application/json"})
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        assert answer.status_code in {202, 413, 415, 422, 503}, (answer.status_code, body[:200])
        document = answer.json()
        if answer.status_code == 202:
            accepted.append(document["queue_id"])
        else:
            assert document["error"]["error_code"].startswith("LLM_"), document

    await asyncio.gather(*map(send, bodies))
    record_figures(f"{len(bodies)} inputs: {dict(sorted(statuses.items()))}")

    assert (await client.get("/healthz")).status_code == 200
    assert accepted
    records = read_topic(topic, len(accepted))
    assert {open_envelope(record.value()).data.request_id for record in records} == set(accepted)
