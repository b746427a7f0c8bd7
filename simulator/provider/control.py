"""`/_sim/…`: look at a running fake provider and change how it behaves.

| route | does |
|---|---|
| `GET /_sim` | scenario, its time, totals |
| `GET /_sim/scenario` | the scenario as it stands |
| `PUT /_sim/scenario` | another one, from its beginning: TOML, the same as JSON, or `{"preset": "outage"}` |
| `PATCH /_sim/scenario` | some of its values by JSON merge patch (RFC 7396); its time goes on |
| `GET /_sim/journal?after=N` | the calls, one JSON document a line |
| `DELETE /_sim/journal` | forgets the calls and the callers' disobedience |
| `GET /_sim/obedience` | what callers did that they should not have done |

A change holds for every call that comes after it, all at once; one that is wrong (422) changes nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from simulator.provider.scenario import (
    MAX_FILE_BYTES,
    Scenario,
    ScenarioError,
    find_scenario,
    is_file_name,
    parse_scenario,
    read_scenario,
)
from simulator.provider.simulation import Simulation

SENT = "sent"
"""The name of a scenario that came over HTTP without one."""
_SOURCE = "The scenario that was sent"
Handler = Callable[[Request], Awaitable[Response]]


def control_routes(simulation: Simulation) -> list[Route]:
    """The routes, for this machine alone."""

    async def tell_status(_: Request) -> Response:
        scenario = simulation.scenario
        return _json(
            200,
            {
                "scenario": scenario.name,
                "description": scenario.description,
                "seed": scenario.seed,
                "time_scale": scenario.time_scale,
                "seconds_passed": round(simulation.seconds_passed(), 3),
                "outage": (outage := simulation.behaviour().outage) and outage.name,
                "in_flight": simulation.pauses.under_way,
                **simulation.journal.totals(),
            },
        )

    async def tell_scenario(_: Request) -> Response:
        return _json(200, _describe(simulation.scenario))

    async def put_scenario(request: Request) -> Response:
        scenario = _read_whole(await _read_body(request), request.headers.get("content-type", ""))
        if "seed" not in scenario.document:
            scenario = scenario.with_seed(simulation.scenario.seed)
        simulation.start(scenario)
        return _json(200, _describe(scenario))

    async def patch_scenario(request: Request) -> Response:
        changes = _read_json(await _read_body(request))
        if not isinstance(changes, dict):
            raise ScenarioError("A change of the scenario is a JSON object.")
        document = _merge(simulation.scenario.document, changes)
        scenario = parse_scenario(document, simulation.scenario.name, "The changed scenario")
        if "seed" not in document:
            scenario = scenario.with_seed(simulation.scenario.seed)
        if "latency" not in changes:  # one that was set on the command line stands
            latency = simulation.scenario.behaviour.latency
            scenario = replace(scenario, behaviour=replace(scenario.behaviour, latency=latency))
        simulation.change(scenario)
        return _json(200, _describe(scenario))

    async def tell_journal(request: Request) -> Response:
        after = request.query_params.get("after", "0")
        if not (after.isascii() and after.isdigit() and len(after) < 16):
            raise ScenarioError(f"after={after!r} is no number of a call.")
        return Response(b"".join(simulation.journal.export(int(after))), media_type="application/x-ndjson")

    async def clear_journal(_: Request) -> Response:
        simulation.clear()
        return Response(status_code=204)

    async def tell_obedience(_: Request) -> Response:
        return _json(200, simulation.obedience.report())

    table: list[tuple[str, str, Handler]] = [
        ("GET", "/_sim", tell_status),
        ("GET", "/_sim/scenario", tell_scenario),
        ("PUT", "/_sim/scenario", put_scenario),
        ("PATCH", "/_sim/scenario", patch_scenario),
        ("GET", "/_sim/journal", tell_journal),
        ("DELETE", "/_sim/journal", clear_journal),
        ("GET", "/_sim/obedience", tell_obedience),
    ]
    return [Route(path, _guard(handler), methods=[method]) for method, path, handler in table]


def _guard(handler: Handler) -> Handler:
    """Refuses other machines, and says in one sentence what is wrong with a change."""

    async def handle(request: Request) -> Response:
        if request.client is not None and not _is_loopback(request.client.host):
            return _json(
                403, {"error": {"message": "The simulator is controlled from its own machine only."}}
            )
        try:
            return await handler(request)
        except ScenarioError as error:
            return _json(422, {"error": {"message": str(error)}})

    return handle


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FILE_BYTES:
            raise ScenarioError(f"{_SOURCE} is larger than 1 MiB.")
    return bytes(body)


def _read_whole(body: bytes, content_type: str) -> Scenario:
    if "json" not in content_type:
        try:
            return read_scenario(body.decode(), SENT, _SOURCE)
        except UnicodeDecodeError as error:
            raise ScenarioError(f"{_SOURCE} is no text in UTF-8.") from error
    document = _read_json(body)
    preset = document.get("preset") if isinstance(document, dict) else None
    if preset is None:
        return parse_scenario(document, SENT, _SOURCE)
    if not isinstance(preset, str) or is_file_name(preset) or set(document) != {"preset"}:
        raise ScenarioError('A preset is asked for by its name and nothing else; send {"preset": "calm"}.')
    return find_scenario(preset)


def _read_json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ScenarioError(f"{_SOURCE} is no JSON: {error}.") from error


def _merge(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(document)
    for name, value in changes.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            inner = merged.get(name)
            merged[name] = _merge(inner if isinstance(inner, Mapping) else {}, value)
        else:
            merged[name] = value
    return merged


def _describe(scenario: Scenario) -> dict[str, Any]:
    return {"name": scenario.name, "seed": scenario.seed, "document": scenario.document}


def _json(status: int, body: Any) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
