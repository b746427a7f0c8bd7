"""`llmctl providers` as a process, against the real service."""

import asyncio
import json

import httpx

from tests.flow.conftest import Body, Run, read_snapshot, submit_many, until_snapshot


async def test_held_provider_is_asked_nothing_until_it_is_released(
    llmctl: Run, own_service: httpx.AsyncClient, body: Body
) -> None:
    url = str(own_service.base_url)
    held = await llmctl("--url", url, "providers", "hold", "openai")
    await submit_many(own_service, body, 6)
    listed = await llmctl("--url", url, "providers", "list")
    waiting = await read_snapshot(own_service)
    released = await llmctl("--url", url, "providers", "release", "openai")

    await until_snapshot(own_service, lambda now: now["totals"]["published"] == 6, "six callbacks")

    assert (held.code, json.loads(held.out)["held"]) == (0, True)
    assert json.loads(held.out)["hold_reason"] == "operator"
    (openai,) = [json.loads(line) for line in listed.out.splitlines()]
    assert (listed.code, openai["name"], openai["held"], openai["held_until"]) == (0, "openai", True, None)
    assert (openai["calls"], waiting["queue"]["depth"], waiting["in_flight"]) == (0, 6, 0)
    assert (released.code, json.loads(released.out)["held"]) == (0, False)


async def test_hold_for_a_time_ends_by_itself(
    llmctl: Run, own_service: httpx.AsyncClient, body: Body
) -> None:
    url = str(own_service.base_url)
    held = await llmctl("--url", url, "providers", "hold", "openai", "--for", "100ms")
    await submit_many(own_service, body, 1)
    await until_snapshot(own_service, lambda now: now["totals"]["published"], "the callback")
    assert json.loads(held.out)["held_until"] is not None


BAD_ORDERS = (
    (("hold", "anthropic"), "No provider 'anthropic' is configured here; there are: openai."),
    (("release", "../../drain"), "There is no such route"),
    (("hold", "openai", "--for", "9000h"), "seconds: Input should be less than or equal to 2592000."),
)


async def test_bad_order_is_one_sentence_and_changes_nothing(
    llmctl: Run, own_service: httpx.AsyncClient
) -> None:
    url = str(own_service.base_url)
    ended = await asyncio.gather(*(llmctl("--url", url, "providers", *words) for words, _ in BAD_ORDERS))
    for (words, said), each in zip(BAD_ORDERS, ended, strict=True):
        assert (each.code, each.out) == (1, ""), words
        assert said in each.err
    assert not (await read_snapshot(own_service))["providers"][0]["held"]
