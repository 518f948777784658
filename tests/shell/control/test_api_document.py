"""The OpenAPI document: generated from the table of routes, true, and obeyed by every route."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
from aiohttp import web

from control.api.openapi import document
from control.api.routes import ROUTES
from control.app import create_app
from control.web.pages import read
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
    page = {"/" if name == "index.html" else f"/web/{name}" for name in read()}  # what a browser runs is no part of the API
    assert {(method, path) for method, path in served if path not in page} == told


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
        assert walked >= 22


async def _status(client: kit.Client, method: str, path: str, token: str | None) -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with client.http.request(
        method, client.url + path, headers=headers, data=b"{}" if method in ("POST", "PUT") else None
    ) as response:
        if response.status >= 400:
            assert response.content_type == "application/problem+json"
            problem = await response.json(content_type=None)
            assert problem["status"] == response.status
            assert problem["request_id"] == response.headers["X-Request-Id"]
        return response.status
