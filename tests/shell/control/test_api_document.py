"""The OpenAPI document: generated, true, and walked by a machine that knows nothing else."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from aiohttp import web
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth

from control.api.openapi import document
from control.api.routes import ROUTES
from control.app import create_app
from tests.core.control.traces import Trace, complete, report
from tests.shell.control import kit

NOWHERE = "http://127.0.0.1:9"
SCOPES = ("sidecar", "sync", "read", "operate")
TOKENS = [{"name": scope, "token": f"tok-{scope}-0123456789", "scopes": [scope]} for scope in SCOPES]
OWN = {"base_url": NOWHERE, "api_key": "tr_own", "workspace_id": 1, "agent_id": "a"}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document(ROUTES)["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def allowed(operation: dict[str, Any]) -> set[str]:
    return {scope for choice in operation["security"] for scope in choice["bearer"]}


def test_the_document_names_every_path_that_is_served_and_no_other(tmp_path: Path) -> None:
    app: web.Application = create_app(kit.settings(tmp_path, NOWHERE))
    served = {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource is not None}
    told = {(method, path) for method, path, _ in operations()}
    told |= {("HEAD", path) for method, path, _ in operations() if method == "GET"}
    told |= {("POST", "//api/v1/public/call"), ("POST", "//api/v1/traces")}  # for an SDK whose base URL ends in a slash
    assert served == told


def test_every_schema_of_the_document_is_one_and_every_reference_leads_somewhere() -> None:
    shown = document(ROUTES)
    assert shown["openapi"] == "3.1.0"
    for schema in shown["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(shown)))
    assert named
    assert named <= set(shown["components"]["schemas"])
    assert len({operation["operationId"] for _, _, operation in operations()}) == len(list(operations()))


async def test_what_is_served_is_the_document(tmp_path: Path) -> None:
    async with kit.control(kit.settings(tmp_path, NOWHERE)) as client:
        assert await client.get("/openapi.json") == document(ROUTES)


async def test_a_token_without_the_scope_gets_403_and_none_401_on_every_route_of_the_document(tmp_path: Path) -> None:
    async with kit.control(kit.settings(tmp_path, NOWHERE, tokens=TOKENS, evaluator=OWN)) as client:
        walked = 0
        for method, path, operation in operations():
            where = path.replace("{id}", "1")
            if not operation["security"]:
                assert await _status(client, method, where, None) == 200, where
                continue
            walked += 1
            assert await _status(client, method, where, None) == 401, where
            for scope in SCOPES:
                status = await _status(client, method, where, f"tok-{scope}-0123456789")
                assert (status == 403) == (scope not in allowed(operation)), (method, where, scope, status)
                assert status not in (401, 500, 503)
        assert walked >= 16


async def _status(client: kit.Client, method: str, path: str, token: str | None) -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with client.http.request(method, client.url + path, headers=headers, data=b"{}" if method == "POST" else None) as response:
        if response.status >= 400:
            assert response.content_type == "application/problem+json"
            problem = await response.json(content_type=None)
            assert problem["status"] == response.status
            assert problem["request_id"] == response.headers["X-Request-Id"]
        return response.status


@pytest.mark.peer
async def test_a_machine_that_reads_the_document_finds_nothing_that_differs_from_it(tmp_path: Path) -> None:
    """schemathesis: generated good and bad requests to each operation of a live control, every answer held to the document."""
    config = tmp_path / "control.yaml"
    values = {"listen": "127.0.0.1:0", "database": f"sqlite+aiosqlite:///{tmp_path}/control.db", "tokens": TOKENS, "evaluator": OWN}
    config.write_text(json.dumps(values))  # JSON is YAML
    async with kit.process(config) as running:
        await _seed(running.client)
        tried = await asyncio.to_thread(_walk, running.client.url)
        assert tried == {f"{method} {path}" for method, path, _ in operations()} - {"GET /v1/events"}
        assert await running.end(signal.SIGTERM) == 0


async def _seed(client: kit.Client) -> None:
    trace = complete("1", "SCL_abc", token=None)
    trace.message(0, "A", "in", "INVITE sip:a@b SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\n")
    facts = [*trace.facts, *Trace("2", "SCL_live", token=None).answered().facts]
    batch = {"version": 1, "sidecar": "edge-1", "facts": facts}
    await client.post("/v1/ingest/facts", batch, headers={"Authorization": "Bearer tok-sidecar-0123456789"})
    await client.report(report("r1", trace), headers={"Authorization": "Bearer tok-sync-0123456789"})


_BOUNDED = settings(
    max_examples=12, deadline=None, database=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)


def _walk(url: str) -> set[str]:
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    tried: set[str] = set()
    for result in schema.get_all_operations():
        operation = result.ok()
        name = f"{operation.method.upper()} {operation.path}"
        if name == "GET /v1/events":  # a stream without an end: see test_api_events
            continue
        scopes = [scope for choice in operation.definition.raw["security"] for scope in choice["bearer"]]
        headers = {"Authorization": f"Bearer tok-{scopes[0]}-0123456789"} if scopes else {}
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            _ask(operation.as_strategy(generation_mode=mode), headers, good=mode is GenerationMode.POSITIVE)
        tried.add(name)
    return tried


def _ask(cases: SearchStrategy[schemathesis.Case], headers: dict[str, str], *, good: bool) -> None:
    @_BOUNDED
    @given(case=cases)
    def ask(case: schemathesis.Case) -> None:
        if good and case.query:
            case.query.pop("cursor", None)  # no schema says what a cursor is: only the answer before gives one
        if good and case.path.endswith("/current-call"):
            case.query = {"to": "sip:agent@edge.example", **(case.query or {})}  # at least one is needed, which a schema cannot say either
        # Guessing tokens here would meet the limit on failed attempts; the walk over all scopes above is about them.
        case.call_and_validate(headers=headers, excluded_checks=[ignored_auth])

    try:
        ask()
    except Unsatisfiable:  # an operation that takes nothing can be asked nothing wrong
        if good:
            raise
