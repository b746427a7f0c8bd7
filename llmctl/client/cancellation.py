"""The callers' route that cancels a request."""

from __future__ import annotations

from urllib.parse import quote

import httpx

from llmctl.client.http import Refused, read_refusal, refuse_service, refuse_silence, refuse_stranger

CANCEL_PATH = "/api/v1/comparison"


async def cancel(client: httpx.AsyncClient, url: str, queue_id: str) -> Refused | None:
    """Asks the service at `url` to cancel a request; returns its refusal, None where it is cancelled.

    A 404 says that nothing is queued or under way by this id: it has its callback, or was never accepted.
    Raises Unreachable where nobody answers, Failed where what answers is no such service. Asking again is
    harmless.
    """
    try:
        answer = await client.delete(f"{CANCEL_PATH}/{quote(queue_id, safe='')}")
    except httpx.TimeoutException as problem:
        raise refuse_silence(url) from problem
    except httpx.TransportError as problem:
        raise refuse_service(url) from problem
    if answer.status_code != httpx.codes.ACCEPTED:
        return read_refusal(answer, url)
    try:
        confirmed = answer.json()["queue_id"] == queue_id
    except (ValueError, KeyError, TypeError):
        confirmed = False
    if not confirmed:
        raise refuse_stranger(url, answer.status_code)
    return None
